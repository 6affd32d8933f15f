"""Plans: packing, the fingerprint, the cost, and refusals."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import BuildError, RunError
from pipeline.format.build_settings import BuildSettings
from pipeline.format.enums import LatentDtype
from pipeline.format.episode import Episode
from pipeline.format.schema import Sizes
from pipeline.planning.cost import targets_bytes
from pipeline.planning.plan import Plan, check_same_plan, make_plan, read_plan, write_plan
from pipeline.sources.base import EpisodeRef, SourceIndex
from pipeline.storage.store import open_store
from tests.pipeline.fake_episode import FakeEpisode
from tests.pipeline.plan_settings import SETTINGS, changed

SIZES = Sizes(views=2, image_size=224, steps=1, tokens=256, width=1024, state=8, chunk=3, action=7)


@dataclass(frozen=True)
class FakeSource:
    """Episodes "e0", "e1", … of the given lengths; a negative length is unknown to the index."""

    lengths: tuple[int, ...]
    split: str = "train"

    def index(self) -> SourceIndex:
        refs = tuple(
            EpisodeRef(f"e{i}", self.split, ((f"{i}.webm", 100 + i),), n if n > 0 else None, {"instruction": "x"})
            for i, n in enumerate(self.lengths)
        )
        return SourceIndex("s", ("front", "wrist"), 8, 7, 10.0, refs, (), {"type": "fake"})

    def open(self, ref: EpisodeRef) -> Episode:
        return FakeEpisode(abs(self.lengths[int(ref.id[1:])]))


def plan_of(source: FakeSource, settings: Mapping[str, Any] = SETTINGS) -> Plan:
    return make_plan(source, source.index(), BuildSettings.read(settings))


def test_every_episode_stands_in_exactly_one_chunk_in_order() -> None:
    plan = plan_of(FakeSource((10, 30, 5, 12, 40, 9, 9)))
    ids = [ref.id for task in plan.tasks for ref in task.episodes]
    assert ids == [f"e{i}" for i in range(7)]
    assert len(plan.tasks) > 1
    assert max(len(task.groups) for task in plan.tasks) > 1


def test_the_cost_is_that_of_the_windows() -> None:
    plan = plan_of(FakeSource((10, 30)))
    assert plan.estimate.windows == 8 + 28
    assert plan.estimate.exact
    assert plan.estimate.target_bytes == 36 * (2 * 2 * 256 * 1024 * 2 + 3 * 7 * 4)
    assert plan.estimate.target_bytes == targets_bytes(SIZES, LatentDtype.FLOAT16, 36)
    assert plan.estimate.flops == 36 * 2 * plan.settings.encoder.flops(steps=1)


def test_int8_latents_cost_one_byte_a_channel_and_four_a_token() -> None:
    plan = plan_of(FakeSource((10, 30)), changed("latents", dtype="int8"))
    assert plan.estimate.target_bytes == 36 * (2 * 2 * 256 * (1024 + 4) + 3 * 7 * 4)
    assert plan.estimate.target_bytes == targets_bytes(SIZES, LatentDtype.INT8, 36)
    assert plan.fingerprint != plan_of(FakeSource((10, 30))).fingerprint


def test_shared_tubelets_are_counted_once_an_episode() -> None:
    """Steps 1 at interval 1: windows 0..n-3 end at frames 0..n-1, every one of which is a tubelet."""
    plan = plan_of(FakeSource((10, 30, -10)), changed("encoder", mode="tubelet"))
    assert plan.estimate.tubelets == 10 + 30 + 10
    windows = 8 + 28 + 8
    assert plan.estimate.target_bytes == 50 * 2 * 256 * 1024 * 2 + windows * (4 * 2 + 3 * 7 * 4)
    assert plan.estimate.flops == 50 * 2 * plan.settings.encoder.flops(steps=1)


def test_unknown_lengths_are_estimated_and_said_to_be() -> None:
    plan = plan_of(FakeSource((-10, -14)))
    assert plan.estimate.windows == 2 * 10
    assert not plan.estimate.exact


def test_the_fingerprint_covers_settings_and_files() -> None:
    base = plan_of(FakeSource((10, 30)))
    assert plan_of(FakeSource((10, 30))).fingerprint == base.fingerprint
    assert plan_of(FakeSource((10, 31))).fingerprint != base.fingerprint
    assert plan_of(FakeSource((10, 30)), changed("shards", samples=8)).fingerprint != base.fingerprint
    assert plan_of(FakeSource((10, 30)), changed("window", interval=2)).fingerprint != base.fingerprint


def test_a_plan_is_read_back_as_it_was(tmp_path: Path) -> None:
    plan = plan_of(FakeSource((10, 30, 8)))
    write_plan(plan, open_store(tmp_path))
    assert read_plan(open_store(tmp_path)) == plan
    assert read_plan(open_store(tmp_path)).settings == plan.settings


def test_an_edited_plan_is_noticed(tmp_path: Path) -> None:
    write_plan(plan_of(FakeSource((10, 30, 8))), open_store(tmp_path))
    tasks = (tmp_path / "tasks.jsonl").read_text()
    (tmp_path / "tasks.jsonl").write_text(tasks.replace('"split":"train"', '"split":"val"'))
    with pytest.raises(BuildError, match="was edited"):
        read_plan(open_store(tmp_path))


def test_differences_are_shown() -> None:
    stored, asked = plan_of(FakeSource((10, 30))), plan_of(FakeSource((10, 31)))
    check_same_plan(stored, SETTINGS, Path("out"), stored.tasks)
    with pytest.raises(BuildError, match=r"window\.interval: 1 -> 2"):
        check_same_plan(stored, changed("window", interval=2), Path("out"))
    with pytest.raises(BuildError, match="1 episodes were added, removed or changed, first: e1"):
        check_same_plan(stored, SETTINGS, Path("out"), asked.tasks)


def test_test_episodes_are_never_planned() -> None:
    source = FakeSource((10, 30), split="test")
    with pytest.raises(RunError, match="none of 0 episodes"):
        plan_of(source)
    with pytest.raises(RunError, match="the test split is never built"):
        plan_of(source, {**SETTINGS, "splits": ["train", "test"]})


def test_episodes_too_short_for_any_window_stop_the_plan() -> None:
    with pytest.raises(RunError, match=r"lower window\.steps or window\.interval"):
        plan_of(FakeSource((2, 2)))
