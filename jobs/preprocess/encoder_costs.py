"""What a planned build would take with each released encoder."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from jobs.common.text import size_text
from pipeline.encoder.weights.released import RELEASED
from pipeline.format.build_settings import EncoderIdentity
from pipeline.format.enums import LatentDtype, Release
from pipeline.format.schema import Sizes
from pipeline.planning.cost import Counts, estimate_of
from pipeline.planning.plan import Plan


@dataclass(frozen=True)
class EncoderCost:
    """A released encoder, and what a build's targets take by it.

    tokens, width  N of a step and view, and D: the world model's predictor follows them
    target_bytes   on disk
    flops          multiply-adds twice
    """

    release: Release
    tokens: int
    width: int
    target_bytes: int
    flops: float


def encoder_costs(counts: Counts, sizes: Sizes, encoder: EncoderIdentity, dtype: LatentDtype) -> Iterator[EncoderCost]:
    """Each released encoder in place of `encoder`, in its mode."""
    for release, known in RELEASED.items():
        other = replace(
            encoder,
            crop_size=known.crop_size,
            tokens=known.tokens,
            width=known.width,
            layers=known.layers,
            mlp_ratio=known.mlp_ratio,
        )
        there = replace(sizes, tokens=known.tokens, width=known.width)
        cost = estimate_of(counts, there, other, dtype)
        yield EncoderCost(release, known.tokens, known.width, cost.target_bytes, cost.flops)


def describe_encoder_costs(plan: Plan) -> list[tuple[str, str]]:
    """Rows of a table: name and cost of each released encoder for the samples of a plan."""
    estimate, settings = plan.estimate, plan.settings
    counts = Counts(estimate.episodes, estimate.windows, estimate.tubelets, estimate.shards, estimate.exact)
    found = encoder_costs(counts, plan.sizes, settings.encoder, settings.latents.dtype)
    return [
        (
            f"encoder={cost.release}",
            f"{cost.tokens} tokens x {cost.width}, targets {size_text(cost.target_bytes)}, {cost.flops:.3g} FLOPs",
        )
        for cost in found
    ]
