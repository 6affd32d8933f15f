"""LeRobot v2.0, v2.1 and v3.0: a table of numbers and texts, and videos or images. Episode ids are NAME-NNNNNN.

R rows of an episode's table, one a frame; W channels of a column.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.audit.raw.base import RawEpisode, RawError, usable_text
from pipeline.audit.raw.decoding.frames import FrameReader, decode_image, drop_last_frames, image_reader
from pipeline.audit.raw.lerobot_layout import Layout
from pipeline.audit.raw.settings import SPLITS, clean, hashed_split, number_in, rate_of, text_of, texts_of
from pipeline.audit.raw.vectors import RawVectors

_BOOKKEEPING = frozenset({"episode_index", "frame_index", "task_index"})


class RawLeRobot:
    """The metadata of a LeRobot folder, read once."""

    def __init__(self, settings: Mapping[str, Any], root: Path) -> None:
        self._settings = settings
        self._prefix = text_of(settings, "name") + "-"
        self._fillers = frozenset(texts_of(settings, "not_instructions"))
        self._state, self._action = RawVectors(settings, "state"), RawVectors(settings, "action")
        self._layout = Layout.read(root)
        self._declared = _declared_splits(self._layout.info.get("splits"), self._layout.entries)

    def split_of(self, episode: str) -> str | None:
        """See `RawSource`."""
        number = self._number(episode)
        if number is None:
            return None
        return hashed_split(episode, self._settings) if self._declared is None else self._declared.get(number)

    def open(self, episode: str) -> RawEpisode:
        """See `RawSource`."""
        number, split = self._number(episode), self.split_of(episode)
        if number is None or split is None or number in self._layout.repeated:
            raise RawError(f"the metadata lists no {episode!r}, or more than one")
        path, cameras = self._layout.table_path(number), self._layout.cameras
        columns = _BOOKKEEPING | self._state.fields | self._action.fields
        images = {key for key, kind in cameras.items() if kind == "image"}
        table = self._layout.table(number, columns | images)
        self._check_rows(table, number, path)
        lost = self._action.lost
        frames = table.num_rows - lost
        readers = {key: self._frame_reader(number, key, kind, table) for key, kind in cameras.items()}
        texts = self._instructions(number, table)
        texts = texts if len(texts) == 1 else texts[:frames]

        def read(field: str) -> NDArray[np.float64]:
            return _matrix(table, field, path)

        return RawEpisode(
            id=episode,
            split=split,
            frame_readers={_view(key): drop_last_frames(reader, lost) for key, reader in readers.items()},
            instructions=texts,
            state=self._state.make(read, frames),
            actions=self._action.make(read, frames),
            exact_state=self._state.exact,
            exact_actions=self._action.exact,
        )

    def _number(self, episode: str) -> int | None:
        number = number_in(episode.removeprefix(self._prefix), 6) if episode.startswith(self._prefix) else None
        return number if number in self._layout.rows else None

    def _check_rows(self, table: pa.Table, number: int, path: Path) -> None:
        """The rows must be those of the episode, in order, as far as the table and the metadata give them."""
        rows = table.num_rows
        wanted = {"episode_index": [number] * rows, "frame_index": list(range(rows))}
        for name, values in wanted.items():
            if name in table.column_names and table.column(name).to_pylist() != values:
                raise RawError(f"{path}: {name} is not that of episode {number}, frame by frame")
        length = self._layout.length(number)
        if rows <= self._action.lost or (self._layout.shared and length not in (None, rows)):
            raise RawError(f"{path} has {rows} rows of episode {number}, the metadata has {length}")

    def _frame_reader(self, number: int, key: str, kind: str, table: pa.Table) -> FrameReader:
        if kind == "video":
            return self._layout.frame_reader(number, key)

        def image(index: int) -> NDArray[np.uint8]:
            stored = table.column(key)[index].as_py() if key in table.column_names else None
            encoded = stored.get("bytes") if isinstance(stored, dict) else None
            return decode_image(encoded, f"episode {number}: {key} at frame {index}")

        return image_reader(image, table.num_rows, rate_of(self._layout.info))

    def _instructions(self, number: int, table: pa.Table) -> tuple[str, ...]:
        if "task_index" not in table.column_names:
            tasks = self._layout.rows[number].get("tasks")
            texts = [usable_text(task) for task in tasks] if isinstance(tasks, list) and len(tasks) == 1 else []
        else:
            texts = [self._layout.texts.get(index, "") for index in table.column("task_index").to_pylist()]
        return tuple("" if text in self._fillers else text for text in texts)


def _view(key: str) -> str:
    return clean(key.removeprefix("observation.images."))


def _matrix(table: pa.Table, key: str, path: Path) -> NDArray[np.float64]:
    """A column of vectors or numbers as float64 [R, W]."""
    if key not in table.column_names:
        raise RawError(f"{path} has no column {key}")
    try:
        return np.array(table.column(key).to_pylist(), np.float64).reshape(table.num_rows, -1)
    except (ValueError, TypeError) as error:
        raise RawError(f"{path}: column {key} holds no rows of one width: {error}") from error


def _declared_splits(declared: object, episodes: int) -> dict[int, str] | None:
    """Episode number -> split; None unless the ranges cover every episode once and hold something out."""
    found: dict[int, str] = {}
    for name, text in (declared if isinstance(declared, dict) else {}).items():
        ends = re.fullmatch(r"(\d+):(\d+)", str(text))
        if name not in SPLITS or ends is None or int(ends[2]) > episodes:
            return None
        for number in range(int(ends[1]), int(ends[2])):
            if number in found:
                return None
            found[number] = SPLITS[name]
    return found if len(found) == episodes and set(found.values()) - {"train"} else None
