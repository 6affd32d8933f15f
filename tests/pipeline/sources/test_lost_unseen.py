"""Data that would be lost, or be another than declared, without a trace: each is refused with what was found."""

from __future__ import annotations

import json
import shutil
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import RunError, SettingsError
from pipeline.sources.lerobot.source import LeRobotSource
from pipeline.sources.rlds.source import RldsSource
from pipeline.storage.raw import places
from tests.pipeline.sources.both_readers import raw_of, read_by_both, ref_of, refused_by_both
from tests.pipeline.sources.lerobot.test_lerobot import Dataset
from tests.pipeline.sources.lerobot.test_lerobot_v3 import Shared


@pytest.fixture
def bridge(shared_data: Path, tmp_path: Path) -> Path:
    root = Path(shutil.copytree(shared_data / "rlds/bridge_dataset/1.0.0", tmp_path / "bridge"))
    for path in (root, *root.iterdir()):
        path.chmod(0o755)
    return root


def rlds(root: Path) -> RldsSource:
    return RldsSource(root=str(root), name="bridge", fps=5.0, cameras=("image_0",))


def edit(path: Path, change: Any) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def camera(content: Any, name: str) -> Any:
    steps = content["featuresDict"]["features"]["steps"]["sequence"]["feature"]["featuresDict"]["features"]
    return steps["observation"]["featuresDict"]["features"][name]["image"]["shape"]


@pytest.mark.parametrize("declared", [["64", "48", "3"], ["128", "64", "3"], ["-1", "63", "3"]])
def test_pictures_of_a_record_have_the_declared_size(bridge: Path, declared: list[str]) -> None:
    edit(bridge / "features.json", lambda content: camera(content, "image_0").update(dimensions=declared))
    error = refused_by_both(rlds(bridge), "bridge-train-000003")
    assert error.reason == "bad-record"
    assert "(64, 64)" in error.detail
    assert "features.json declares" in error.detail


@pytest.mark.parametrize("declared", [["64", "64", "3"], ["-1", "-1", "3"], ["64", "-1", "3"]])
def test_a_size_that_is_left_open_is_any(bridge: Path, declared: list[str]) -> None:
    edit(bridge / "features.json", lambda content: camera(content, "image_0").update(dimensions=declared))
    assert read_by_both(rlds(bridge), "bridge-train-000003")["image_0"].shape[1:] == (64, 64, 3)


@pytest.mark.parametrize("listed", [1, 24])
def test_records_that_no_list_counts_are_not_lost_unseen(bridge: Path, listed: int) -> None:
    def change(content: Any) -> None:
        content["splits"][0]["shardLengths"] = [str(listed)]

    edit(bridge / "dataset_info.json", change)
    source = rlds(bridge)
    with pytest.raises(RunError, match=rf"holds 25 records, dataset_info\.json lists {listed}: {25 - listed} episodes"):
        source.open(ref_of(source, "bridge-train-000000"))
    source.open(ref_of(source, "bridge-val-000000")).close()


def lerobot(root: Path, **info: Any) -> LeRobotSource:
    """Three lists of episodes, one episode each, as after two additions."""
    shared = Shared(root).write()
    columns = shared.episodes()
    for number in range(3):
        own = {name: list(values)[number : number + 1] for name, values in columns.items()}
        shared.save(f"meta/episodes/chunk-000/file-{number:03d}.parquet", own)
    edit(root / "meta/info.json", lambda content: content.update(info))
    return shared.source


@pytest.mark.parametrize("lost", [0, 1, 2])
def test_a_lost_list_of_episodes_stops_the_build(tmp_path: Path, lost: int) -> None:
    source = lerobot(tmp_path)
    assert len(source.index().refs) == 3
    (tmp_path / f"meta/episodes/chunk-000/file-{lost:03d}.parquet").unlink()
    with pytest.raises(RunError, match=r"lists 2 episodes .* declares 3 episodes and the tables hold 15 rows"):
        source.index()


def test_a_wrong_number_alone_is_no_loss(tmp_path: Path) -> None:
    """Published sets declare wrong numbers, and hold rows that are nobody's."""
    assert len(lerobot(tmp_path / "a", total_episodes=300).index().refs) == 3
    source = lerobot(tmp_path / "b", total_episodes=2)
    (tmp_path / "b/meta/episodes/chunk-000/file-002.parquet").unlink()
    assert len(source.index().refs) == 2


def test_a_folder_that_does_not_answer_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As on a mount whose server is gone, where every look at a file waits."""
    over, real = threading.Event(), Path.resolve

    def resolve(path: Path, strict: bool = False) -> Path:
        if "mount" in path.parts:
            over.wait(60)
        return real(path, strict)

    monkeypatch.setattr(Path, "resolve", resolve)
    monkeypatch.setattr(places, "PATIENCE_S", 0.3)
    started = time.monotonic()
    with pytest.raises(SettingsError, match=r"source\.root=.*mount.* does not answer for 0\.3 seconds"):
        places.raw_root(tmp_path / "mount" / "data", "source.root")
    assert time.monotonic() - started < 5
    over.set()
    assert places.raw_root(tmp_path / "data", "source.root") == str(tmp_path / "data")


@pytest.mark.parametrize("length", [10**6 + 1, 2 * 10**9, 10**30])
def test_a_length_that_no_episode_has_costs_it_alone(tmp_path: Path, length: int) -> None:
    dataset = Dataset(tmp_path / "set").write()
    dataset.write_lines(
        "episodes",
        [{"episode_index": 0, "tasks": [], "length": 6}, {"episode_index": 1, "tasks": [], "length": length}],
    )
    index = dataset.source().index()
    assert [ref.id for ref in index.refs] == ["toy-000000"]
    assert [(entry.episode, entry.reason) for entry in index.left_out] == [("toy-000001", "bad-entry")]
    assert raw_of(dataset.source()).problem_of("toy-000001")


def test_metadata_that_is_nested_beyond_reason_is_named(tmp_path: Path) -> None:
    dataset = Dataset(tmp_path / "set").write()
    (dataset.root / "meta/info.json").write_text("[" * 100_000)
    with pytest.raises(RunError, match=r"info\.json is not valid JSON"):
        dataset.source().index()
