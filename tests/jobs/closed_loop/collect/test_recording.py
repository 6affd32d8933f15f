"""Demonstrations through files: what the ordinary sources read is what was recorded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow.parquet as pq
import pytest

from jobs.closed_loop.collect.recording import (
    Recording,
    encode_png,
    read_recording,
    write_lerobot_demonstrations,
    write_libero_demonstrations,
    write_recording,
)
from jobs.datasets.manifests import load_manifests
from jobs.latent_probes.features import read_truth
from pipeline.errors import RunError
from pipeline.sources.base import Source
from pipeline.sources.registry import make_source

SIZE = 32


def answer(seed: int, count: int = 5) -> dict[str, Any]:
    """Noise in every number and pixel; the gripper's label is -1 or 1."""
    rng = np.random.default_rng(seed)
    actions = rng.uniform(-1, 1, (count, 7)).astype(np.float32)
    actions[:, 6] = np.where(np.arange(count) < 3, -1, 1)
    cameras = ("agentview", "robot0_eye_in_hand")
    return {
        "frames": {name: rng.integers(0, 256, (count, SIZE, SIZE, 3)).astype(np.uint8) for name in cameras},
        "state": rng.normal(size=(count, 8)).astype(np.float32),
        "actions": actions,
        "executed": (actions / 2).astype(np.float32),
        "place": np.array([0.25, seed, 0.9], np.float32),
        "success": True,
    }


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    found = []
    for task, seed in (("lift_it", 0), ("lift_it", 2), ("drop_it", 1)):
        path = tmp_path / "episodes" / task / f"{seed:06d}.npz"
        write_recording(path, Recording.of(answer(seed, 5 + seed), task.replace("_", " "), task, seed))
        found.append(path)
    return found


def check(source: Source, views: tuple[str, str], seeds: list[int]) -> None:
    """Every episode holds its seed's images, states and actions; actions in metres, radians, 1 open."""
    index = source.index()
    assert index.left_out == ()
    assert (index.views, index.state_dim, index.action_dim, index.fps) == (views, 8, 7, 10)
    for ref, seed in zip(index.refs, seeds, strict=True):
        wanted = answer(seed, 5 + seed)
        count = len(wanted["state"])
        scaled = wanted["actions"] * np.array([0.05] * 3 + [0.5] * 3 + [1], np.float32)
        scaled[:, 6] = wanted["actions"][:, 6] < 0
        with source.open(ref) as episode:
            assert episode.num_frames == count
            assert episode.instruction(0) == ("drop it" if seed == 1 else "lift it")
            for view, frames in zip(views, wanted["frames"].values(), strict=True):
                np.testing.assert_array_equal(episode.frames(view, range(count)), frames)
            np.testing.assert_array_equal([episode.state(i) for i in range(count)], wanted["state"])
            np.testing.assert_allclose(episode.actions(0, count), scaled, rtol=1e-6)


def test_the_lerobot_folder_reads_as_recorded(paths: list[Path], tmp_path: Path) -> None:
    root = tmp_path / "lerobot"
    write_lerobot_demonstrations(root, paths, SIZE, 10)
    reader = {**load_manifests()["libero_scripted"].reader, "name": "s", "root": str(root)}
    check(make_source(**reader), ("agentview", "wrist"), [0, 2, 1])
    table = pq.read_table(root / "data/chunk-000/episode_000001.parquet", partitioning=None)
    np.testing.assert_array_equal(np.array(table["action.executed"].to_pylist()), answer(2, 7)["executed"])
    assert table["index"].to_pylist() == list(range(5, 12))
    kinds = json.loads(table.schema.metadata[b"huggingface"])["info"]["features"]
    assert kinds["observation.images.wrist"] == {"_type": "Image"}
    assert kinds["action"]["length"] == 7
    info = json.loads((root / "meta/info.json").read_bytes())
    assert list(kinds) == list(info["features"])
    assert (info["total_frames"], info["total_videos"], info["total_tasks"]) == (18, 0, 2)
    stats = json.loads((root / "meta/episodes_stats.jsonl").read_text().splitlines()[0])["stats"]
    assert set(stats) == set(info["features"])
    facts = read_truth(root / "truth.jsonl")
    assert facts["000001"] == {"named_x": 0.25, "named_y": 2.0}
    assert list(facts) == ["000000", "000001", "000002"]
    mean = answer(0)["frames"]["agentview"].mean((0, 1, 2)) / 255
    np.testing.assert_allclose(np.ravel(stats["observation.images.agentview"]["mean"]), mean)


def test_the_hdf5_files_read_as_recorded(paths: list[Path], tmp_path: Path) -> None:
    root = tmp_path / "hdf5"
    write_libero_demonstrations(root, "libero_toy", paths, 10)
    reader = {**load_manifests()["libero_hdf5"].reader, "name": "h", "root": str(root), "action_lag": 0, "fps": 10}
    check(make_source(**reader), ("agentview_rgb", "eye_in_hand_rgb"), [1, 0, 2])  # by name: drop_it, lift_it
    with h5py.File(root / "libero_toy/lift_it_demo.hdf5") as file:
        attributes = file["data"].attrs
        assert (attributes["action_lag"], attributes["fps"], attributes["num_demos"]) == (0, 10, 2)
        np.testing.assert_array_equal(file["data/demo_1/actions_executed"], answer(2, 7)["executed"])
    assert "source.action_lag=0" in (root / "README.txt").read_text()


def test_a_recording_from_before_places_were_kept_has_none(paths: list[Path], tmp_path: Path) -> None:
    with np.load(paths[1]) as stored:
        arrays = {name: stored[name] for name in stored.files if name != "place"}
    np.savez(paths[1], **arrays)  # type: ignore[arg-type]
    assert np.isnan(read_recording(paths[1]).place).all()
    write_lerobot_demonstrations(tmp_path / "lerobot", paths, SIZE, 10)
    assert list(read_truth(tmp_path / "lerobot" / "truth.jsonl")) == ["000000", "000002"]


def test_a_recording_comes_back_from_its_file(paths: list[Path]) -> None:
    found, wanted = read_recording(paths[1]), answer(2, 7)
    assert (found.instruction, found.task, found.seed) == ("lift it", "lift_it", 2)
    np.testing.assert_array_equal(found.executed, wanted["executed"])
    np.testing.assert_array_equal(found.frames("agentview", [6, 1]), wanted["frames"]["agentview"][[6, 1]])
    assert found.images["agentview"][0] == encode_png(wanted["frames"]["agentview"][0])
    paths[1].write_bytes(paths[1].read_bytes()[:-100])
    with pytest.raises(RunError, match=r"000002\.npz cannot be read .* remove it"):
        read_recording(paths[1])


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("actions", np.zeros((5, 6), np.float32), r"actions is no finite \[5, 7\], got \[5, 6\]"),
        ("state", np.full((5, 8), np.nan, np.float32), r"state is no finite \[5, 8\]"),
        ("frames", {"agentview": answer(0)["frames"]["agentview"]}, "of the camera robot0_eye_in_hand"),
    ],
)
def test_what_is_no_recording_is_refused(name: str, value: Any, message: str) -> None:
    with pytest.raises(RunError, match=message):
        Recording.of({**answer(0), name: value}, "lift it", "lift_it", 0)
