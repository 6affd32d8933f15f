"""Packed against padded prompts: forward and backward of the student's backbone, the same weights and batch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

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
    students = {packed: _student(packed, scale.backbone) for packed in (True, False)}
    for name, (shortest, longest) in MIXES.items():
        observation = _observation(shortest, longest, scale.batch)
        lengths = students[True].prompts.batch(observation.instruction, 1, True).attention_mask.sum(dim=1)
        padding = 1 - lengths.sum().item() / (len(lengths) * lengths.max().item())
        for what, step in (("forward", _forward), ("forward and backward", _forward_backward)):
            runs: dict[str, Callable[[], float]] = {
                "padded": lambda step=step, batch=observation: step(students[False], batch),
                "packed": lambda step=step, batch=observation: step(students[True], batch),
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


def _student(packed: bool, tiny: TinyBackboneSettings) -> Student:
    torch.manual_seed(0)
    settings = BackboneSettings(kind="tiny", image_size=224, tiny=tiny, packed=packed)
    return Student(settings, PromptSettings(), steps=3, backend="sdpa").eval()


def _observation(shortest: int, longest: int, batch: int) -> Observation[torch.Tensor]:
    random = np.random.default_rng(0)
    texts = tuple("x" * int(n) for n in random.integers(shortest, longest + 1, batch))
    images = torch.from_numpy(random.integers(0, 256, (batch, 1, 224, 224, 3), dtype=np.uint8))
    return Observation(images, texts, torch.zeros(batch, 0))


def _forward(student: Student, observation: Observation[torch.Tensor]) -> float:
    with torch.no_grad():
        return 1e3 * seconds_of(lambda: student(observation))


def _forward_backward(student: Student, observation: Observation[torch.Tensor]) -> float:
    def step() -> None:
        student(observation).latent_actions.square().mean().backward()
        student.zero_grad(set_to_none=True)

    return 1e3 * seconds_of(step)
