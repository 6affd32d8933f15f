"""What a sample's activations take, with and without gradient checkpointing, and the batch that fits a GPU.

Counted by `vlajepa estimate`'s own means, on tensors without memory. Two batches give a line, from which a
smaller one may lie higher: its highest point can be another one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from model.estimate import KINDS, StepEstimate, estimate_step
from model.settings import ModelSettings
from pipeline.format.schema import Sizes
from tests.benchmarks.full_size_build import SIZES
from tests.benchmarks.packing import FULL, small_settings
from tests.benchmarks.report import Series, Target, print_table

GIB = 2**30
ROOM: Mapping[str, float] = {"80 GB": 80e9, "141 GB": 141e9}
"""Bytes, of an A100 or H100 and of an H200. They have a little more, which context and fragmentation take."""

PARTS: Mapping[str, tuple[str, ...]] = {
    "everything kept": (),
    "gradient_checkpointing of the backbone": ("backbone",),
    "of backbone, predictor and action head": ("backbone", "predictor", "action_head"),
}


@dataclass(frozen=True)
class Scale:
    """The model, and samples of each kind: the one that is compared with the line, and the two that give it."""

    model: ModelSettings = field(default_factory=lambda: FULL)
    sizes: Sizes = SIZES
    batches: tuple[int, int, int] = (16, 32, 48)


TINY = Scale(small_settings(), replace(SIZES, image_size=64, tokens=16, width=96), (1, 2, 3))


def run(_: Path, repeats: int, scale: Scale) -> None:
    """Print a table for each way. Nothing is timed, so it is done once."""
    for name, parts in PARTS.items():
        small, middle, large = (_estimate(parts, batch, scale) for batch in scale.batches)
        first, second, third = scale.batches
        slope = (large.passes - middle.passes) / (third - second)
        fixed = large.peak - slope * third
        kept = (large.kept - middle.kept) / (third - second)
        fits = {name: max(0, int((room - fixed) // slope)) for name, room in ROOM.items()}
        error = (fixed + slope * first) / small.peak
        print_table(
            f"Memory of a step, bf16, one GPU, {' and '.join(KINDS)} together: {name}",
            "GiB",
            [
                Series("weights, masters, moments", ((small.weights + small.moments) / GIB,)),
                Series("kept for the backward pass, of one sample of each kind", (kept / GIB,)),
                Series("highest point, of each more of both", (slope / GIB,)),
                Series(f"in all, {first} + {first} samples", (small.peak / GIB,)),
            ],
            [
                *(Series(f"samples of each kind that fit {name}", (float(count),)) for name, count in fits.items()),
                Target(Series(f"in all at {first} + {first} by the line / counted", (error,)), 0.95),
            ],
        )


def _estimate(parts: tuple[str, ...], batch: int, scale: Scale) -> StepEstimate:
    model = scale.model
    changed = {part: replace(getattr(model, part), gradient_checkpointing=True) for part in parts}
    return estimate_step(replace(model, **changed), scale.sizes, batch, KINDS, count_flops=False)
