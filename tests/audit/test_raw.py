"""The audit's own readers of raw data, beside the pipeline's: two readings of one format must agree."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.audit.raw.base import RawError
from pipeline.audit.raw.lerobot import RawLeRobot
from pipeline.audit.raw.registry import open_raw
from pipeline.audit.raw.ssv2 import RawSSv2
from pipeline.audit.raw.video import read_video
from pipeline.errors import BuildError
from pipeline.sources.base import Source
from pipeline.sources.lerobot import LeRobotSource
from pipeline.sources.ssv2 import SSv2Source
from tests.conftest import SampleData

ROBOT: dict[str, Any] = {
    "type": "lerobot", "name": "robot", "state_key": "observation.state", "action_key": "action", "val_share": 0.3,
}  # fmt: skip
VIDEO: dict[str, Any] = {"type": "ssv2", "name": "ssv2"}


def _compare(source: Source, settings: dict[str, Any], root: Path) -> None:
    raw = open_raw(settings, root)
    refs = [ref for ref in source.index().refs if ref.split != "test"]
    assert refs
    for ref in refs:
        assert raw.split_of(ref.id) == ref.split
        theirs = raw.open(ref.id)
        with source.open(ref) as ours:
            last = ours.num_frames - 1
            for view in theirs.videos:
                films = list(theirs.frames(view))
                assert len(films) == ours.num_frames
                for index in (0, last // 2, last):
                    np.testing.assert_array_equal(films[index][1], ours.frames(view, [index])[0])
            first = next(iter(theirs.videos))
            times = [second for second, _ in theirs.frames(first)]
            np.testing.assert_allclose(times, ours.timestamps(range(last + 1)), atol=2e-3)
            assert theirs.instruction(last) == ours.instruction(last)
            if theirs.state is not None:
                np.testing.assert_array_equal(theirs.state[last], ours.state(last))
                np.testing.assert_array_equal(theirs.actions, ours.actions(0, last + 1))


def test_sample_clips_read_alike(sample_data: SampleData) -> None:
    _compare(SSv2Source(str(sample_data.ssv2)), VIDEO, sample_data.ssv2)


def test_sample_robot_episodes_read_alike(sample_data: SampleData) -> None:
    _compare(LeRobotSource(str(sample_data.lerobot), "robot", val_share=0.3), ROBOT, sample_data.lerobot)


def test_real_clips_read_alike(shared_data: Path) -> None:
    _compare(SSv2Source(str(shared_data / "ssv2")), VIDEO, shared_data / "ssv2")


def test_real_robot_episodes_read_alike(shared_data: Path) -> None:
    root = shared_data / "lerobot_v21/unitree_g1_inspire_bottle"
    _compare(LeRobotSource(str(root), "robot", val_share=0.3), ROBOT, root)


def test_test_clips_are_known_as_such(sample_data: SampleData) -> None:
    raw = RawSSv2(VIDEO, sample_data.ssv2)
    (clip,) = json.loads((sample_data.ssv2 / "labels/test.json").read_text())
    assert raw.split_of(f"ssv2-{clip['id']}") == "test"
    assert raw.split_of(f"other-{clip['id']}") is None
    assert raw.open(f"ssv2-{clip['id']}").instruction(0) is None


def test_declared_splits_of_a_robot_set_are_used_only_when_they_fit(sample_data: SampleData, tmp_path: Path) -> None:
    root = Path(shutil.copytree(sample_data.lerobot, tmp_path / "robot"))
    info = json.loads((root / "meta/info.json").read_text())
    for declared, wanted in (
        ({"train": "0:3", "validation": "3:4"}, ["train", "train", "train", "val"]),
        ({"train": "0:2", "test": "2:4"}, ["train", "train", "test", "test"]),
    ):
        (root / "meta/info.json").write_text(json.dumps({**info, "splits": declared}))
        raw = RawLeRobot(ROBOT, root)
        assert [raw.split_of(f"robot-{number:06d}") for number in range(4)] == wanted
    for unusable in ({"train": "0:100"}, {"train": "0:3", "val": "2:4"}, {"train": "0:4"}, {"left": "0:4"}):
        (root / "meta/info.json").write_text(json.dumps({**info, "splits": unusable}))
        refs = LeRobotSource(str(root), "robot", val_share=0.3).index().refs
        raw = RawLeRobot(ROBOT, root)
        assert {ref.id: raw.split_of(ref.id) for ref in refs} == {ref.id: ref.split for ref in refs}


def test_what_is_missing_is_said(sample_data: SampleData, tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="level source reads raw data of the types ssv2, lerobot"):
        open_raw({"type": "rosbag"}, tmp_path)
    with pytest.raises(BuildError, match=r"train\.json"):
        open_raw(VIDEO, tmp_path)
    raw = RawSSv2(VIDEO, sample_data.ssv2)
    with pytest.raises(RawError, match="no label file lists"):
        raw.open("ssv2-nothing")
    with pytest.raises(RawError, match="no view wrist"):
        list(raw.open(f"ssv2-{_first(sample_data.ssv2)}").frames("wrist"))


def test_a_damaged_video_is_an_error_and_not_a_shorter_film(sample_data: SampleData, tmp_path: Path) -> None:
    path = sample_data.ssv2 / "20bn-something-something-v2" / f"{_first(sample_data.ssv2)}.webm"
    garbage = tmp_path / "garbage.webm"
    garbage.write_bytes(bytes(range(256)) * 40)
    with pytest.raises(ValueError, match="Invalid data"):
        list(read_video(garbage))
    with pytest.raises(ValueError, match="No such file"):
        list(read_video(tmp_path / "missing.webm"))
    assert len(list(read_video(path))) > 10


def _first(root: Path) -> str:
    return str(json.loads((root / "labels/train.json").read_text())[0]["id"])
