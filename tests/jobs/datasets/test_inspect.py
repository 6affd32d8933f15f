"""`vlajepa inspect`: what is there beside what the manifest says, and a contact sheet."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from jobs.cli import main
from jobs.datasets.comparison import Comparison
from jobs.datasets.inspect import WRONG_UNIT, Inspected, require_writable
from pipeline.errors import RunError
from pipeline.inspection.checks import inspect_source, spread
from pipeline.inspection.flag import Flag
from pipeline.inspection.lookahead import LookaheadResult
from pipeline.sources.base import EpisodeRef
from pipeline.sources.lerobot.source import LeRobotSource
from tests.conftest import SampleData


def inspected(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    code = 0
    try:
        main(["inspect", *words])
    except SystemExit as end:
        code = int(end.code or 0)
    return code, capsys.readouterr().out


FEWER = Comparison("episodes train", "100", "12", fewer=True)
MORE = Comparison("episodes train", "100", "101")
CAMERAS = Comparison("cameras", "front, wrist", "front")
SAME = Comparison("frame rate", "5", "5")


@pytest.mark.parametrize(
    ("comparisons", "code"),
    [((), 0), ((SAME,), 0), ((SAME, FEWER), 3), ((MORE,), 1), ((CAMERAS,), 1), ((FEWER, CAMERAS), 1)],
)
def test_a_part_of_the_set_is_told_from_a_set_that_differs(comparisons: tuple[Comparison, ...], code: int) -> None:
    assert Inspected(Path(), comparisons, (), LookaheadResult((), 0, 0), 0).exit_code == code
    wrong = Flag(WRONG_UNIT, "degrees", 1.0)
    assert Inspected(Path(), comparisons, (wrong,), LookaheadResult((), 0, 0), 0).exit_code == 1


@pytest.mark.slow
def test_real_clips(shared_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out = inspected(capsys, "source=ssv2", f"source.root={shared_data}/ssv2", f"out={tmp_path}/seen")
    assert code == 3  # far fewer clips than the manifest says, and nothing else
    for part in ("427x240 (19), 293x240 (1)", "vp9", "train 12", "DIFFERS, the manifest has 168,913"):
        assert part in out
    content: dict[str, Any] = json.loads((tmp_path / "seen/inspection.json").read_text())
    assert (content["opened"], min(content["lengths"]), max(content["lengths"])) == (20, 17, 60)
    agreed = {row["what"]: row["agrees"] for row in content["manifest"]}
    assert agreed["cameras"]
    assert agreed["frame rate"]
    assert not agreed["episodes train"]
    with Image.open(tmp_path / "seen/contact-sheet.png") as sheet:
        assert np.asarray(sheet).std() > 30
        assert sheet.width >= 3 * 160


@pytest.mark.slow
def test_real_robot_episodes(shared_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = shared_data / "lerobot_v21/unitree_g1_inspire_bottle"
    words = ("source=lerobot", "source.name=g1", f"source.root={root}", f"out={tmp_path}/seen")
    code, out = inspected(capsys, *words)
    assert code == 0
    for part in ("640x480", "av1", "30 to 30 frames/s", "'Pick up the yellow bottle on the table.' (3)"):
        assert part in out
    content = json.loads((tmp_path / "seen/inspection.json").read_text())
    assert content["lengths"] == [221, 277, 280]
    assert len(content["state"]["min"]) == len(content["action"]["max"]) == 26


@pytest.mark.slow
def test_a_black_camera_and_the_leak_free_ones(
    shared_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = f"source.root={shared_data}/rlds/bridge_dataset"
    code, out = inspected(capsys, "source=bridge", root, "source.cameras=[image_3]", f"out={tmp_path}/seen")
    assert code == 1
    assert "of which 24 cannot be used" in out
    assert "blank-camera: 24" in out
    assert not (tmp_path / "seen/contact-sheet.png").exists()


def test_what_cannot_be_used_is_named(sample_data: SampleData, tmp_path: Path) -> None:
    root = Path(shutil.copytree(sample_data.lerobot, tmp_path / "robot"))
    video = next(root.glob("videos/*/*front/episode_000001.mp4"))
    video.write_bytes(video.read_bytes()[:100])
    source = LeRobotSource(root=str(root), name="robot")
    found = inspect_source(source, source.index(), None)
    assert (found.opened, found.unusable) == (4, 1)
    (entry,) = found.left_out
    assert (entry.episode, entry.reason) == ("robot-000001", "undecodable")
    assert str(video) in entry.detail
    assert set(found.views) == {"front", "wrist"}
    assert found.action.low is not None
    assert len(found.strips) == 3


def test_spread() -> None:
    refs = [EpisodeRef(str(i), "train", (), None) for i in range(100)]
    assert [ref.id for ref in spread(refs, 5)] == ["0", "25", "50", "74", "99"]
    assert spread(refs, None) == spread(refs, 100) == refs
    assert len(spread(refs, 99)) == 99


def test_a_folder_that_cannot_be_written_to_is_said_before_anything_is_read(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match=r"out=.*file/seen cannot be written to: .*set out="):
        require_writable(tmp_path / "file/seen")
    require_writable(tmp_path / "new/seen")
    assert list((tmp_path / "new/seen").iterdir()) == []
