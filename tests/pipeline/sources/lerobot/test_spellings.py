"""What other tools write of the same facts is read all the same, by the pipeline and by the audit."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from pipeline.errors import EpisodeError, RunError, SettingsError
from pipeline.sources.naming import hashed_split
from tests.pipeline.sources.both_readers import raw_of, read_by_both, ref_of, refused_by_both
from tests.pipeline.sources.lerobot.test_lerobot import CAMERA, FRONT, WRIST, Dataset
from tests.pipeline.sources.lerobot.test_lerobot_v3 import Shared
from tests.pipeline.spelled import read

EPISODES = "meta/episodes/chunk-000/file-000.parquet"
VIDEO_KEYS = (f"videos/{FRONT}/chunk_index", f"videos/{FRONT}/file_index")


@pytest.mark.parametrize(
    "change",
    [
        lambda e: {
            name: pa.array(e[name], pa.float64()) for name in ("data/chunk_index", "data/file_index", *VIDEO_KEYS)
        },
        lambda e: {name: pa.array(e[name], pa.float64()) for name in ("episode_index", "length", "dataset_from_index")},
        lambda e: {name: pa.array(e[name], pa.int8()) for name in ("data/chunk_index", "data/file_index", *VIDEO_KEYS)},
        lambda e: {
            name: pa.array(np.asarray(e[name], np.uint64)) for name in ("dataset_from_index", "dataset_to_index")
        },
    ],
    ids=["files as floats", "numbers as floats", "small numbers", "unsigned"],
)
def test_numbers_of_any_type(tmp_path: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    shared = Shared(tmp_path).write()
    shared.save(EPISODES, shared.episodes() | change(shared.episodes()))
    for number, start in enumerate(shared.starts):
        assert read(read_by_both(shared.source, f"toy-{number:06d}")["front"][0]) == start


@pytest.mark.parametrize("kind", [pa.int64(), pa.int32(), pa.float32()])
def test_a_time_that_is_a_whole_number(tmp_path: Path, kind: pa.DataType) -> None:
    """Twelve frames a second: an episode of twelve frames ends after one second."""
    shared = Shared(tmp_path, lengths=(12, 12, 4))
    shared.changed = {f"videos/{FRONT}/from_timestamp": pa.array([0, 1, 2], kind)}
    shared.write()
    assert read(read_by_both(shared.source, "toy-000001")["front"][0]) == 12


TEXTS = ["lift the cup", "push the cup"]


@pytest.mark.parametrize(
    "texts",
    [
        pa.array(TEXTS).dictionary_encode(),
        pa.array(TEXTS, pa.string_view()),
        pa.array(TEXTS, pa.large_string()),
        pa.array(TEXTS, pa.large_string()).dictionary_encode(),
    ],
    ids=["dictionary", "view", "large", "large dictionary"],
)
@pytest.mark.parametrize("name", ["task", "__index_level_0__"])
def test_texts_in_any_layout(tmp_path: Path, texts: pa.Array, name: str) -> None:
    shared = Shared(tmp_path).write()
    shared.save("meta/tasks.parquet", {"task_index": [0, 1], name: texts})
    assert read_by_both(shared.source, "toy-000001")["texts"] == ["push the cup"] * 5


def nested(values: np.ndarray) -> pa.Array:
    """Each row as a list of one list."""
    return pa.array([[row.tolist()] for row in values.astype(np.float32)], pa.list_(pa.list_(pa.float32())))


VECTORS: dict[str, tuple[dict[str, Any], Callable[[np.ndarray], pa.Array]]] = {
    "float16": (
        {"dtype": "float16", "shape": [2]},
        lambda v: pa.array(list(v.astype(np.float16)), pa.list_(pa.float16())),
    ),
    "int8": ({"dtype": "int8", "shape": [2]}, lambda v: pa.array(v.astype(int).tolist(), pa.list_(pa.int8()))),
    "bool": ({"dtype": "bool", "shape": [2]}, lambda v: pa.array((v % 2 > 0).tolist(), pa.list_(pa.bool_()))),
    "[1, 2]": ({"dtype": "float32", "shape": [1, 2]}, nested),
    "2": ({"dtype": "float32", "shape": 2}, lambda v: pa.array(v.astype(np.float32).tolist(), pa.list_(pa.float32()))),
}


@pytest.mark.parametrize("case", VECTORS)
def test_vectors_of_any_type_and_shape(tmp_path: Path, case: str) -> None:
    feature, stored = VECTORS[case]
    dataset = Dataset(tmp_path / "set").write()
    dataset.info["features"] = dataset.info["features"] | {"observation.state": feature}
    (dataset.root / "meta/info.json").write_text(json.dumps(dataset.info))
    values = np.stack([np.arange(6), np.arange(6) + 1], 1).astype(float)
    dataset.write_table(0, dataset.columns(0, 6) | {"observation.state": stored(values)})
    expected = values % 2 if case == "bool" else values
    assert read_by_both(dataset.source(), "toy-000000")["state"].tolist() == expected.tolist()


def test_a_null_row_is_named(tmp_path: Path) -> None:
    dataset = Dataset(tmp_path / "set").write()
    rows: list[Any] = [[0.0, 1.0], [1.0, 1.0], [2.0, 1.0], None, [4.0, 1.0], [5.0, None]]
    dataset.write_table(0, dataset.columns(0, 6) | {"observation.state": pa.array(rows, pa.list_(pa.float32()))})
    error = refused_by_both(dataset.source(), "toy-000000")
    assert error.reason == "bad-table"
    assert "observation.state does not hold 6 x 2 numbers; it is list<element: float> and null at row 3" in error.detail


def test_metadata_with_a_byte_order_mark(tmp_path: Path) -> None:
    dataset = Dataset(tmp_path / "set").write()
    for name in ("info.json", "tasks.jsonl", "episodes.jsonl"):
        path = dataset.root / "meta" / name
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert len(read_by_both(dataset.source(), "toy-000000")["front"]) == 6


def test_a_set_without_a_list_of_its_episodes(tmp_path: Path) -> None:
    dataset = Dataset(tmp_path / "set", lengths=(6, 5, 4)).write()
    (dataset.root / "meta/episodes.jsonl").unlink()
    (dataset.root / "data/chunk-000/episode_000001.parquet").unlink()
    index = dataset.source().index()
    assert [ref.num_frames for ref in index.refs] == [None, None]
    assert any("no meta/episodes.jsonl" in note for note in index.notes)
    assert len(read_by_both(dataset.source(), "toy-000002")["front"]) == 4
    for path in (dataset.root / "data/chunk-000").iterdir():
        path.unlink()
    with pytest.raises(RunError, match=r"episodes\.jsonl: no such file, and no table"):
        dataset.source().index()


# --- splits ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("numbers", "splits", "expected"),
    [
        ([*range(6), *range(8, 12)], {"train": "0:10", "val": "10:12"}, "tttttt" + "ttvv"),
        ([*range(6), *range(8, 12)], {"train": "0:6", "val": "6:10", "test": "10:12"}, "tttttt" + "vvee"),
        ([2, 3, 7], {"val": "0:3", "train": "3:1000"}, "vtt"),
        ([0, 1, 5], {"train": "0:2", "val": "2:3"}, None),
        ([0, 1, 2], {"train": "0:2", "val": "2:3", "test": "3:3"}, "ttv"),
        ([0, 1, 2], {"train": "0:2", "val": "1:3"}, None),
        ([0, 1, 2], {"train": "2:0", "val": "0:3"}, None),
    ],
)
def test_splits_are_ranges_of_episode_numbers(
    tmp_path: Path, numbers: list[int], splits: dict[str, str], expected: str | None
) -> None:
    dataset = Dataset(tmp_path / "set", lengths=()).write()
    dataset.info["splits"] = splits
    dataset.info["features"] = {key: value for key, value in dataset.info["features"].items() if key != WRIST}
    (dataset.root / "meta/info.json").write_text(json.dumps(dataset.info))
    dataset.write_lines("episodes", [{"episode_index": n, "tasks": [], "length": 4} for n in numbers])
    for number in numbers:
        dataset.write_table(number, dataset.columns(number, 4))
        dataset.video(FRONT, number).parent.mkdir(parents=True, exist_ok=True)
        dataset.video(FRONT, number).write_bytes(b"not opened here")
    source = dataset.source(val_share=0.4)
    found = {ref.id: ref.split for ref in source.index().refs}
    names = {"t": "train", "v": "val", "e": "test"}
    wanted = [names[letter] for letter in expected or ""] or [hashed_split(f"{n:06d}", 0, 0.4) for n in numbers]
    raw = raw_of(source)
    for number, split in zip(numbers, wanted, strict=True):
        assert (found[f"toy-{number:06d}"], raw.split_of(f"toy-{number:06d}")) == (split, split)


# --- depth -----------------------------------------------------------------------------------------------------------

DEPTH = [
    {"info": {"is_depth_map": True}},
    {"info": {"video.is_depth_map": True}},
    {"video_info": {"video.is_depth_map": True}},
    {"info": {"video.pix_fmt": "gray12le", "is_depth_map": False}},
    {"info": {"video.pix_fmt": "gray16le"}},
    {"is_depth_map": True},
]


@pytest.mark.parametrize("more", DEPTH)
@pytest.mark.parametrize("kind", ["video", "image"])
def test_a_depth_camera_is_no_view(tmp_path: Path, more: dict[str, Any], kind: str) -> None:
    dataset = Dataset(tmp_path / "set").write()
    feature = {"dtype": kind, "shape": [64, 96, 1], **more}
    dataset.info["features"] = dataset.info["features"] | {"observation.images.wrist.left": feature}
    (dataset.root / "meta/info.json").write_text(json.dumps(dataset.info))
    index = dataset.source().index()
    assert index.views == ("front",)
    assert index.notes == ("observation.images.wrist.left is a depth map and no view",)
    assert set(read_by_both(dataset.source(), "toy-000000")) == {"front", "texts", "state", "actions"}
    assert set(raw_of(dataset.source()).open("toy-000000").frame_readers) == {"front"}
    with pytest.raises(SettingsError, match=r"observation.images.wrist.left hold depth, which is no view"):
        dataset.source(cameras=("wrist_left",)).index()


@pytest.mark.parametrize("more", [{"info": {"is_depth_map": False}}, {"info": {"video.pix_fmt": "gray"}}, {}])
def test_a_grey_camera_is_a_view(tmp_path: Path, more: dict[str, Any]) -> None:
    dataset = Dataset(tmp_path / "set").write()
    dataset.info["features"] = dataset.info["features"] | {WRIST: {**CAMERA, **more}}
    (dataset.root / "meta/info.json").write_text(json.dumps(dataset.info))
    assert dataset.source().index().views == ("front", "wrist_left")


def test_a_git_lfs_pointer_says_what_to_run(tmp_path: Path) -> None:
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n"
    dataset = Dataset(tmp_path / "set").write()
    table = dataset.root / "data/chunk-000/episode_000000.parquet"
    for path in (table, dataset.video(FRONT, 1)):
        path.write_bytes(pointer)
    for number, path in enumerate((table, dataset.video(FRONT, 1))):
        with pytest.raises(EpisodeError, match="run git lfs pull") as caught:
            dataset.source().open(ref_of(dataset.source(), f"toy-{number:06d}"))
        assert str(path) in caught.value.detail
    (dataset.root / "meta/info.json").write_bytes(pointer)
    with pytest.raises(RunError, match=r"info\.json is a Git LFS pointer"):
        dataset.source().index()


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["x", "y"], ("x", "y")),
        ([["x", "y"]], ("x", "y")),
        ({"motors": ["x", "y"]}, ("x", "y")),
        ({"axes": ["x"], "gripper": ["y\x1b[2J"]}, ("x", r"y\x1b[2J")),
        (["x"], ("observation.state[0]", "observation.state[1]")),
        (["x", 2], ("observation.state[0]", "observation.state[1]")),
        (None, ("observation.state[0]", "observation.state[1]")),
    ],
)
def test_channels_have_the_names_that_the_set_declares(tmp_path: Path, names: Any, expected: tuple[str, ...]) -> None:
    dataset = Dataset(tmp_path / "set").write()
    features = dataset.info["features"]
    features |= {"observation.state": features["observation.state"] | {"names": names}}
    (dataset.root / "meta/info.json").write_text(json.dumps(dataset.info))
    source = dataset.source(state=("observation.state",), action=({"field": "action", "take": [1, 2]},))
    index = source.index()
    assert index.state_names == expected
    assert index.action_names == ("action[1]",)


def test_channels_that_the_state_does_not_take_are_compared_with(tmp_path: Path) -> None:
    dataset = Dataset(tmp_path / "set").write()
    source = dataset.source(state=({"field": "observation.state", "take": [1, 2]},))
    others = {other.name: other.values for other in raw_of(source).open("toy-000000").others}
    np.testing.assert_array_equal(others["observation.state"], np.arange(6.0)[:, None])
    whole = raw_of(dataset.source(state=("observation.state",))).open("toy-000000")
    assert "observation.state" not in {other.name for other in whole.others}
