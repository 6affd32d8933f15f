"""`vlajepa audit 'builds=[A,B]'`, a wrong root, and what verify finds in the folder."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from jobs.audit.compare import run_compare
from jobs.audit.planned_files import planned_files
from jobs.audit.settings import AuditConfig
from pipeline.audit.levels.run import audit_build
from pipeline.audit.verdicts.verdict import write_verdict
from pipeline.errors import BuildError
from pipeline.format.build import Build
from pipeline.format.file_names import VERDICT
from pipeline.sample_world.ssv2 import write_ssv2
from tests.conftest import SampleData
from tests.jobs.runs import audited, build_config, robot_source, ssv2_source
from tests.jobs.test_cli import run
from tests.jobs.training.test_audited_builds import _moved
from tests.pipeline.audit.tiny_build import write_build


def test_builds_that_hold_each_others_episodes_are_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    build, other = write_build(tmp_path / "build"), write_build(tmp_path / "other", _moved("renamed"))
    code, out, _ = run(capsys, "audit", f"builds=[{build},{other}]")
    assert code == 1
    assert "L6: episode ep_a is in train of tiny and in val of renamed as ep_a" in out
    code, _, err = run(capsys, "audit", f"builds=[{build},{build}]")
    assert code == 2
    assert "same name" in err
    code, _, err = run(capsys, "audit", f"builds=[{build}]")
    assert code == 2
    assert "two or more" in err


def _copied_test_clip(root: Path) -> str:
    """A test clip of the raw data, under another id in the train split of another copy of it."""
    labels = root / "labels"
    clip = json.loads((labels / "test.json").read_text())[0]["id"]
    rows = json.loads((labels / "train.json").read_text())
    videos = root / "20bn-something-something-v2"
    (videos / "777777.webm").write_bytes((videos / f"{clip}.webm").read_bytes())
    (labels / "train.json").write_text(json.dumps([*rows, {**rows[0], "id": "777777"}]))
    return str(clip)


def test_a_test_clip_in_train_of_another_build_is_found(
    video_build: Build, sample_data: SampleData, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "raw"
    write_ssv2(root, clips=8, seed=0, size=64)
    clip = _copied_test_clip(root)
    for answers in (root / "labels").glob("test*"):
        answers.unlink()  # this copy of the raw data knows of no test set
    leaky = audited(build_config(tmp_path / "leaky", ssv2_source(root) | {"name": "other"}))
    words = [f"builds=[{video_build.path},{leaky.path}]", f"roots=[{sample_data.ssv2},{root}]"]
    assert run(capsys, "audit", words[0])[0] == 0
    code, out, _ = run(capsys, "audit", *words)
    assert code == 1
    assert f"test episode ssv2:ssv2-{clip} shows what train episode other:other-777777 shows" in out


def test_held_out_numbers_in_train_of_another_build_are_found(
    robot_build: Build, sample_data: SampleData, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same robot's episodes under another name and split."""
    settings = robot_source(sample_data.lerobot) | {"name": "other", "split_seed": 1, "val_share": 0.7}
    other = audited(build_config(tmp_path / "other", settings))
    roots = f"roots=[{sample_data.lerobot},{sample_data.lerobot}]"
    code, out, _ = run(capsys, "audit", f"builds=[{robot_build.path},{other.path}]", roots)
    assert code == 1
    assert "has the state and actions of train episode" in out


@pytest.mark.parametrize("damage", [lambda film: film.write_bytes(b""), lambda film: film.unlink()])
def test_films_that_cannot_be_read_give_no_verdict(
    damage: Callable[[Path], object],
    video_build: Build,
    robot_build: Build,
    sample_data: SampleData,
    tmp_path: Path,
) -> None:
    root = Path(shutil.copytree(sample_data.ssv2, tmp_path / "raw"))
    builds = (str(video_build.path), str(robot_build.path))
    settings = AuditConfig(builds=builds, roots=(str(root), str(sample_data.lerobot)))
    planned = [episode for episode, _ in planned_files(video_build)]
    (film,) = root.rglob(f"{planned[0].removeprefix('ssv2-')}.webm")
    damage(film)
    with pytest.raises(BuildError, match=rf"1 of {len(planned)} episodes of ssv2 cannot be compared, .*{film.name}"):
        run_compare(settings)


@pytest.mark.parametrize("seed", [7, 8])
def test_a_wrong_root_gives_no_verdict(
    video_build: Build, tmp_path: Path, capsys: pytest.CaptureFixture[str], seed: int
) -> None:
    before = (video_build.path / VERDICT).read_bytes()
    write_ssv2(tmp_path / "raw", clips=4, seed=seed, size=64)
    for path in (tmp_path / "raw/labels").glob("*.json"):
        path.write_text(path.read_text().replace('"id": "', '"id": "9'))
    code, _, err = run(capsys, "audit", str(video_build.path), "level=source", f"root={tmp_path / 'raw'}")
    assert code == 2
    assert "it is not the raw data of this build" in err
    assert (video_build.path / VERDICT).read_bytes() == before


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        (lambda build: (build / "notes.txt").write_bytes(b"x"), "notes.txt is not listed"),
        (lambda build: (build / "train" / "\x1b[2J").write_bytes(b"x"), r"train/\x1b[2J is not listed"),
        (lambda build: (build / "croissant.json").write_bytes(b"{}"), "croissant.json is not what build.json gives"),
        (lambda build: (build / "hidden").mkdir(), "hidden is a folder that does not belong"),
        (lambda build: (build / "logs").symlink_to("/"), "logs is a symbolic link"),
    ],
)
def test_verify_checks_the_inventory(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], edit: Callable[[Path], object], says: str
) -> None:
    build = write_build(tmp_path / "build")
    write_verdict(build, audit_build(build))
    assert run(capsys, "verify", str(build))[0] == 0
    edit(build)
    code, out, err = run(capsys, "verify", str(build))
    assert code == 1
    assert says in err
    assert "VERIFIED:" not in out
