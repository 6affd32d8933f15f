"""Rule L10 for `estimate` of plan.json: numbers that follow from the plan, by the formulas of docs/formats.md.

K future steps, s interval, T actions of a chunk.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np

from pipeline.audit.build import ClaimedBuild
from pipeline.format.build_settings import EncoderIdentity
from pipeline.format.columns import latent_columns, tubelet_columns

Fact = tuple[str, Any, Any]
"""Place in the file, its value, the value that it must have."""


LONGEST = 10**8
"""Frames of all episodes of different length together up to which windows are counted."""


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
    most = int(np.maximum(values, 0).sum())
    yield "the different lengths of the episodes add up to more frames than", min(most, LONGEST), most
    one_way = (build.settings["window"]["every"] > 0) != (build.settings["window"]["per_episode"] > 0)
    yield "settings.window: whether exactly one of every and per_episode is above 0", one_way, True
    if known and not derived and most <= LONGEST and one_way:
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


def window_counts(build: ClaimedBuild, length: int) -> tuple[int, int]:
    """Windows of an episode of this length, and distinct frames that their tubelets end at."""
    window, chunk = build.settings["window"], build.window.chunk if build.sizes.action else 0
    every, each = window["every"], window["per_episode"]
    return _counted(length, build.window.interval, build.window.steps, build.window.end, every, each, chunk)


@cache
def _counted(length: int, s: int, steps: int, end: str, every: int, each: int, chunk: int) -> tuple[int, int]:
    reach = 2 * s * (1 if end == "pad" else steps)
    fitting = max(0, length - (max(reach, chunk - 1) if end == "drop" else reach))
    count = min(each, fitting)
    nows = (2 * np.arange(count) + 1) * fitting // max(1, 2 * count) if each else np.arange(0, fitting, every)
    reached = np.zeros(length, bool)
    for k in range(steps + 1):
        ends = nows + 2 * k * s
        reached[ends[ends < length]] = True
    return len(nows), int(reached.sum())
