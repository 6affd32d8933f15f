"""LeRobot v2.x: real episodes, and what published sets get wrong."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.errors import EpisodeError, RunError, SettingsError
from pipeline.sources.base import SourceIndex
from pipeline.sources.lerobot.source import LeRobotSource
from pipeline.sources.naming import hashed_split
from pipeline.sources.registry import make_source
from tests.pipeline.spelled import png, read, write_spelled

FRONT, WRIST = "observation.images.front", "observation.images.wrist.left"
VECTOR = {"dtype": "float32", "shape": [2], "names": None}
CAMERA = {"dtype": "video", "shape": [64, 96, 3], "names": ["height", "width", "channel"]}


def info(**more: Any) -> dict[str, Any]:
    return {
        "codebase_version": "v2.1",
        "fps": 12,
        "chunks_size": 1000,
        "splits": {"train": "0:100"},
        "data_path": "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet",
        "video_path": "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4",
        "features": {FRONT: CAMERA, WRIST: CAMERA, "observation.state": VECTOR, "action": VECTOR},
        **more,
    }


@dataclass
class Dataset:
    """A small set on disk: frame i of camera c spells i + 100 c; state [i, episode], action [-i, episode]."""

    root: Path
    lengths: tuple[int, ...] = (6, 5)
    info: dict[str, Any] = field(default_factory=info)

    def write(self) -> Dataset:
        (self.root / "meta").mkdir(parents=True)
        (self.root / "meta/info.json").write_text(json.dumps(self.info))
        self.write_lines("tasks", [{"task_index": 0, "task": "valid"}, {"task_index": 1, "task": "lift the cup"}])
        episodes = [
            {"episode_index": e, "tasks": ["lift the cup", "valid"], "length": n} for e, n in enumerate(self.lengths)
        ]
        self.write_lines("episodes", episodes)
        for episode, length in enumerate(self.lengths):
            self.write_table(episode, self.columns(episode, length))
            for camera, key in enumerate((FRONT, WRIST)):
                self.write_video(key, episode, range(100 * camera, 100 * camera + length))
        return self

    def write_lines(self, name: str, rows: list[Any]) -> None:
        lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
        (self.root / f"meta/{name}.jsonl").write_text("\n".join(lines) + "\n")

    def columns(self, episode: int, length: int) -> dict[str, pa.Array]:
        frames = np.arange(length)
        state = np.stack([frames, np.full(length, episode)], 1).astype(np.float32)
        return {
            "observation.state": fixed(state),
            "action": fixed(state * (-1, 1)),
            "timestamp": pa.array((frames / 12 + 0.05).astype(np.float32)),
            "frame_index": pa.array(frames),
            "episode_index": pa.array(np.full(length, episode)),
            "task_index": pa.array(np.where(frames < 3, 1, 0)),
        }

    def write_table(self, episode: int, columns: dict[str, pa.Array]) -> None:
        path = self.root / f"data/chunk-000/episode_{episode:06d}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table(columns), path)

    def video(self, key: str, episode: int) -> Path:
        return self.root / f"videos/chunk-000/{key}/episode_{episode:06d}.mp4"

    def write_video(self, key: str, episode: int, numbers: range, black: bool = False) -> None:
        path = self.video(key, episode)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_spelled(path.parent, "h264.mp4", numbers, black=black).rename(path)

    def source(self, **settings: Any) -> LeRobotSource:
        return LeRobotSource(root=str(self.root), name="toy", **settings)


def fixed(values: np.ndarray, kind: pa.DataType | None = None) -> pa.Array:
    flat = pa.array(np.asarray(values, np.float32).ravel(), kind or pa.float32())
    return pa.FixedSizeListArray.from_arrays(flat, values.shape[1])


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    return Dataset(tmp_path / "set").write()


def ref_of(index: SourceIndex, number: int) -> Any:
    return next(ref for ref in index.refs if ref.id == f"toy-{number:06d}")


def open_error(dataset: Dataset, number: int = 0, **settings: Any) -> EpisodeError:
    source = dataset.source(**settings)
    with pytest.raises(EpisodeError) as caught:
        source.open(ref_of(source.index(), number))
    return caught.value


def test_real_episodes(shared_data: Path) -> None:
    source = LeRobotSource(root=str(shared_data / "lerobot_v21/unitree_g1_inspire_bottle"), name="g1")
    index = source.index()
    assert (index.views, index.state_dim, index.action_dim, index.fps) == (("cam_high",), 26, 26, 30.0)
    assert [(ref.id, ref.num_frames) for ref in index.refs] == [
        ("g1-000000", 221),
        ("g1-000001", 277),
        ("g1-000002", 280),
    ]
    assert index.left_out == ()
    for ref in index.refs:
        assert ref.split == hashed_split(ref.id.partition("-")[2], 0, 0.05)
        with source.open(ref) as episode:
            assert episode.num_frames == ref.num_frames
            last = episode.num_frames - 1
            assert episode.instruction(last) == "Pick up the yellow bottle on the table."
            assert episode.frames("cam_high", [last, 0]).shape == (2, 480, 640, 3)
            state, actions = episode.state(last), episode.actions(last - 6, last + 1)
            assert state is not None
            assert actions is not None
            assert state.dtype == np.float32
            assert state.shape == (26,)
            assert actions.shape == (7, 26)
            assert episode.timestamps([30]).tolist() == pytest.approx([1.0])


def test_real_v3_episodes_equal_those_of_v21(shared_data: Path) -> None:
    old = LeRobotSource(root=str(shared_data / "lerobot_v21/unitree_g1_inspire_bottle"), name="g1")
    new = LeRobotSource(root=str(shared_data / "lerobot_v30/unitree_g1_inspire_bottle"), name="g1")
    index = new.index()
    assert (index.description["version"], [ref.num_frames for ref in index.refs]) == ("v3.0", [221, 277])
    for before, after in zip(old.index().refs, index.refs, strict=False):
        with old.open(before) as a, new.open(after) as b:
            assert a.num_frames == b.num_frames
            for frame in (0, 1, 100, b.num_frames - 1):
                np.testing.assert_array_equal(a.frames("cam_high", [frame]), b.frames("cam_high", [frame]))
                np.testing.assert_array_equal(a.state(frame), b.state(frame))
                assert a.instruction(frame) == b.instruction(frame)
            np.testing.assert_array_equal(a.actions(0, a.num_frames), b.actions(0, b.num_frames))
            np.testing.assert_allclose(a.timestamps([7, 200]), b.timestamps([7, 200]), atol=1e-6)


def test_rows_and_frames_belong_together(dataset: Dataset) -> None:
    source = dataset.source()
    index = source.index()
    assert index.views == ("front", "wrist_left")
    with source.open(ref_of(index, 1)) as episode:
        assert episode.num_frames == 5
        for frame in (4, 0, 2):
            assert [read(f) for f in episode.frames("front", [frame])] == [frame]
            assert [read(f) for f in episode.frames("wrist_left", [frame])] == [100 + frame]
            state = episode.state(frame)
            assert state is not None
            assert state.tolist() == [frame, 1]
        actions = episode.actions(1, 4)
        assert actions is not None
        assert actions.tolist() == [[-1, 1], [-2, 1], [-3, 1]]
        # The table's clock starts at 0.05 s; the video's does not.
        assert episode.timestamps([0, 3]).tolist() == pytest.approx([0, 0.25])


def test_the_column_names_the_instruction_frame_by_frame(dataset: Dataset) -> None:
    source = dataset.source()
    with source.open(ref_of(source.index(), 0)) as episode:
        assert [episode.instruction(i) for i in (0, 2, 3)] == ["lift the cup", "lift the cup", "valid"]


@pytest.mark.parametrize("text", ["", "   ", None])
def test_an_empty_task_is_no_instruction(dataset: Dataset, text: str | None) -> None:
    dataset.write_lines("tasks", [{"task_index": 0, "task": "valid"}, {"task_index": 1, "task": text}])
    source = dataset.source()
    with source.open(ref_of(source.index(), 0)) as episode:
        assert episode.instruction(3) == "valid"
        with pytest.raises(EpisodeError) as caught:
            episode.instruction(0)
    assert caught.value.reason == "no-instruction"


def test_without_the_column_only_a_single_task_counts(dataset: Dataset) -> None:
    for episode, tasks in ((0, ["stack"]), (1, ["stack", "unstack"])):
        columns = dataset.columns(episode, dataset.lengths[episode])
        del columns["task_index"]
        dataset.write_table(episode, columns)
        rows = [{"episode_index": e, "tasks": tasks, "length": n} for e, n in enumerate(dataset.lengths)]
        dataset.write_lines("episodes", rows)
        source = dataset.source()
        with source.open(ref_of(source.index(), episode)) as opened:
            if len(tasks) == 1:
                assert opened.instruction(0) == "stack"
            else:
                with pytest.raises(EpisodeError, match="unstack"):
                    opened.instruction(0)


LISTS: dict[str, Callable[[np.ndarray], pa.Array]] = {
    "fixed float64": lambda v: fixed(v, pa.float64()),
    "plain float32": lambda v: pa.array(v.tolist(), pa.list_(pa.float32())),
    "large float64": lambda v: pa.array(v.tolist(), pa.large_list(pa.float64())),
    "integers": lambda v: pa.array(v.astype(int).tolist(), pa.list_(pa.int64())),
}


@pytest.mark.parametrize("kind", LISTS)
def test_all_ways_to_store_a_vector(dataset: Dataset, kind: str) -> None:
    columns = dataset.columns(0, 6)
    state = np.stack([np.arange(6), np.zeros(6)], 1)
    columns["observation.state"] = LISTS[kind](state)
    del columns["frame_index"]
    dataset.write_table(0, columns)
    source = dataset.source()
    with source.open(ref_of(source.index(), 0)) as episode:
        found = np.stack([episode.state(i) for i in range(6)])  # type: ignore[misc]
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, state)


def test_scalar_columns_are_vectors_of_one(dataset: Dataset) -> None:
    dataset.info["features"]["action"] = {"dtype": "float32", "shape": [1], "names": None}
    (dataset.root / "meta/info.json").write_text(json.dumps(dataset.info))
    dataset.write_table(0, dataset.columns(0, 6) | {"action": pa.array(np.arange(6, dtype=np.float32))})
    source = dataset.source()
    index = source.index()
    assert index.action_dim == 1
    with source.open(ref_of(index, 0)) as episode:
        actions = episode.actions(2, 5)
    assert actions is not None
    assert actions.tolist() == [[2], [3], [4]]


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e39])
@pytest.mark.parametrize("key", ["observation.state", "action"])
def test_not_finite(dataset: Dataset, key: str, bad: float) -> None:
    values = np.zeros((6, 2))
    values[4, 1] = bad
    dataset.write_table(0, dataset.columns(0, 6) | {key: pa.array(values.tolist(), pa.list_(pa.float64()))})
    error = open_error(dataset)
    assert error.reason == "not-finite"
    assert "frame 4, channel 1" in error.detail


BAD_TABLES: dict[str, Callable[[dict[str, pa.Array]], dict[str, pa.Array]]] = {
    "ragged": lambda c: c | {"action": pa.array([[0, 0]] * 4 + [[0], [0, 0, 0]], pa.list_(pa.float32()))},
    "null row": lambda c: c | {"action": pa.array([[0, 0]] * 5 + [None], pa.list_(pa.float32()))},
    "null value": lambda c: c | {"action": pa.array([[0, 0]] * 5 + [[0, None]], pa.list_(pa.float32()))},
    "too wide": lambda c: c | {"action": fixed(np.zeros((6, 3)))},
    "text": lambda c: c | {"action": pa.array([["a", "b"]] * 6)},
    "no column": lambda c: {key: value for key, value in c.items() if key != "action"},
    "rows out of order": lambda c: c | {"frame_index": pa.array([0, 2, 1, 3, 4, 5])},
    "rows of another episode": lambda c: c | {"episode_index": pa.array([0, 0, 0, 1, 1, 1])},
}


@pytest.mark.parametrize("damage", BAD_TABLES)
def test_bad_tables(dataset: Dataset, damage: str) -> None:
    dataset.write_table(0, BAD_TABLES[damage](dataset.columns(0, 6)))
    error = open_error(dataset)
    assert error.reason == "bad-table"
    assert "episode_000000.parquet" in error.detail


def test_unreadable_table(dataset: Dataset) -> None:
    path = dataset.root / "data/chunk-000/episode_000000.parquet"
    path.write_bytes(path.read_bytes()[:-40])
    assert open_error(dataset).reason == "undecodable"


@pytest.mark.parametrize("where", ["table", "camera", "metadata"])
def test_lengths_that_differ_are_all_named(dataset: Dataset, where: str) -> None:
    if where == "table":
        dataset.write_table(0, dataset.columns(0, 4))
    elif where == "camera":
        dataset.write_video(WRIST, 0, range(4))
    else:
        dataset.write_lines("episodes", [{"episode_index": 0, "tasks": [], "length": 4}])
    error = open_error(dataset)
    assert error.reason == "length-mismatch"
    found = {
        "table": "table 4, metadata 6, front 6, wrist_left 6",
        "camera": "table 6, metadata 6, front 6, wrist_left 4",
        "metadata": "table 6, metadata 4, front 6, wrist_left 6",
    }
    assert found[where] in error.detail


def test_declared_camera_without_files(dataset: Dataset) -> None:
    dataset.video(WRIST, 1).unlink()
    index = dataset.source().index()
    assert [ref.id for ref in index.refs] == ["toy-000000"]
    (entry,) = index.left_out
    assert (entry.episode, entry.stage, entry.reason) == ("toy-000001", "index", "missing-file")
    assert str(dataset.video(WRIST, 1)) in entry.detail
    assert len(dataset.source(cameras=("front",)).index().refs) == 2


def test_choice_and_order_of_cameras(dataset: Dataset) -> None:
    assert dataset.source(cameras=("wrist_left", FRONT)).index().views == ("wrist_left", "front")
    with pytest.raises(SettingsError, match="allowed are front, wrist_left"):
        dataset.source(cameras=("top",)).index()


def test_depth_is_no_camera(dataset: Dataset) -> None:
    dataset.info["features"]["observation.images.depth"] = {**CAMERA, "info": {"video.is_depth_map": True}}
    (dataset.root / "meta/info.json").write_text(json.dumps(dataset.info))
    assert dataset.source().index().views == ("front", "wrist_left")


def test_images_in_tables_stay_encoded_until_asked_for(dataset: Dataset) -> None:
    for number, length in enumerate(dataset.lengths):
        images = [{"bytes": png(frame + 200), "path": f"{frame}.png"} for frame in range(length)]
        dataset.write_table(number, dataset.columns(number, length) | {"top": pa.array(images)})
    dataset.info["features"]["top"] = {**CAMERA, "dtype": "image"}
    (dataset.root / "meta/info.json").write_text(json.dumps(dataset.info))
    source = dataset.source(cameras=("top", "front"))
    index = source.index()
    assert index.views == ("top", "front")
    with source.open(ref_of(index, 0)) as episode:
        assert [read(frame) for frame in episode.frames("top", [4, 0])] == [204, 200]
        assert [read(frame) for frame in episode.frames("front", [4])] == [4]
        assert episode.timestamps([3]).tolist() == [0.25]
    images[2] = {"bytes": png(2)[:60], "path": "2.png"}
    dataset.write_table(1, dataset.columns(1, 5) | {"top": pa.array(images)})
    with (
        source.open(ref_of(source.index(), 1)) as episode,
        pytest.raises(EpisodeError, match=r"000001\.parquet: top at frame 2"),
    ):
        episode.frames("top", [2])


def test_a_declared_camera_without_any_file_is_left_out_and_said(dataset: Dataset) -> None:
    dataset.info["features"]["observation.images.ghost"] = CAMERA
    (dataset.root / "meta/info.json").write_text(json.dumps(dataset.info))
    index = dataset.source().index()
    assert index.views == ("front", "wrist_left")
    assert index.description["cameras_without_files"] == ["ghost"]
    with pytest.raises(RunError, match="declares the cameras ghost, but there is no video"):
        dataset.source(cameras=("front", "ghost")).index()


def test_a_camera_that_is_not_there_is_told_which_names_there_are(dataset: Dataset) -> None:
    dataset.info["features"]["observation.images.left hand"] = CAMERA
    (dataset.root / "meta/info.json").write_text(json.dumps(dataset.info))
    with pytest.raises(
        SettingsError, match=r"has no left arm; allowed are .*left_hand \(feature observation.images.left hand"
    ):
        dataset.source(cameras=("left arm",)).index()


def test_a_black_camera_is_quarantined(dataset: Dataset) -> None:
    dataset.write_video(WRIST, 0, range(6), black=True)
    error = open_error(dataset)
    assert error.reason == "blank-camera"
    assert "wrist_left" in error.detail
    source = dataset.source(cameras=("front",))
    source.open(ref_of(source.index(), 0)).close()


def test_fillers_are_no_instructions(dataset: Dataset) -> None:
    source = dataset.source(not_instructions=("valid",))
    with source.open(ref_of(source.index(), 0)) as episode:
        assert episode.instruction(0) == "lift the cup"
        with pytest.raises(EpisodeError, match="no-instruction"):
            episode.instruction(3)


def test_a_wrong_path_template_falls_back_to_the_standard_one(dataset: Dataset) -> None:
    dataset.info["video_path"] = "video/{video_key}_{episode_index}.mp4"
    (dataset.root / "meta/info.json").write_text(json.dumps(dataset.info))
    assert len(dataset.source().index().refs) == 2
    dataset.info["video_path"] = "video/{camera}.mp4"
    (dataset.root / "meta/info.json").write_text(json.dumps(dataset.info))
    with pytest.raises(RunError, match="path template"):
        dataset.source().index()


def test_episodes_that_cannot_be_told_apart(dataset: Dataset) -> None:
    row = {"episode_index": 0, "tasks": [], "length": 6}
    dataset.write_lines(
        "episodes", [row, row, {"episode_index": 1, "tasks": [], "length": 5}, "{broken", {"length": 3}]
    )
    index = dataset.source().index()
    assert [ref.id for ref in index.refs] == ["toy-000001"]
    assert sorted(entry.reason for entry in index.left_out) == [
        "bad-entry",
        "bad-entry",
        "duplicate-id",
        "duplicate-id",
    ]


SPLITS = {
    "too long": ({"train": "0:100"}, None),
    "train alone": ({"train": "0:2"}, None),
    "overlap": ({"train": "0:2", "val": "1:2"}, None),
    "past the end": ({"train": "0:1", "val": "1:9"}, ["train", "val"]),
    "a gap": ({"val": "1:2"}, None),
    "unknown name": ({"train": "0:1", "extra": "1:2"}, None),
    "no range": ({"train": "0:1", "val": "most"}, None),
    "validation": ({"train": "0:1", "validation": "1:2"}, ["train", "val"]),
    "test": ({"test": "0:1", "train": "1:2"}, ["test", "train"]),
}


@pytest.mark.parametrize("case", SPLITS)
def test_declared_splits_are_used_only_when_consistent(dataset: Dataset, case: str) -> None:
    dataset.info["splits"], expected = SPLITS[case]
    (dataset.root / "meta/info.json").write_text(json.dumps(dataset.info))
    index = dataset.source(val_share=0.3).index()
    found = {ref.id: ref.split for ref in index.refs}
    hashed = [hashed_split(f"{number:06d}", 0, 0.3) for number in (0, 1)]
    assert [found["toy-000000"], found["toy-000001"]] == (expected or hashed)
    assert index.description["declared_splits"] == dataset.info["splits"]


def test_state_and_actions_can_be_left_out(dataset: Dataset) -> None:
    source = dataset.source(state=(), action=())
    index = source.index()
    assert (index.state_dim, index.action_dim) == (0, 0)
    with source.open(index.refs[0]) as episode:
        assert episode.state(0) is None
        assert episode.actions(0, 2) is None
    with pytest.raises(SettingsError, match=r"allowed are observation\.state, action"):
        dataset.source(action=("actions",)).index()


@pytest.mark.parametrize(("start", "stop"), [(-1, 2), (0, 7), (3, 3)])
def test_ranges_outside_the_episode(dataset: Dataset, start: int, stop: int) -> None:
    source = dataset.source()
    with source.open(ref_of(source.index(), 0)) as episode, pytest.raises(EpisodeError) as caught:
        episode.actions(start, stop)
    assert caught.value.reason == "out-of-range"


@pytest.mark.parametrize("version", ["v1.6", "missing"])
def test_other_versions_stop_the_run(dataset: Dataset, version: str) -> None:
    dataset.info["codebase_version"] = version
    (dataset.root / "meta/info.json").write_text(json.dumps(dataset.info))
    with pytest.raises(RunError, match=r"expected one of v2\.0, v2\.1, v3\.0"):
        dataset.source().index()


def test_no_dataset_at_all(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"info\.json.*Set `root`"):
        LeRobotSource(root=str(tmp_path), name="toy").index()


def test_bad_settings(tmp_path: Path) -> None:
    for settings in ({"val_share": 1.0}, {"cameras": ()}, {"cameras": "front"}):
        with pytest.raises(SettingsError, match="must be"):
            make_source("lerobot", root=str(tmp_path), name="toy", **settings)


def test_source_and_ref_can_be_sent_to_workers(dataset: Dataset) -> None:
    source = dataset.source(cameras=("front",))
    sent, ref = pickle.loads(pickle.dumps((source, source.index().refs[0])))
    with sent.open(ref) as episode:
        assert episode.frames("front", [1]).shape == (1, 64, 96, 3)
