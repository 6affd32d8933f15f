"""Packed against padded prompts: forward and backward of the student's backbone, the same weights and batch."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from model.settings import BackboneSettings, PromptSettings, TinyBackboneSettings
from model.student.backbone import Student
from pipeline.format.schema import Observation
from tests.benchmarks.report import Target, interleaved, print_table

MID = TinyBackboneSettings(layers=8, width=512, heads=8, vision_layers=4, vision_width=256, vision_heads=4)
BATCH = 16
MIXES = {"labels of 4 to 20 tokens": (4, 20), "texts of 4 to 200 tokens": (4, 200)}
"""The byte tokenizer's tokens; SSv2 and LIBERO label lengths in Qwen's tokens lie in the first range."""


def run(_: Path, repeats: int) -> None:
    """Time both layouts on each mix, and print the tables."""
    students = {packed: _student(packed) for packed in (True, False)}
    for name, (shortest, longest) in MIXES.items():
        observation = _observation(shortest, longest)
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
                [f"text {MID.layers} x {MID.width}, vision {MID.vision_layers} x {MID.vision_width}, batch {BATCH}"],
            )


def _student(packed: bool) -> Student:
    torch.manual_seed(0)
    settings = BackboneSettings(kind="tiny", image_size=224, tiny=MID, packed=packed)
    return Student(settings, PromptSettings(), steps=3, backend="sdpa").eval()


def _observation(shortest: int, longest: int) -> Observation[torch.Tensor]:
    random = np.random.default_rng(0)
    texts = tuple("x" * int(n) for n in random.integers(shortest, longest + 1, BATCH))
    images = torch.from_numpy(random.integers(0, 256, (BATCH, 1, 224, 224, 3), dtype=np.uint8))
    return Observation(images, texts, torch.zeros(BATCH, 0))


def _forward(student: Student, observation: Observation[torch.Tensor]) -> float:
    started = time.perf_counter()
    with torch.no_grad():
        student(observation)
    return 1e3 * (time.perf_counter() - started)


def _forward_backward(student: Student, observation: Observation[torch.Tensor]) -> float:
    started = time.perf_counter()
    student(observation).latent_actions.square().mean().backward()
    student.zero_grad(set_to_none=True)
    return 1e3 * (time.perf_counter() - started)
