"""One open LeRobot v2.x episode: its table in memory, its videos open, their lengths compared."""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipeline.decode import Video
from pipeline.errors import EpisodeError
from pipeline.sources.base import EpisodeRef
from pipeline.sources.metadata import has_text, read_json_lines

TASKS_FILE = "meta/tasks.jsonl"


class LeRobotEpisode:
    """Frames, state, actions and instruction of one episode.

    Raises (when opened):
        EpisodeError: "length-mismatch" (table, metadata and cameras do not agree), "not-finite", "undecodable",
            "bad-table" (a column is missing, ragged or of another width than declared, or the rows belong to another
            episode or stand in another order).
    """

    def __init__(self, root: str, ref: EpisodeRef) -> None:
        self._ref = ref
        data = ref.data
        self._file = os.path.join(root, data["table"])
        table = _read_table(self._file)
        self._check_rows(table)
        self._state = self._matrix(table, data["state_key"], data["state_dim"])
        self._actions = self._matrix(table, data["action_key"], data["action_dim"])
        self._tasks = self._task_column(table)
        self._texts = _task_texts(os.path.join(root, TASKS_FILE))
        self._num_frames: int = table.num_rows
        with ExitStack() as opened:
            self._videos = {
                view: opened.enter_context(Video(os.path.join(root, path))) for view, path in data["videos"].items()
            }
            self._check_lengths()
            self._stack = opened.pop_all()

    @property
    def id(self) -> str:
        return self._ref.id

    @property
    def num_frames(self) -> int:
        return self._num_frames

    def frames(self, view: str, indices: Sequence[int]) -> NDArray[np.uint8]:
        """RGB frames uint8 [len(indices), H, W, 3]. Raises EpisodeError like `Video.frames`."""
        if view not in self._videos:
            raise ValueError(f"episode {self.id} has the views {', '.join(self._videos)}; {view!r} was asked for")
        return self._videos[view].frames(indices)

    def timestamps(self, indices: Sequence[int]) -> NDArray[np.float64]:
        """Presentation times of the first view, seconds after its first frame, float64 [len(indices)].

        By the video and not by the table: tables exist whose clock starts a frame or two late.
        """
        return next(iter(self._videos.values())).timestamps(indices)

    def instruction(self, index: int) -> str:
        """Text of the task that the frame's `task_index` names; without that column, the episode's only task.

        Raises:
            EpisodeError: "no-instruction" when the text is missing or empty; "out-of-range".
        """
        self._check_range(index, index + 1)
        if self._tasks is None:
            tasks = self._ref.data["tasks"]
            if len(tasks) != 1 or not has_text(tasks[0]):
                raise EpisodeError("no-instruction", f"{self._file} has no task_index and the episode lists {tasks}")
            return str(tasks[0]).strip()
        number = int(self._tasks[index])
        text = self._texts.get(number)
        if text is None or not has_text(text):
            raise EpisodeError(
                "no-instruction", f"{self._file} frame {index}: task {number} of {TASKS_FILE} is {text!r}"
            )
        return text.strip()

    def state(self, index: int) -> NDArray[np.float32] | None:
        """State at a frame, float32 [S]."""
        self._check_range(index, index + 1)
        return None if self._state is None else self._state[index].copy()

    def actions(self, start: int, stop: int) -> NDArray[np.float32] | None:
        """Actions of frames start..stop-1, float32 [stop-start, A]."""
        self._check_range(start, stop)
        return None if self._actions is None else self._actions[start:stop].copy()

    def close(self) -> None:
        self._stack.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _check_range(self, start: int, stop: int) -> None:
        if not 0 <= start < stop <= self._num_frames:
            raise EpisodeError(
                "out-of-range", f"{self._file} has frames 0..{self._num_frames - 1}; {start}..{stop - 1} were asked for"
            )

    def _check_lengths(self) -> None:
        lengths = {"table": self._num_frames} | {view: video.num_frames for view, video in self._videos.items()}
        if self._ref.num_frames is not None:
            lengths["episodes.jsonl"] = self._ref.num_frames
        if len(set(lengths.values())) > 1:
            numbers = ", ".join(f"{what} {length}" for what, length in lengths.items())
            raise EpisodeError("length-mismatch", f"{self._file}: frames by {numbers}")

    def _check_rows(self, table: pa.Table) -> None:
        """Where the bookkeeping columns exist, the rows must be this episode's, in order."""
        expected = {
            "episode_index": np.full(table.num_rows, self._ref.data["episode_index"]),
            "frame_index": np.arange(table.num_rows),
        }
        for name, values in expected.items():
            if name in table.column_names and not np.array_equal(self._integers(table, name), values):
                raise EpisodeError("bad-table", f"{self._file}: {name} is not {values[:3].tolist()}… as it should be")

    def _integers(self, table: pa.Table, name: str) -> NDArray[np.int64]:
        column = table[name]
        if not pa.types.is_integer(column.type) or column.null_count:
            found = f"{column.type} with {column.null_count} nulls"
            raise EpisodeError("bad-table", f"{self._file}: column {name} is {found}, expected integers")
        return column.to_numpy().astype(np.int64)

    def _task_column(self, table: pa.Table) -> NDArray[np.int64] | None:
        return self._integers(table, "task_index") if "task_index" in table.column_names else None

    def _matrix(self, table: pa.Table, key: str | None, width: int | None) -> NDArray[np.float32] | None:
        """A column of vectors (fixed-size or plain lists, or scalars) as float32 [rows, width], all finite."""
        if key is None or width is None:
            return None
        if key not in table.column_names:
            raise EpisodeError("bad-table", f"{self._file} has no column {key}; it has {', '.join(table.column_names)}")
        values = _flatten(table[key], width)
        if values is None:
            raise EpisodeError("bad-table", f"{self._file}: column {key} is no {table.num_rows} x {width} numbers")
        # A float64 too large for float32 becomes infinite here and is reported below.
        with np.errstate(over="ignore"):
            matrix = values.reshape(table.num_rows, width).astype(np.float32)
        finite = np.isfinite(matrix)
        if not finite.all():
            row, channel = (int(i) for i in np.argwhere(~finite)[0])
            raise EpisodeError(
                "not-finite", f"{self._file}: {key} at frame {row}, channel {channel} is {matrix[row, channel]}"
            )
        return matrix


def _read_table(path: str) -> pa.Table:
    try:
        table = pq.ParquetFile(path).read()
    except (pa.ArrowException, OSError) as error:
        raise EpisodeError("undecodable", f"{path}: {' '.join(str(error).split())[:300]}") from error
    if not table.num_rows:
        raise EpisodeError("bad-table", f"{path} has no rows")
    return table


def _flatten(column: pa.ChunkedArray, width: int) -> NDArray[Any] | None:
    """All numbers of a column of vectors, row by row; None when they do not make rows of `width`."""
    kind = column.type
    is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    if column.null_count:
        return None
    if is_list:
        lengths = pc.list_value_length(column).to_numpy()
        column = pc.list_flatten(column)
        if not (lengths == width).all():
            return None
    elif width != 1:
        return None
    numeric = pa.types.is_floating(column.type) or pa.types.is_integer(column.type)
    if column.null_count or not numeric:
        return None
    return np.asarray(column.to_numpy())


def _task_texts(path: str) -> Mapping[int, str]:
    try:
        stat = os.stat(path)
    except OSError as error:
        raise EpisodeError("missing-file", f"{path}: {error.strerror}") from error
    return _read_tasks(path, stat.st_mtime_ns, stat.st_size)


@functools.lru_cache(maxsize=4)
def _read_tasks(path: str, modified: int, size: int) -> Mapping[int, str]:
    """Task texts by number; kept per version of the file, as one file serves every episode of a dataset."""
    rows = read_json_lines(path, "Restore the file from the dataset.")
    texts: dict[int, str] = {}
    for row in rows:
        if isinstance(row, dict) and isinstance(row.get("task_index"), int) and isinstance(row.get("task"), str):
            # Two texts for one number: nobody can tell which is meant, so there is none.
            same = texts.get(row["task_index"], row["task"]) == row["task"]
            texts[row["task_index"]] = row["task"] if same else ""
    return texts
