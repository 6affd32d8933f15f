"""Rule L10 for `estimate` of plan.json: numbers that follow from the plan, by the formulas of docs/formats.md.

K future steps, s interval, T actions of a chunk.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from pipeline.audit.build import ClaimedBuild
from pipeline.audit.selection.window_counts import window_counts
from pipeline.format.build_settings import EncoderIdentity
from pipeline.format.columns import latent_columns, tubelet_columns

Fact = tuple[str, Any, Any]
"""Place in the file, its value, the value that it must have."""


MOST = 10**8
"""Windows of episodes of different length, times their steps, that are counted where `per_episode` limits them."""


def estimate_facts(build: ClaimedBuild, estimate: dict[str, Any]) -> Iterator[Fact]:
    """Every number of the estimate that can be computed: all of them, where the length of every episode is planned.

    Args:
        estimate: of the closed type.
    """
    kept = ~build.tasks.dropped
    lengths = build.tasks.num_frames[kept]
    windows, tubelets = estimate["windows"], estimate["tubelets"]
    known, derived = bool((lengths >= 0).all()), "derived" in build.settings
    yield "estimate.episodes", estimate["episodes"], int(kept.sum())
    yield "estimate.shards", estimate["shards"], len(build.tasks.tasks)
    values, numbers = np.unique(lengths, return_counts=True)
    each, longest = build.settings["window"]["per_episode"], MOST // (build.sizes.steps + 1)
    most = int(np.clip(values, 0, max(0, each)).sum())
    yield "per_episode gives episodes of different length more windows than can be counted", min(most, longest), most
    one_way = (build.settings["window"]["every"] > 0) != (each > 0)
    yield "settings.window: whether exactly one of every and per_episode is above 0", one_way, True
    if known and not derived and most <= longest and one_way:
        counts = [window_counts(build, length) for length in values.tolist()]
        yield "estimate.windows", windows, sum(n * c[0] for n, c in zip(numbers.tolist(), counts, strict=True))
        yield "estimate.tubelets", tubelets, sum(n * c[1] for n, c in zip(numbers.tolist(), counts, strict=True))
    if not derived:
        yield "estimate.exact", estimate["exact"], known
    sizes, shared = build.sizes, build.shares_latents
    encoder = EncoderIdentity.read(build.settings["encoder"])
    inputs = windows * (sizes.views * round(0.6 * sizes.image_size * sizes.image_size) + 2048)
    yield "estimate.input_bytes", estimate["input_bytes"], inputs
    yield "estimate.target_bytes", estimate["target_bytes"], _target_bytes(build, windows, tubelets)
    flops = (tubelets if shared else windows) * sizes.views * encoder.flops(sizes.steps)
    yield "estimate.flops", estimate["flops"], flops


def _target_bytes(build: ClaimedBuild, windows: int, tubelets: int) -> int:
    sizes, shared = build.sizes, build.shares_latents
    columns = (tubelet_columns if shared else latent_columns)(sizes, build.latent_dtype)
    latents = sum(np.dtype(kind).itemsize * math.prod(shape) for kind, shape in columns.values())
    numbers = 4 * (sizes.steps + 1) if shared else 0
    return (tubelets if shared else windows) * latents + windows * (numbers + 4 * sizes.chunk * sizes.action)
