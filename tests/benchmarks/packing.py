"""Packed prompts, as the student reads them, against padded ones by transformers' own forward pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel

from model.settings import BackboneSettings, ModelSettings, PromptSettings, TinyBackboneSettings, tiny_settings
from model.student.backbone import Student
from pipeline.format.schema import Observation
from tests.benchmarks.report import Target, interleaved, print_table, seconds_of

MID = TinyBackboneSettings(layers=8, width=512, heads=8, vision_layers=4, vision_width=256, vision_heads=4)
FULL = ModelSettings(backbone=BackboneSettings(kind="random"))
"""The reference's model with random weights."""

MIXES = {"labels of 4 to 20 tokens": (4, 20), "texts of 4 to 200 tokens": (4, 200)}
"""The byte tokenizer's tokens; SSv2 and LIBERO label lengths in Qwen's tokens lie in the first range."""


def small_settings(views: int = 2) -> ModelSettings:
    """The tiny model for latents of any width, of as few layers as there can be: counting FLOPs takes long."""
    tiny = tiny_settings(views=views)
    return replace(
        tiny,
        backbone=replace(tiny.backbone, tiny=TinyBackboneSettings(vision_layers=1)),
        predictor=replace(tiny.predictor, depth=1, init="reference"),
        action_head=replace(tiny.action_head, layers=1),
    )


@dataclass(frozen=True)
class Scale:
    """The backbone and the samples of a batch."""

    backbone: TinyBackboneSettings = MID
    batch: int = 16


TINY = Scale(TinyBackboneSettings(), batch=2)


def run(_: Path, repeats: int, scale: Scale) -> None:
    """Time both layouts on each mix, and print the tables."""
    m = scale.backbone
    student = _student(scale.backbone)
    for name, (shortest, longest) in MIXES.items():
        observation = _observation(shortest, longest, scale.batch)
        lengths = student.prepare(observation).prompts.packed.starts.diff()
        padding = 1 - lengths.sum().item() / (len(lengths) * lengths.max().item())
        for what, step in (("forward", _forward), ("forward and backward", _forward_backward)):
            runs: dict[str, Callable[[], float]] = {
                name: lambda step=step, read=read, batch=observation: step(student, read, batch)
                for name, read in (("padded", _padded), ("packed", _packed))
            }
            for warm_up in runs.values():
                warm_up()
            series = interleaved(runs, repeats)
            print_table(
                f"Backbone, {what}: {name}, {padding:.0%} of the padded batch is padding",
                "ms",
                list(series.values()),
                [Target(series["padded"].over(series["packed"], "padded / packed"), 1.0)],
                [f"text {m.layers} x {m.width}, vision {m.vision_layers} x {m.vision_width}, batch {scale.batch}"],
            )


def _student(tiny: TinyBackboneSettings) -> Student:
    torch.manual_seed(0)
    settings = BackboneSettings(kind="tiny", image_size=224, tiny=tiny)
    return Student(settings, PromptSettings(), steps=3, backend="sdpa").eval()


Read = Callable[[Student, Observation[torch.Tensor]], torch.Tensor]


def _packed(student: Student, observation: Observation[torch.Tensor]) -> torch.Tensor:
    return student(observation)[0].latent_actions


def _padded(student: Student, observation: Observation[torch.Tensor]) -> torch.Tensor:
    inputs, model = student.prepare(observation), student.model
    prompts = inputs.prompts.input_ids.split(inputs.prompts.packed.starts.diff().tolist())
    ids = pad_sequence(prompts, batch_first=True, padding_value=student.prompts.pad_id, padding_side="left")
    grid = torch.tensor([[1, 14, 14]]).expand(inputs.images, 3)
    types = (ids == student.prompts.image_id).int()
    mask = (ids != student.prompts.pad_id).long()
    with _own_attention(model):
        found = model(
            input_ids=ids,
            attention_mask=mask,
            pixel_values=inputs.patches,
            image_grid_thw=grid,
            mm_token_type_ids=types,
            use_cache=False,
        )
    hidden: torch.Tensor = found.last_hidden_state
    return hidden[:, -24:]


@contextmanager
def _own_attention(model: PreTrainedModel) -> Iterator[None]:
    """The attention that transformers itself has for PyTorch, while the context is open."""
    configs = [module.config for module in model.modules() if isinstance(module, PreTrainedModel)]
    ours = configs[0]._attn_implementation
    for config in configs:
        config._attn_implementation = "sdpa"
    try:
        yield
    finally:
        for config in configs:
            config._attn_implementation = ours


def _observation(shortest: int, longest: int, batch: int) -> Observation[torch.Tensor]:
    random = np.random.default_rng(0)
    texts = tuple("x" * int(n) for n in random.integers(shortest, longest + 1, batch))
    images = torch.from_numpy(random.integers(0, 256, (batch, 1, 224, 224, 3), dtype=np.uint8))
    return Observation(images, texts, torch.zeros(batch, 0))


def _forward(student: Student, read: Read, observation: Observation[torch.Tensor]) -> float:
    with torch.no_grad():
        return 1e3 * seconds_of(lambda: read(student, observation))


def _forward_backward(student: Student, read: Read, observation: Observation[torch.Tensor]) -> float:
    def step() -> None:
        read(student, observation).square().mean().backward()
        student.zero_grad(set_to_none=True)

    return 1e3 * seconds_of(step)
