"""Opens one LeRobot episode: reads its rows of a table, opens its cameras, and compares their lengths."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import EpisodeError
from pipeline.sources.base import EpisodeRef
from pipeline.sources.episode.opened import OpenedEpisode
from pipeline.sources.episode.vectors import VectorField, lost_frames, make_vectors
from pipeline.sources.files import file_identity
from pipeline.sources.known_hashes import Identity
from pipeline.sources.lerobot.cameras import check_size, open_video
from pipeline.sources.lerobot.layout import Segment
from pipeline.sources.lerobot.table import Table
from pipeline.sources.metadata import has_text, read_json_lines, undecodable
from pipeline.sources.video.frame_readers import FrameReader, StoredImages
from pipeline.storage.raw.places import handle


def open_lerobot_episode(
    root: str,
    ref: EpisodeRef,
    state: Sequence[VectorField],
    action: Sequence[VectorField],
    not_instructions: Sequence[str],
) -> OpenedEpisode:
    """Open an episode that `LeRobotSource` listed.

    Raises:
        EpisodeError: "length-mismatch" (table, metadata and cameras disagree), "not-finite", "undecodable",
            "bad-table" (a column is missing, ragged or of another width than declared; facts about its rows, texts or
            pictures contradict each other), "bad-clock" (no frame is shown when the episode begins in a shared video,
            or a video has another rate than the dataset).
    """
    table = Table(root, ref)
    states, actions = (make_vectors(fields, table.field, table.file) for fields in (state, action))
    texts = _texts(root, ref, table, not_instructions)
    lengths = {"table": table.rows}
    if ref.num_frames is not None:
        lengths["metadata"] = ref.num_frames
    with ExitStack() as opened:
        readers: dict[str, FrameReader] = {}
        for view, place in ref.data["videos"].items():
            segment = Segment(*place)
            readers[view] = open_video(root, segment, table.rows, ref.data.get("fps"))
            opened.callback(readers[view].close)
            if view in ref.data["sizes"]:
                check_size(readers[view], ref.data["sizes"][view], f"{table.file}, {view}")
        for view, key in ref.data.get("images", {}).items():
            readers[view] = StoredImages(
                table.images(key, ref.data["sizes"].get(view)), table.rows, ref.data["fps"], "jpeg or png"
            )
        opened.pop_all()  # from here on OpenedEpisode closes them
    in_order = {view: readers[view] for view in ref.data["views"]}
    return OpenedEpisode(ref, table.file, in_order, texts, states, actions, lengths, lost_frames(action))


def _texts(root: str, ref: EpisodeRef, table: Table, not_instructions: Sequence[str]) -> Callable[[int], str]:
    """Frame -> text of the task in `task_index`; without that column, the only task of the episode.

    The function raises EpisodeError("no-instruction") if the text is missing, empty or in `not_instructions`.

    Raises:
        EpisodeError: "bad-table" if a row names a text that the metadata of the episode does not list.
    """
    numbers, tasks, file = table.integers("task_index"), ref.data["tasks"], ref.data["tasks_file"]
    texts = {} if numbers is None else _task_texts(os.path.join(root, file))
    listed = {task.strip() for task in tasks}
    for number in () if numbers is None or not listed else np.unique(numbers).tolist():
        found = str(texts.get(number) or "").strip()
        if found and found not in listed:
            detail = f"task_index {number} is {found!r} by {file}, the metadata of the episode lists {tasks}"
            raise EpisodeError("bad-table", f"{table.file}: {detail}")

    def text(index: int) -> str:
        if numbers is None and len(tasks) != 1:
            raise EpisodeError("no-instruction", f"{table.file} has no task_index and the episode lists {tasks}")
        if numbers is None:
            found, where = tasks[0], f"{table.file}: the episode's task"
        else:
            number = int(numbers[index])
            found, where = texts.get(number), f"{table.file} frame {index}: task {number} of {file}"
        if not isinstance(found, str) or not has_text(found) or found.strip() in not_instructions:
            raise EpisodeError("no-instruction", f"{where} is {found!r}")
        return found.strip()

    return text


def _task_texts(path: str) -> Mapping[int, str]:
    try:
        identity = file_identity(path)
    except OSError as error:
        raise EpisodeError("missing-file", f"{path}: {error.strerror}") from error
    return _read_tasks(path, identity)


@functools.lru_cache(maxsize=4)
def _read_tasks(path: str, identity: Identity) -> Mapping[int, str]:
    """Task texts by number; cached per version of the file, because all episodes of a dataset share it."""
    is_table = path.endswith(".parquet")
    rows = _task_rows(path) if is_table else read_json_lines(path, "Restore the file from the dataset.")
    texts: dict[int, str] = {}
    for row in rows:
        if isinstance(row, dict) and isinstance(row.get("task_index"), int) and isinstance(row.get("task"), str):
            # Two texts for one number are ambiguous, so the number has no text.
            same = texts.get(row["task_index"], row["task"]) == row["task"]
            texts[row["task_index"]] = row["task"] if same else ""
    return texts


def _task_rows(path: str) -> list[dict[str, Any]]:
    """Rows of a v3.0 task table. The text is in the column `task`, or in the index column of pandas."""
    try:
        table = pq.read_table(handle(path), partitioning=None)
    except (pa.ArrowException, OSError) as error:
        raise undecodable(path, error) from error
    text = [f.name for f in table.schema if _is_text(f.type)]
    name = "task" if "task" in text else text[0] if len(text) == 1 else None
    if name is None or "task_index" not in table.column_names:
        found = ", ".join(table.column_names)
        raise EpisodeError("bad-table", f"{path} has the columns {found}, expected task_index and task")
    rows: list[dict[str, Any]] = table.select(["task_index", name]).rename_columns(["task_index", "task"]).to_pylist()
    return rows


def _is_text(kind: pa.DataType) -> bool:
    """Text in any of Arrow's layouts; pandas and polars write dictionaries and views."""
    if pa.types.is_dictionary(kind):
        return _is_text(kind.value_type)
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
