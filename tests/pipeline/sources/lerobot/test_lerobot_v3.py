"""LeRobot v3.0: many episodes in one file, and what published sets get wrong about it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.errors import EpisodeError, RunError
from pipeline.sources.lerobot.source import LeRobotSource
from tests.pipeline.sources.both_readers import read_by_both
from tests.pipeline.sources.lerobot.test_lerobot import CAMERA, FRONT, VECTOR, fixed
from tests.pipeline.spelled import read, write_spelled

FPS = 12
VIDEO = f"videos/{FRONT}/chunk-000/file-000.mp4"
TABLE = "data/chunk-000/file-000.parquet"


@dataclass
class Shared:
    """Episodes of 6, 5 and 4 frames in one table and one video, whose frames spell 0, 1, 2 …

    gaps  frames before each episode that belong to none
    """

    root: Path
    lengths: tuple[int, ...] = (6, 5, 4)
    gaps: tuple[int, ...] = (0, 0, 0)
    changed: dict[str, Any] = field(default_factory=dict)

    @property
    def starts(self) -> list[int]:
        """Frame of the video at which each episode begins."""
        return [sum(self.gaps[: i + 1]) + sum(self.lengths[:i]) for i in range(len(self.lengths))]

    def write(self) -> Shared:
        info = {
            "codebase_version": "v3.0",
            "fps": FPS,
            "chunks_size": 1000,
            "total_episodes": len(self.lengths),
            "splits": {"train": f"0:{len(self.lengths)}"},
            "data_path": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
            "video_path": "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4",
            "features": {FRONT: CAMERA, "observation.state": VECTOR, "action": VECTOR},
        }
        self.save("meta/episodes/chunk-000/file-000.parquet", self.episodes())
        (self.root / "meta/info.json").write_text(json.dumps(info))
        self.save("meta/tasks.parquet", {"task_index": [0, 1], "task": ["lift the cup", "push the cup"]})
        self.save(TABLE, self.table())
        path = self.root / VIDEO
        path.parent.mkdir(parents=True)
        frames = range(sum(self.gaps) + sum(self.lengths))
        write_spelled(path.parent, "h264.mp4", frames, fps=FPS).rename(path)
        return self

    def save(self, name: str, columns: dict[str, Any]) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table(columns), path)

    def episodes(self) -> dict[str, Any]:
        count = len(self.lengths)
        firsts = np.cumsum([0, *self.lengths[:-1]])
        columns = {
            "episode_index": list(range(count)),
            "length": list(self.lengths),
            "tasks": [["push the cup" if number == 1 else "lift the cup"] for number in range(count)],
            "data/chunk_index": [0] * count,
            "data/file_index": [0] * count,
            "dataset_from_index": firsts,
            "dataset_to_index": firsts + self.lengths,
            f"videos/{FRONT}/chunk_index": [0] * count,
            f"videos/{FRONT}/file_index": [0] * count,
            f"videos/{FRONT}/from_timestamp": [start / FPS for start in self.starts],
            "stats/action/min": [[0.0, 0.0]] * count,
        }
        return columns | self.changed

    def table(self) -> dict[str, Any]:
        episode = np.repeat(np.arange(len(self.lengths)), self.lengths)
        frame = np.concatenate([np.arange(length) for length in self.lengths])
        return {
            "observation.state": fixed(np.stack([frame, episode], 1)),
            "action": fixed(np.stack([-frame, episode], 1)),
            "timestamp": pa.array((frame / FPS).astype(np.float32)),
            "frame_index": pa.array(frame),
            "episode_index": pa.array(episode),
            "index": pa.array(np.arange(len(frame))),
            "task_index": pa.array(np.where(episode == 1, 1, 0)),
        }

    @property
    def source(self) -> LeRobotSource:
        return LeRobotSource(root=str(self.root), name="toy")


def check_all(shared: Shared) -> None:
    """Every episode holds its own frames, rows and text."""
    source = shared.source
    index = source.index()
    assert len(index.refs) == len(shared.lengths)
    for ref in index.refs:
        number = ref.data["episode_index"]
        read_by_both(source, ref.id)
        with source.open(ref) as episode:
            last = shared.lengths[number] - 1
            assert episode.num_frames == last + 1
            found = [read(frame) for frame in episode.frames("front", [last, 0])]
            assert found == [shared.starts[number] + last, shared.starts[number]]
            state, actions = episode.state(last), episode.actions(0, last + 1)
            assert state is not None
            assert actions is not None
            assert state.tolist() == [last, number]
            assert actions[:, 0].tolist() == [-i for i in range(last + 1)]
            assert episode.timestamps([0, 2]).tolist() == [0, round(2 / FPS, 6)]
            assert episode.instruction(0) == ("push the cup" if number == 1 else "lift the cup")


def error_of(shared: Shared, number: int) -> EpisodeError:
    source = shared.source
    ref = next(ref for ref in source.index().refs if ref.data["episode_index"] == number)
    with pytest.raises(EpisodeError) as caught:
        source.open(ref)
    return caught.value


@pytest.mark.parametrize("gaps", [(0, 0, 0), (0, 3, 2), (2, 0, 1)])
def test_each_episode_holds_its_own(tmp_path: Path, gaps: tuple[int, ...]) -> None:
    check_all(Shared(tmp_path, gaps=gaps).write())


def test_times_that_are_a_little_off_name_the_nearest_frame(tmp_path: Path) -> None:
    shared = Shared(tmp_path)
    off = [start / FPS + shift for start, shift in zip(shared.starts, (0.008, -0.008, 0.008), strict=True)]
    shared.changed = {f"videos/{FRONT}/from_timestamp": off}
    check_all(shared.write())


def test_time_and_count_that_disagree_are_an_error(tmp_path: Path) -> None:
    shared = Shared(tmp_path)
    shared.changed = {f"videos/{FRONT}/from_timestamp": [0.0, 7 / FPS, 12 / FPS]}
    shared.write()
    error = error_of(shared, 1)
    assert error.reason == "bad-clock"
    assert "at frame 7" in error.detail
    assert "at frame 6" in error.detail


def test_a_time_past_the_end_of_the_video(tmp_path: Path) -> None:
    shared = Shared(tmp_path)
    shared.changed = {f"videos/{FRONT}/from_timestamp": [0.0, 6 / FPS, 99.0]}
    assert error_of(shared.write(), 2).reason == "bad-clock"


def test_a_video_shorter_than_its_episodes(tmp_path: Path) -> None:
    shared = Shared(tmp_path).write()
    path = shared.root / VIDEO
    write_spelled(path.parent, "h264.mp4", range(13), fps=FPS).rename(path)
    assert error_of(shared, 2).reason == "length-mismatch"


def test_segments_that_overlap_are_left_out_on_both_sides(tmp_path: Path) -> None:
    """A frame of two episodes could stand in two splits."""
    shared = Shared(tmp_path)
    shared.changed = {f"videos/{FRONT}/from_timestamp": [0.0, 4 / FPS, 11 / FPS]}
    index = shared.write().source.index()
    assert [ref.data["episode_index"] for ref in index.refs] == [2]
    assert {entry.reason for entry in index.left_out} == {"bad-entry"}
    assert all("the 6 frames from 0.0 s reach into the episode" in entry.detail for entry in index.left_out)


def test_texts_in_the_index_of_pandas(tmp_path: Path) -> None:
    shared = Shared(tmp_path).write()
    shared.save("meta/tasks.parquet", {"task_index": [1, 0], "__index_level_0__": ["push the cup", "lift the cup"]})
    check_all(shared)


def test_tables_whose_episode_index_is_not_unique_are_read_by_place(tmp_path: Path) -> None:
    shared = Shared(tmp_path).write()
    table = shared.table()
    table["episode_index"] = pa.array([0] * sum(shared.lengths))
    shared.save(TABLE, table)
    check_all(shared)
    # Without frame_index nothing confirms the place, and the wrong number is an error.
    del table["frame_index"]
    shared.save(TABLE, table)
    assert error_of(shared, 1).reason == "bad-table"


def test_rows_are_found_by_number_where_places_are_not_known(tmp_path: Path) -> None:
    shared = Shared(tmp_path)
    shared.write()
    episodes = {name: values for name, values in shared.episodes().items() if not name.startswith("dataset_")}
    shared.save("meta/episodes/chunk-000/file-000.parquet", episodes)
    check_all(shared)


def test_two_files_of_metadata_and_data(tmp_path: Path) -> None:
    """Episode 2 lies in the second file of everything."""
    shared = Shared(tmp_path).write()
    episodes, table = shared.episodes(), pa.table(shared.table())
    for name in ("data/file_index", f"videos/{FRONT}/file_index"):
        episodes[name] = [0, 0, 1]
    episodes[f"videos/{FRONT}/from_timestamp"] = [0.0, 6 / FPS, 0.0]
    both = pa.table(episodes)
    for number, rows, numbers in ((0, both.slice(0, 2), range(11)), (1, both.slice(2), range(11, 15))):
        pq.write_table(rows, tmp_path / f"meta/episodes/chunk-000/file-00{number}.parquet")
        pq.write_table(table.slice(numbers[0], len(numbers)), tmp_path / f"data/chunk-000/file-00{number}.parquet")
        folder = (tmp_path / VIDEO).parent
        write_spelled(folder, "h264.mp4", numbers, fps=FPS).rename(folder / f"file-00{number}.mp4")
    check_all(shared)


@pytest.mark.parametrize("by_index", [True, False])
@pytest.mark.parametrize(
    ("named", "held"),
    [([0, 0], (0, 1)), ([0, 0, 0], (0, 0, 1)), ([0, 0, 1], (0, 1, 1)), ([0, 1, 2], (1, 2, 3))],
    ids=["last of two", "last", "in the middle", "a table each"],
)
def test_episodes_that_the_converter_places_in_the_table_before(
    tmp_path: Path, named: list[int], held: tuple[int, ...], by_index: bool
) -> None:
    """As LeRobot 0.4.4 converts v2.1: where a table is full, the next episode's entry still names it."""
    shared = Shared(tmp_path, lengths=(6, 5, 4)[: len(held)], gaps=(0,) * len(held)).write()
    episodes, table = shared.episodes() | {"data/file_index": named}, pa.table(shared.table())
    if not by_index:
        episodes = {name: values for name, values in episodes.items() if not name.startswith("dataset_")}
    shared.save("meta/episodes/chunk-000/file-000.parquet", episodes)
    (tmp_path / TABLE).unlink()
    for number in set(held):
        owners = [episode for episode, file in enumerate(held) if file == number]
        rows = table.filter(pa.array(np.isin(table["episode_index"].to_numpy(), owners)))
        pq.write_table(rows, tmp_path / f"data/chunk-000/file-00{number}.parquet")
    check_all(shared)


def test_a_table_that_begins_the_next_chunk(tmp_path: Path) -> None:
    shared = Shared(tmp_path).write()
    table = pa.table(shared.table())
    pq.write_table(table.slice(0, 11), tmp_path / TABLE)
    (tmp_path / "data/chunk-001").mkdir()
    pq.write_table(table.slice(11), tmp_path / "data/chunk-001/file-000.parquet")
    check_all(shared)


def test_an_episode_in_no_table_is_left_out(tmp_path: Path) -> None:
    shared = Shared(tmp_path).write()
    table = pa.table(shared.table())
    pq.write_table(table.slice(0, 11), tmp_path / TABLE)
    pq.write_table(table.slice(0, 6), tmp_path / "data/chunk-000/file-001.parquet")
    assert error_of(shared, 2).reason == "bad-table"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"episode_index": [0, 0, 2]}, "duplicate-id"),
        ({"episode_index": pa.array([None, 1, 2], pa.int64())}, "bad-entry"),
        ({"data/file_index": pa.array([None, 0, 0], pa.int64())}, "bad-entry"),
        ({f"videos/{FRONT}/from_timestamp": [None, 6 / FPS, 11 / FPS]}, "bad-entry"),
        ({"data/file_index": [7, 0, 0]}, "missing-file"),
        ({f"videos/{FRONT}/file_index": [7, 0, 0]}, "missing-file"),
    ],
)
def test_entries_that_cannot_be_used(tmp_path: Path, change: dict[str, Any], reason: str) -> None:
    index = Shared(tmp_path, changed=change).write().source.index()
    assert reason in {entry.reason for entry in index.left_out}
    assert 0 not in [ref.data["episode_index"] for ref in index.refs]


def test_metadata_without_a_column_or_file_stops_the_run(tmp_path: Path) -> None:
    shared = Shared(tmp_path).write()
    columns = {name: values for name, values in shared.episodes().items() if name != "length"}
    shared.save("meta/episodes/chunk-000/file-000.parquet", columns)
    with pytest.raises(RunError, match="has no column length"):
        shared.source.index()
    (tmp_path / "meta/episodes/chunk-000/file-000.parquet").write_bytes(b"PAR1 nothing")
    with pytest.raises(RunError, match=r"file-000\.parquet"):
        shared.source.index()
    (tmp_path / "meta/episodes/chunk-000/file-000.parquet").unlink()
    with pytest.raises(RunError, match="no such file"):
        shared.source.index()
