"""Opens one LeRobot episode: reads its rows of a table, opens its cameras, and compares their lengths."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipeline.errors import EpisodeError
from pipeline.sources.base import EpisodeRef
from pipeline.sources.metadata import has_text, read_json_lines, undecodable
from pipeline.sources.opened import OpenedEpisode
from pipeline.sources.vectors import VectorField, lost_frames, make_vectors
from pipeline.sources.video.decode import Video
from pipeline.sources.video.frame_readers import FrameReader, SegmentReader, StoredImages, decode_image

BOOKKEEPING = ("episode_index", "frame_index", "task_index")


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
            "bad-table" (a column is missing, ragged or of another width than declared, or the rows are out of order or
            belong to another episode), "bad-clock" (the episode's place in a shared video is ambiguous).
    """
    table = _Table(root, ref)
    states, actions = (make_vectors(fields, table.field, table.file) for fields in (state, action))
    texts = _texts(root, ref, table, not_instructions)
    lengths = {"table": table.rows}
    if ref.num_frames is not None:
        lengths["metadata"] = ref.num_frames
    with ExitStack() as opened:
        readers: dict[str, FrameReader] = {}
        for view, place in ref.data["videos"].items():
            video = opened.enter_context(Video(os.path.join(root, place[0])))
            readers[view] = video if len(place) == 1 else _read_segment(video, place, table.rows)
        for view, key in ref.data.get("images", {}).items():
            readers[view] = StoredImages(table.images(key), table.rows, ref.data["fps"], "jpeg or png")
        opened.pop_all()  # from here on OpenedEpisode closes them
    in_order = {view: readers[view] for view in ref.data["views"]}
    return OpenedEpisode(ref, table.file, in_order, texts, states, actions, lengths, lost_frames(action))


def _read_segment(video: Video, place: Sequence[Any], rows: int) -> SegmentReader:
    """The frames of an episode in a video that it shares with others.

    The first frame is the one nearest to `from_timestamp`. If the video holds exactly the frames of the listed
    episodes, their lengths must give the same frame, or the place is ambiguous.
    """
    path, from_s, counted, total = place
    seconds = video.timestamps(range(video.num_frames))
    start = int(np.abs(seconds - from_s).argmin())
    gap = float(abs(seconds[start] - from_s))
    if gap > 0.5 / max(video.fps, 1e-6):
        detail = f"no frame is shown at from_timestamp={from_s} s, the nearest is {gap:.3g} s away"
        raise EpisodeError("bad-clock", f"{path}: {detail}")
    if video.num_frames == total and start != counted:
        other = f"by the lengths of the episodes before it at frame {counted}"
        raise EpisodeError(
            "bad-clock", f"{path}: by from_timestamp={from_s} s the episode begins at frame {start}, {other}"
        )
    return SegmentReader(video, start, rows, path)


class _Table:
    """The rows of one episode."""

    def __init__(self, root: str, ref: EpisodeRef) -> None:
        self.file = os.path.join(root, ref.data["table"])
        self._widths: Mapping[str, int] = ref.data["widths"]
        self._number: int = ref.data["episode_index"]
        number = self._number if ref.data["version"] == "v3.0" else None
        columns = [*BOOKKEEPING, *self._widths, *ref.data.get("images", {}).values()]
        self._table, self._by_index = _read_table(self.file, columns, number, ref.data.get("rows"))
        self.rows: int = self._table.num_rows
        self._check_rows()

    def field(self, name: str) -> NDArray[Any]:
        """A column of vectors (fixed-size or plain lists, or scalars), [rows, width]."""
        width = self._widths[name]
        values = _flatten(self._column(name), width)
        if values is None:
            raise EpisodeError("bad-table", f"{self.file}: column {name} does not hold {self.rows} x {width} numbers")
        return values.reshape(self.rows, width)

    def integers(self, name: str) -> NDArray[np.int64] | None:
        """A column of integers; None if it does not exist."""
        if name not in self._table.column_names:
            return None
        column = self._table[name]
        if not pa.types.is_integer(column.type) or column.null_count:
            found = f"{column.type} with {column.null_count} nulls"
            raise EpisodeError("bad-table", f"{self.file}: column {name} is {found}, expected integers")
        return column.to_numpy().astype(np.int64)

    def images(self, key: str) -> Callable[[int], NDArray[np.uint8]]:
        """Decoder of the images of a column, which stay encoded until a frame is read."""
        column = self._column(key)
        if not pa.types.is_struct(column.type) or column.type.get_field_index("bytes") < 0:
            detail = f"{self.file}: column {key} is {column.type}, expected images (bytes, path)"
            raise EpisodeError("bad-table", detail)
        encoded = pc.struct_field(column, "bytes")

        def image(index: int) -> NDArray[np.uint8]:
            content = encoded[index].as_py()
            where = f"{self.file}: {key} at frame {index}"
            if not content:
                raise EpisodeError("undecodable", f"{where} holds no bytes; embed the images in the table with lerobot")
            return decode_image(content, where)

        return image

    def _column(self, name: str) -> pa.ChunkedArray:
        if name not in self._table.column_names:
            found = ", ".join(self._table.column_names)
            raise EpisodeError("bad-table", f"{self.file} has no column {name}; it has {found}")
        return self._table[name]

    def _check_rows(self) -> None:
        """If the bookkeeping columns exist, they must show that the rows are this episode's, in order.

        In some shared tables `episode_index` is not unique. Rows that were found by their place and are numbered by
        `frame_index` are accepted.
        """
        expected = {"frame_index": np.arange(self.rows)}
        if not (self._by_index and "frame_index" in self._table.column_names):
            expected["episode_index"] = np.full(self.rows, self._number)
        for name, values in expected.items():
            found = self.integers(name)
            if found is not None and not np.array_equal(found, values):
                raise EpisodeError("bad-table", f"{self.file}: {name} is not {values[:3].tolist()}… as expected")


def _texts(root: str, ref: EpisodeRef, table: _Table, not_instructions: Sequence[str]) -> Callable[[int], str]:
    """Frame -> text of the task in `task_index`; without that column, the only task of the episode.

    The function raises EpisodeError("no-instruction") if the text is missing, empty or in `not_instructions`.
    """
    numbers, tasks, file = table.integers("task_index"), ref.data["tasks"], ref.data["tasks_file"]
    texts = {} if numbers is None else _task_texts(os.path.join(root, file))

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


def _read_table(
    path: str, columns: Sequence[str], episode: int | None, rows: Sequence[int] | None
) -> tuple[pa.Table, bool]:
    """The columns that exist, and of a shared table only the rows of one episode.

    Returns:
        The table, and whether its rows were found by their place in the dataset (`rows` of the column `index`).
    """
    try:
        with pq.ParquetFile(path) as file:
            present = file.schema_arrow.names
        by_index = episode is not None and rows is not None and "index" in present
        filters = None
        if by_index and rows is not None:
            filters = [("index", ">=", rows[0]), ("index", "<", rows[1])]
        elif episode is not None:
            if "episode_index" not in present:
                raise EpisodeError("bad-table", f"{path} has no column episode_index to find the rows of the episode")
            filters = [("episode_index", "==", episode)]
        names = [name for name in dict.fromkeys(columns) if name in present]
        table = pq.read_table(path, columns=names, filters=filters, partitioning=None)
    except (pa.ArrowException, OSError, MemoryError) as error:
        raise undecodable(path, error) from error
    if not table.num_rows:
        raise EpisodeError("bad-table", f"{path} has no rows" + ("" if episode is None else f" of episode {episode}"))
    return table, by_index


def _flatten(column: pa.ChunkedArray, width: int) -> NDArray[Any] | None:
    """All numbers of a column of vectors, row by row; None if they are not rows of `width` numbers."""
    kind = column.type
    if column.null_count:
        return None
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        if not (pc.list_value_length(column).to_numpy() == width).all():
            return None
        column = pc.list_flatten(column)
    elif width != 1:
        return None
    numeric = pa.types.is_floating(column.type) or pa.types.is_integer(column.type)
    return np.asarray(column.to_numpy()) if numeric and not column.null_count else None


def _task_texts(path: str) -> Mapping[int, str]:
    try:
        stat = os.stat(path)
    except OSError as error:
        raise EpisodeError("missing-file", f"{path}: {error.strerror}") from error
    return _read_tasks(path, stat.st_mtime_ns, stat.st_size)


@functools.lru_cache(maxsize=4)
def _read_tasks(path: str, modified: int, size: int) -> Mapping[int, str]:
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
        table = pq.read_table(path, partitioning=None)
    except (pa.ArrowException, OSError) as error:
        raise undecodable(path, error) from error
    text = [f.name for f in table.schema if pa.types.is_string(f.type) or pa.types.is_large_string(f.type)]
    name = "task" if "task" in text else text[0] if len(text) == 1 else None
    if name is None or "task_index" not in table.column_names:
        found = ", ".join(table.column_names)
        raise EpisodeError("bad-table", f"{path} has the columns {found}, expected task_index and task")
    rows: list[dict[str, Any]] = table.select(["task_index", name]).rename_columns(["task_index", "task"]).to_pylist()
    return rows
