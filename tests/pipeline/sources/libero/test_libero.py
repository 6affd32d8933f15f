"""LIBERO's HDF5 files: images the right way up, each action beside the observation it was chosen for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from pipeline.audit.raw.base import RawError
from pipeline.errors import EpisodeError, RunError, SettingsError
from pipeline.sources.libero.source import LiberoSource
from pipeline.sources.naming import hashed_split
from pipeline.sources.registry import make_source
from tests.pipeline.sources.both_readers import raw_of, read_by_both
from tests.pipeline.spelled import read, spell

TASK = "KITCHEN_SCENE4_put_the_black_bowl_in_the_bottom_drawer_of_the_cabinet_and_close_it_demo"
SENTENCE = "put the black bowl in the drawer"


def write_task(
    path: Path, demos: dict[str, int], convention: str | None = "opengl", instruction: Any = SENTENCE
) -> Path:
    """A file as LIBERO writes it. Row i of a demonstration shows i (wrist: i + 100), stored bottom row first; its state
    is i, and its action i - 1: it was carried out before the image was taken."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        data.attrs["problem_info"] = json.dumps({"language_instruction": instruction})
        if convention is not None:
            data.attrs["macros_image_convention"] = convention
        for name, length in demos.items():
            obs = data.create_group(f"{name}/obs")
            rows = np.arange(length, dtype=np.float64)
            order = slice(None, None, -1 if convention != "opencv" else 1)
            obs["agentview_rgb"] = np.stack([spell(i)[order] for i in range(length)])
            obs["eye_in_hand_rgb"] = np.stack([spell(i + 100)[order] for i in range(length)])
            obs["ee_states"] = np.repeat(rows[:, None], 6, 1)
            obs["gripper_states"] = np.repeat(rows[:, None], 2, 1)
            data[name]["actions"] = np.repeat(rows[:, None] - 1, 7, 1)
            data[name]["dones"] = (rows == length - 1).astype(np.uint8)
    return path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_task(tmp_path / f"libero_10/{TASK}.hdf5", {"demo_0": 6, "demo_2": 5, "demo_10": 4})
    return tmp_path


def source(root: Path, **settings: Any) -> LiberoSource:
    return LiberoSource(root=str(root), name="libero", **settings)


def open_error(root: Path, **settings: Any) -> EpisodeError:
    reader = source(root, **settings)
    with pytest.raises(EpisodeError) as caught:
        reader.open(reader.index().refs[0])
    return caught.value


def test_images_states_and_actions_belong_together(root: Path) -> None:
    index = source(root).index()
    assert (index.views, index.state_dim, index.action_dim, index.fps) == (
        ("agentview_rgb", "eye_in_hand_rgb"),
        8,
        7,
        20,
    )
    assert sorted((ref.data["demo"], ref.num_frames) for ref in index.refs) == [
        ("demo_0", 5),
        ("demo_10", 3),
        ("demo_2", 4),
    ]
    ref = next(ref for ref in index.refs if ref.data["demo"] == "demo_2")
    assert ref.split == hashed_split(ref.id.partition("-")[2], 0, 0.05)
    with source(root).open(ref) as episode:
        assert episode.num_frames == 4
        assert [read(frame) for frame in episode.frames("agentview_rgb", [3, 0])] == [3, 0]
        assert [read(frame) for frame in episode.frames("eye_in_hand_rgb", [1])] == [101]
        state, actions = episode.state(2), episode.actions(0, 4)
        assert state is not None
        assert actions is not None
        assert state.tolist() == [2] * 8
        # Row n+1 of the file is what was done after image n was seen, and led to image n+1.
        assert actions[:, 0].tolist() == [0, 1, 2, 3]
        assert episode.instruction(3) == SENTENCE
        assert episode.timestamps([2]).tolist() == [0.1]


def test_files_that_record_before_the_step(root: Path) -> None:
    reader = source(root, action_lag=0)
    ref = next(ref for ref in reader.index().refs if ref.data["demo"] == "demo_0")
    with reader.open(ref) as episode:
        assert episode.num_frames == 6
        actions = episode.actions(0, 6)
        assert actions is not None
        assert actions[:, 0].tolist() == [-1, 0, 1, 2, 3, 4]


def test_a_file_that_says_its_own_lag_must_agree(root: Path) -> None:
    with h5py.File(root / f"libero_10/{TASK}.hdf5", "r+") as file:
        file["data"].attrs["action_lag"] = 0
    with pytest.raises(SettingsError, match=rf"{TASK}\.hdf5 says action_lag=0 .* set source\.action_lag=0"):
        source(root).index()
    assert len(source(root, action_lag=0).index().refs) == 3
    assert len(source(root, action=()).index().refs) == 3  # nothing is read from rows that could be shifted


@pytest.mark.parametrize("convention", ["opencv", "opengl", None])
def test_the_convention_says_which_way_is_up(tmp_path: Path, convention: str | None) -> None:
    write_task(tmp_path / "task_demo.hdf5", {"demo_0": 4}, convention)
    reader = source(tmp_path)
    with reader.open(reader.index().refs[0]) as episode:
        assert [read(frame) for frame in episode.frames("agentview_rgb", [2])] == [2]


@pytest.mark.parametrize(
    ("instruction", "expected"),
    [
        ([*"open it"], "open it"),
        ('"open it"', "open it"),
        (" open it ", "open it"),
        ("", None),
        (7, None),
        (None, None),
    ],
)
def test_instructions_as_they_are_written(tmp_path: Path, instruction: Any, expected: str | None) -> None:
    write_task(tmp_path / "task_demo.hdf5", {"demo_0": 4}, instruction=instruction)
    write_task(tmp_path / "other_demo.hdf5", {"demo_0": 4})
    index = source(tmp_path).index()
    texts = {ref.id: ref.data["instruction"] for ref in index.refs}
    assert texts.get("libero-task_demo-0000") == expected
    assert [entry.reason for entry in index.left_out] == ([] if expected else ["no-instruction"])


def test_long_names_stay_short_and_apart(root: Path) -> None:
    write_task(root / f"libero_90/{TASK}.hdf5", {"demo_0": 4})
    ids = [ref.id for ref in source(root).index().refs]
    assert len(set(ids)) == 4
    assert all(len(name) + len("-000000.eye_in_hand_rgb.jpg") < 100 for name in ids)


def test_what_is_left_out_costs_itself_alone(root: Path) -> None:
    path = write_task(
        root / "libero_10/odd_demo.hdf5", {"demo_1": 4, "demo_01": 4, "demo_3": 4, "demo_4": 4, "demo_8": 4}
    )
    with h5py.File(path, "a") as file:
        del file["data/demo_3/actions"]
        file["data"].create_group("mask")
        file["data/total"] = np.arange(3)
        file["data/demo_5"] = np.arange(3)
        file["data/demo_6"] = h5py.ExternalLink(f"{TASK}.hdf5", "data/demo_0")
        file["data/demo_7"] = h5py.SoftLink("/data/demo_4")
        file["data/demo_9"] = h5py.ExternalLink("nowhere.hdf5", "data/demo_0")
        del file["data/demo_8/actions"]
        file["data/demo_8/actions"] = h5py.ExternalLink(f"{TASK}.hdf5", "data/demo_0/actions")
    index = source(root).index()
    assert len(index.refs) == 4
    found = {entry.episode.removeprefix("libero-libero_10_odd_demo-"): entry for entry in index.left_out}
    reasons = {entry.episode.rpartition("-")[2]: entry.reason for entry in index.left_out}
    assert reasons == {"0001": "duplicate-id"} | dict.fromkeys(
        ("demo_3", "mask", "total", "demo_5", "demo_6", "demo_7", "demo_8", "demo_9"), "bad-entry"
    )
    details = "\n".join(entry.detail for entry in found.values())
    for why in ("it is a dataset", "it is a link to another place", "it has no actions"):
        assert why in details
    task = next(ref.id for ref in index.refs if "odd" in ref.id).rpartition("-")[0]
    read_by_both(source(root), f"{task}-0004")
    raw = raw_of(source(root))
    for number in (3, 5, 6, 7, 8, 9):
        with pytest.raises(RawError):
            raw.open(f"{task}-{number:04d}")


@pytest.mark.parametrize("share", [0.7, 0.3, 0.02])
def test_a_file_that_was_cut_stops_the_build_and_says_so(root: Path, share: float) -> None:
    """How many demonstrations are lost is unknown: counted as one of many they would go unseen."""
    path = write_task(root / "libero_10/cut_demo.hdf5", dict.fromkeys(("demo_0", "demo_1"), 6))
    size = path.stat().st_size
    path.write_bytes(path.read_bytes()[: int(share * size)])
    with pytest.raises(
        RunError, match=rf"cut_demo\.hdf5: the file was cut: it has {int(share * size)} bytes, .*{size}"
    ):
        source(root).index()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "broken_demo"),
        (b"\x89HDF\r\n\x1a\n nothing", "How many demonstrations are lost"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n", "run git lfs pull"),
    ],
)
def test_a_file_that_is_none_stops_the_build(root: Path, content: bytes, message: str) -> None:
    (root / "libero_10/broken_demo.hdf5").write_bytes(content)
    with pytest.raises(RunError, match=message):
        source(root).index()


def test_demonstrations_of_a_file_without_a_text_are_counted_one_by_one(root: Path) -> None:
    path = write_task(root / "mute_demo.hdf5", {"demo_0": 4, "demo_1": 4, "demo_2": 4})
    with h5py.File(path, "a") as file:
        del file["data"].attrs["problem_info"]
    left_out = source(root).index().left_out
    assert [entry.episode for entry in left_out] == [f"libero-mute_demo-000{i}" for i in range(3)]
    assert {entry.reason for entry in left_out} == {"no-instruction"}
    assert "mute_demo.hdf5: data has no attribute problem_info" in left_out[0].detail


MASKS: dict[str, tuple[dict[str, list[str]], list[str] | None]] = {
    "train and valid": ({"train": ["demo_0", "demo_2"], "valid": ["demo_10"]}, ["train", "train", "val"]),
    "with others": (
        {"train": ["demo_0"], "valid": ["demo_2", "demo_10"], "20_percent": ["demo_0"]},
        ["train", "val", "val"],
    ),
    "one in both": ({"train": ["demo_0", "demo_2"], "valid": ["demo_2", "demo_10"]}, None),
    "one in none": ({"train": ["demo_0"], "valid": ["demo_10"]}, None),
    "train alone": ({"train": ["demo_0", "demo_2", "demo_10"]}, None),
}


@pytest.mark.parametrize("case", MASKS)
def test_masks_of_a_file_are_its_splits(root: Path, case: str) -> None:
    masks, expected = MASKS[case]
    with h5py.File(root / f"libero_10/{TASK}.hdf5", "a") as file:
        for name, demos in masks.items():
            file[f"mask/{name}"] = np.array(demos, "S8")
    reader = source(root, val_share=0.4)
    index = reader.index()
    splits = {ref.data["demo"]: ref.split for ref in index.refs}
    hashed = [hashed_split(ref.id.removeprefix("libero-"), 0, 0.4) for ref in sorted(index.refs, key=lambda r: r.id)]
    assert [splits[name] for name in ("demo_0", "demo_2", "demo_10")] == (expected or hashed)
    assert index.description["splits_from"] == ("mask of the files" if expected else reader.splits_from)
    for ref in index.refs:
        read_by_both(reader, ref.id)


@pytest.mark.parametrize(
    ("name", "values", "reason"),
    [
        ("actions", np.zeros((4, 7)), "length-mismatch"),
        ("obs/ee_states", np.zeros((9, 6)), "length-mismatch"),
        ("obs/agentview_rgb", np.zeros((6, 8, 8, 3), np.uint8), "blank-camera"),
        ("obs/agentview_rgb", np.ones((6, 8, 8), np.uint8), "bad-table"),
        ("obs/agentview_rgb", np.ones((6, 8, 8, 3), np.float32), "bad-table"),
        ("obs/gripper_states", np.full((6, 2), np.nan), "not-finite"),
        ("obs/agentview_rgb", None, "undecodable"),
    ],
)
def test_demonstrations_that_cannot_be_used(tmp_path: Path, name: str, values: Any, reason: str) -> None:
    path = write_task(tmp_path / "task_demo.hdf5", {"demo_0": 6})
    with h5py.File(path, "a") as file:
        del file[f"data/demo_0/{name}"]
        if values is not None:
            file[f"data/demo_0/{name}"] = values
    error = open_error(tmp_path)
    assert error.reason == reason
    assert "task_demo.hdf5" in error.detail


def test_what_is_refused(root: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="state: 'obs/pose' is no vector"):
        source(root, state=("obs/pose",)).index()
    with pytest.raises(RunError, match=r"holds no \.hdf5 file"):
        source(root / "none").index()
    for settings in ({"action_lag": 2}, {"fps": 0}, {"cameras": ()}, {"val_share": 1.0}):
        with pytest.raises(SettingsError, match="must be"):
            make_source("libero", root=str(root), name="libero", **settings)
