"""Two keys to one fact: what contradicts another fact is refused, by the pipeline and by the audit's own reader."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tests.pipeline.sources.both_readers import read_by_both, refused_by_both
from tests.pipeline.sources.lerobot.test_lerobot import FRONT, Dataset
from tests.pipeline.sources.lerobot.test_lerobot_v3 import FPS, TABLE, VIDEO, Shared
from tests.pipeline.spelled import read, write_spelled

Columns = dict[str, Any]


def changed(table: Columns, name: str, values: Any) -> Columns:
    return table | {name: pa.array(np.asarray(values))}


def swapped(table: Columns) -> Columns:
    """Episodes 0 and 1 of five frames each: numbers and contents have changed places, `index` has not."""
    order = np.r_[5:10, 0:5, 10:15]
    moved = {name: pa.array(values).take(pa.array(order)) for name, values in table.items()}
    return moved | {"index": table["index"]}


@pytest.mark.parametrize(
    ("change", "refused"),
    [
        (swapped, {0, 1}),
        (lambda t: changed(t, "episode_index", [0] * 5 + [1] * 4 + [2] * 6), {1, 2}),
        (lambda t: changed(t, "episode_index", [0] * 5 + [1] * 5 + [0] * 2 + [2] * 3), {0, 2}),
        (lambda t: changed(t, "frame_index", [*range(5), 1, 2, 3, 4, 5, *range(5)]), {1}),
        (lambda t: changed(t, "frame_index", [*range(5), *range(5), 0, 1, 3, 2, 4]), {2}),
        (lambda t: changed(t, "index", [*range(5), *range(6, 11), *range(10, 15)]), {1, 2}),
        (lambda t: changed(t, "index", [*range(15)][::-1]), {0, 1, 2}),
        (lambda t: changed(t, "timestamp", [0, 1, 2, 3, 4, 3, 4, 0, 1, 2, 0, 1, 2, 3, 4.0]), {1}),
        (lambda t: changed(t, "task_index", [0] * 5 + [1] * 5 + [0] * 4 + [1]), {2}),
    ],
    ids=[
        "swapped",
        "a row of the neighbour",
        "a number twice",
        "frames from 1",
        "frames out of order",
        "a gap in index",
        "backwards",
        "another clock begins",
        "a text that the metadata does not list",
    ],
)
def test_episodes_whose_rows_contradict_the_metadata(
    tmp_path: Path, change: Callable[[Columns], Columns], refused: set[int]
) -> None:
    shared = Shared(tmp_path, lengths=(5, 5, 5)).write()
    shared.save(TABLE, change(shared.table()))
    for number in range(3):
        if number in refused:
            assert refused_by_both(shared.source, f"toy-{number:06d}").reason == "bad-table"
        else:
            found = read_by_both(shared.source, f"toy-{number:06d}")
            assert [read(frame) for frame in found["front"]] == list(range(5 * number, 5 * number + 5))
            assert found["state"][:, 1].tolist() == [number] * 5


def test_an_episode_was_deleted_and_index_kept_its_gap(tmp_path: Path) -> None:
    """The rest was renumbered: by `index` one episode has no rows and the next its neighbour's."""
    shared = Shared(tmp_path, lengths=(5, 5, 5)).write()
    table = changed(shared.table(), "index", [*range(5), *range(10, 20)])
    shared.save(TABLE, table)
    assert [read(f) for f in read_by_both(shared.source, "toy-000000")["front"]] == [0, 1, 2, 3, 4]
    for number in (1, 2):
        assert refused_by_both(shared.source, f"toy-{number:06d}").reason == "bad-table"


@pytest.mark.parametrize(
    ("ranges", "refused"),
    [
        ([(0, 5), (4, 10), (10, 15)], {0, 1}),
        ([(0, 5), (5, 10), (5, 10)], {1, 2}),
        ([(0, 6), (6, 10), (10, 15)], {0, 1}),
    ],
)
def test_ranges_of_rows_that_do_not_fit(tmp_path: Path, ranges: list[tuple[int, int]], refused: set[int]) -> None:
    shared = Shared(tmp_path, lengths=(5, 5, 5))
    shared.changed = {
        name: [pair[at] for pair in ranges] for at, name in enumerate(("dataset_from_index", "dataset_to_index"))
    }
    shared.write()
    for number in range(3):
        if number in refused:
            assert refused_by_both(shared.source, f"toy-{number:06d}").reason in ("bad-entry", "bad-table")
        else:
            read_by_both(shared.source, f"toy-{number:06d}")


@pytest.mark.parametrize(
    "numbers", [[0] * 15, [0] * 5 + [0] * 5 + [1] * 5, [7] * 5 + [8] * 5 + [9] * 5], ids=["none", "restarts", "moved"]
)
def test_numbers_that_are_wrong_throughout_are_not_used_and_inspect_says_so(tmp_path: Path, numbers: list[int]) -> None:
    shared = Shared(tmp_path, lengths=(5, 5, 5)).write()
    shared.save(TABLE, changed(shared.table(), "episode_index", numbers))
    index = shared.source.index()
    assert ["rows are found by their place alone" in note for note in index.notes] == [True]
    for number in range(3):
        found = read_by_both(shared.source, f"toy-{number:06d}")
        assert [read(frame) for frame in found["front"]] == list(range(5 * number, 5 * number + 5))
        assert found["state"].tolist() == [[frame, number] for frame in range(5)]
    # The other facts are checked all the same.
    table = changed(shared.table(), "episode_index", numbers)
    shared.save(TABLE, changed(table, "frame_index", [*range(5), *range(5), 1, 2, 3, 4, 5]))
    assert refused_by_both(shared.source, "toy-000002").reason == "bad-table"


def test_most_numbers_are_right_and_none_is_forgiven(tmp_path: Path) -> None:
    shared = Shared(tmp_path, lengths=(5, 5, 5)).write()
    shared.save(TABLE, changed(shared.table(), "episode_index", [0] * 5 + [1] * 10))
    assert shared.source.index().notes == ()
    for number in (1, 2):
        assert refused_by_both(shared.source, f"toy-{number:06d}").reason == "bad-table"


@pytest.mark.parametrize("film_fps", [24, 6, 15])
def test_a_film_of_another_rate_than_the_dataset(tmp_path: Path, film_fps: int) -> None:
    dataset = Dataset(tmp_path / "set").write()
    path = dataset.video(FRONT, 0)
    write_spelled(path.parent, "h264.mp4", range(6), fps=film_fps).rename(path)
    error = refused_by_both(dataset.source(), "toy-000000")
    assert error.reason == "bad-clock"
    assert "fps=12" in error.detail
    read_by_both(dataset.source(cameras=("wrist_left",)), "toy-000000")


@pytest.mark.parametrize("shape", [[64, 97, 3], [96, 64, 3], [3, 96, 64], [480, 640, 3]])
def test_pictures_of_another_size_than_declared(tmp_path: Path, shape: list[int]) -> None:
    dataset = Dataset(tmp_path / "set").write()
    dataset.info["features"] = dataset.info["features"] | {FRONT: {"dtype": "video", "shape": shape}}
    (dataset.root / "meta/info.json").write_text(json.dumps(dataset.info))
    error = refused_by_both(dataset.source(), "toy-000001")
    assert error.reason == "bad-table"
    assert "64 x 96" in error.detail


def test_colours_may_be_declared_first(tmp_path: Path) -> None:
    dataset = Dataset(tmp_path / "set").write()
    dataset.info["features"] = dataset.info["features"] | {FRONT: {"dtype": "video", "shape": [3, 64, 96]}}
    (dataset.root / "meta/info.json").write_text(json.dumps(dataset.info))
    read_by_both(dataset.source(), "toy-000001")


# --- the clock of a shared film -------------------------------------------------------------------------------------


@pytest.mark.parametrize("late", [0.6, 0.9, 0.4, 0.2, -0.3])
def test_a_time_between_two_frames_is_no_time_of_either(tmp_path: Path, late: float) -> None:
    """Three frames of no episode lie before episode 1. By the nearest frame every picture would be the one after."""
    shared = Shared(tmp_path, gaps=(0, 3, 1))
    times = [(start + late * (number == 1)) / FPS for number, start in enumerate(shared.starts)]
    shared.changed = {f"videos/{FRONT}/from_timestamp": times}
    error = refused_by_both(shared.write().source, "toy-000001")
    assert error.reason == "bad-clock"
    for number in (0, 2):
        read_by_both(shared.source, f"toy-{number:06d}")


@pytest.mark.parametrize("late", [0.05, -0.09, 0.09])
def test_a_time_that_rounding_moved_names_its_frame(tmp_path: Path, late: float) -> None:
    shared = Shared(tmp_path, gaps=(0, 3, 0))
    shared.changed = {f"videos/{FRONT}/from_timestamp": [(start + late * (start > 0)) / FPS for start in shared.starts]}
    found = read_by_both(shared.write().source, "toy-000001")
    assert [read(frame) for frame in found["front"]] == list(range(9, 14))


@pytest.mark.parametrize("frames", [4, 6, 3, 3.5])
def test_an_end_that_is_not_the_end_of_the_rows(tmp_path: Path, frames: float) -> None:
    shared = Shared(tmp_path, gaps=(0, 3, 1))
    ends = [(start + length) / FPS for start, length in zip(shared.starts, shared.lengths, strict=True)]
    ends[1] = (shared.starts[1] + frames) / FPS
    shared.changed = {f"videos/{FRONT}/to_timestamp": ends}
    shared.write()
    assert refused_by_both(shared.source, "toy-000001").reason == "bad-clock"
    assert [read(f) for f in read_by_both(shared.source, "toy-000002")["front"]] == list(range(15, 19))


def test_the_end_of_the_rows_is_the_end(tmp_path: Path) -> None:
    shared = Shared(tmp_path, gaps=(0, 3, 1))
    ends = [(start + length) / FPS for start, length in zip(shared.starts, shared.lengths, strict=True)]
    shared.changed = {f"videos/{FRONT}/to_timestamp": ends}
    shared.write()
    for number, start in enumerate(shared.starts):
        found = read_by_both(shared.source, f"toy-{number:06d}")
        assert read(found["front"][0]) == start
    assert (shared.root / VIDEO).exists()
