"""Circumstances of reports that users of other readers have filed: each is read right, or refused with a reason."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.errors import EpisodeError
from pipeline.sources.video.decode import Video
from tests.pipeline.sources.lerobot.test_lerobot_v3 import FRONT, TABLE, Shared, check_all, error_of
from tests.pipeline.spelled import read, write_spelled

SCRAMBLED = [
    ({"dataset_from_index": [0, 0, 0], "dataset_to_index": [6, 5, 4]}),  # as if each file began anew
    ({"dataset_from_index": [9, 4, 0], "dataset_to_index": [15, 9, 4]}),  # the other way round
    ({"dataset_from_index": [0, 11, 6], "dataset_to_index": [6, 15, 11]}),  # two exchanged
]


@pytest.mark.parametrize("changed", SCRAMBLED)
def test_ranges_of_rows_that_a_converter_scrambled(tmp_path: Path, changed: dict[str, list[int]]) -> None:
    """huggingface/lerobot#1919: tables that hold pictures, converted from v2.1."""
    shared = Shared(tmp_path, changed=changed).write()
    source, reasons = shared.source, set()
    for ref in source.index().refs:
        number = ref.data["episode_index"]
        try:
            with source.open(ref) as episode:
                states = [episode.state(frame) for frame in range(episode.num_frames)]
        except EpisodeError as error:
            reasons.add(error.reason)
            continue
        assert [state.tolist() for state in states if state is not None] == [[i, number] for i in range(len(states))]
    assert reasons <= {"bad-table", "bad-clock"}


def test_numbers_of_files_with_holes_after_an_edit(tmp_path: Path) -> None:
    """huggingface/lerobot#2283: pandas has made them floats, with NaN where a row was missing."""
    changed = {"data/file_index": [0.0, float("nan"), 0.0], f"videos/{FRONT}/file_index": [0.0, 0.0, 0.0]}
    index = Shared(tmp_path, changed=changed).write().source.index()
    assert [(entry.episode, entry.reason) for entry in index.left_out] == [("toy-000001", "bad-entry")]
    assert len(index.refs) == 2


@pytest.mark.parametrize("number", [0, 1])
def test_times_that_begin_again_inside_an_episode(tmp_path: Path, number: int) -> None:
    """unitreerobotics/unitree_lerobot#41, huggingface/lerobot#933: two recordings under one number."""
    shared = Shared(tmp_path).write()
    columns = shared.table()
    restart = np.arange(15)
    first = int(np.cumsum([0, *shared.lengths])[number])
    frame = np.asarray(columns["frame_index"]).copy()
    frame[first + 3 : first + shared.lengths[number]] = restart[: shared.lengths[number] - 3]
    columns |= {"frame_index": pa.array(frame), "timestamp": pa.array((frame / 12).astype(np.float32))}
    shared.save(TABLE, columns)
    assert error_of(shared, number).reason in ("bad-table", "bad-clock")


def test_a_table_that_a_conversion_lost(tmp_path: Path) -> None:
    """huggingface/lerobot#2643: the first of several is not there."""
    shared = Shared(tmp_path, changed={"data/file_index": [0, 1, 1]}).write()
    pq.write_table(pa.table(shared.table()).slice(6), tmp_path / "data/chunk-000/file-001.parquet")
    (tmp_path / TABLE).unlink()
    index = shared.source.index()
    assert [(entry.episode, entry.reason) for entry in index.left_out] == [("toy-000000", "missing-file")]
    assert len(index.refs) == 2


def test_entries_that_name_the_file_before(tmp_path: Path) -> None:
    """huggingface/lerobot#2401: where a table was full, the entry of the next episode still names it."""
    shared = Shared(tmp_path, changed={"data/file_index": [0, 0, 1]}).write()
    table: Any = pa.table(shared.table())
    pq.write_table(table.slice(0, 6), tmp_path / TABLE)
    pq.write_table(table.slice(6), tmp_path / "data/chunk-000/file-001.parquet")
    check_all(shared)


@pytest.mark.parametrize("codec", ["h264_open.mp4", "mpeg4_b_frames.mp4", "vp9_hidden_frames.webm", "av1_long.mp4"])
def test_any_order_of_frames_gives_those_of_their_order(tmp_path: Path, codec: str) -> None:
    """dmlc/decord#77, PyAV-Org/PyAV#349: a reader that seeks by computed times gave neighbours, or black."""
    path = write_spelled(tmp_path, codec, range(40), fps=12)
    wanted = random.Random(0).choices(range(40), k=60)
    with Video(str(path)) as video:
        assert [read(frame) for frame in video.frames(wanted)] == wanted
        assert [read(video.frames([number])[0]) for number in wanted[:10]] == wanted[:10]
