"""What a group of episodes takes in memory once it is decoded."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pipeline.building.shard_jobs import group_bytes
from pipeline.format.build_settings import BuildSettings, WindowPolicy
from pipeline.planning.plan import make_plan
from pipeline.sources.base import EpisodeRef
from tests.benchmarks.large_index import LargeSource
from tests.pipeline.plan_settings import SETTINGS

FEW = 2 * 2 * (SETTINGS["window"]["steps"] + 1)
"""Frames of two windows: a pair for the context and for each step."""


@pytest.mark.parametrize(
    ("window", "lengths", "frames"),
    [
        (WindowPolicy(every=0, per_episode=2), (None,), FEW),
        (WindowPolicy(every=0, per_episode=2), (3, 300), 3 + FEW),
        (WindowPolicy(every=1), (10, 300), 310),
        (WindowPolicy(every=1), (10, None), None),
    ],
)
def test_episodes_of_unknown_length_are_not_nothing(
    window: WindowPolicy, lengths: tuple[int | None, ...], frames: int | None
) -> None:
    source = LargeSource("ssv2", 4)
    recipe = make_plan(source, source.index(), BuildSettings.read({**SETTINGS, "source": {"name": "large"}})).recipe()
    refs = [EpisodeRef(f"e{i}", "train", (), length, {}) for i, length in enumerate(lengths)]
    found = group_bytes(refs, replace(recipe, window=window))
    one = recipe.sizes.views * recipe.frames.crop_size**2 * 3
    assert found == (None if frames is None else frames * one)
