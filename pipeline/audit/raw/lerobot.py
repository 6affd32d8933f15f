"""LeRobot v2.0, v2.1 and v3.0: a table of numbers and texts, and videos or images. Episode ids are NAME-NNNNNN.

R rows of an episode's table, one a frame; W channels of a column.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.audit.raw.base import RawEpisode, RawError, RawSource, reading, usable_text
from pipeline.audit.raw.decoding.clock import frame_second
from pipeline.audit.raw.decoding.frames import FrameReader, decode_image, drop_last_frames
from pipeline.audit.raw.lerobot_layout import Layout
from pipeline.audit.raw.lerobot_segments import ambiguous_episodes
from pipeline.audit.raw.settings import SPLITS, clean, hashed_split, rate_of, text_of, texts_of
from pipeline.audit.raw.vectors import RobotVectors

_BOOKKEEPING = frozenset({"episode_index", "frame_index", "task_index"})


class RawLeRobot(RawSource):
    """The place of an episode is its number."""

    @property
    def rate(self) -> float | None:
        """As info.json declares it."""
        return rate_of(self._layout.info) if self._layout.info.get("fps") else None

    def list_episodes(self) -> None:
        name = text_of(self.settings, "name")
        self._fillers = frozenset(texts_of(self.settings, "not_instructions"))
        self._vectors = RobotVectors(self.settings)
        self._layout = Layout.read(self.root)
        declared = _declared_splits(self._layout.info.get("splits"), self._layout.entries)
        ambiguous = ambiguous_episodes(self._layout, rate_of(self._layout.info)) if self._layout.shared else {}
        for number, count in self._layout.numbers.items():
            if number < 0:
                continue
            episode = f"{name}-{number:06d}"
            for _ in range(count):
                split = hashed_split(episode, self.settings) if declared is None else declared.get(number)
                self.add(episode, split, number, self._layout.length(number), ambiguous.get(number))

    def read(self, episode: str, split: str, place: int) -> RawEpisode:
        layout, number = self._layout, place
        path, cameras = layout.table_path(number), layout.cameras
        images = {key for key, kind in cameras.items() if kind == "image"}
        numbers = layout.numeric_columns if self._vectors.state else frozenset()
        table = layout.table(number, _BOOKKEEPING | self._vectors.fields | numbers | images)
        self._check_rows(table, number, path)
        lost = self._vectors.action.lost
        frames = table.num_rows - lost
        readers = {key: self._frame_reader(number, key, kind, table) for key, kind in cameras.items()}
        texts = self._instructions(number, table)
        return RawEpisode(
            id=episode,
            split=split,
            frame_readers={
                clean(key.removeprefix("observation.images.")): drop_last_frames(reader, lost)
                for key, reader in readers.items()
            },
            instructions=texts if len(texts) == 1 else texts[:frames],
            **self._vectors.make(lambda field: _matrix(table, field, path), frames, names=sorted(numbers)),
        )

    def _check_rows(self, table: pa.Table, number: int, path: Path) -> None:
        """The rows must be those of the episode, in order, as far as the table and the metadata give them."""
        rows = table.num_rows
        wanted = {"episode_index": [number] * rows, "frame_index": list(range(rows))}
        for name, values in wanted.items():
            if name in table.column_names and table.column(name).to_pylist() != values:
                raise RawError(f"{path}: {name} is not that of episode {number}, frame by frame")
        length = self._layout.length(number)
        if rows <= self._vectors.action.lost or (self._layout.shared and length not in (None, rows)):
            raise RawError(f"{path} has {rows} rows of episode {number}, the metadata has {length}")

    def _frame_reader(self, number: int, key: str, kind: str, table: pa.Table) -> FrameReader:
        if kind == "video":
            return self._layout.frame_reader(number, key)
        fps = rate_of(self._layout.info)

        def image(index: int) -> NDArray[np.uint8]:
            stored = table.column(key)[index].as_py() if key in table.column_names else None
            encoded = stored.get("bytes") if isinstance(stored, dict) else None
            return decode_image(encoded, f"episode {number}: {key} at frame {index}")

        return lambda: ((frame_second(index, fps), image(index)) for index in range(table.num_rows))

    def _instructions(self, number: int, table: pa.Table) -> tuple[str, ...]:
        if "task_index" not in table.column_names:
            tasks = self._layout.rows[number].get("tasks")
            texts = [usable_text(task) for task in tasks] if isinstance(tasks, list) and len(tasks) == 1 else []
        else:
            texts = [self._layout.texts.get(index, "") for index in table.column("task_index").to_pylist()]
        return tuple("" if text in self._fillers else text for text in texts)


def _matrix(table: pa.Table, key: str, path: Path) -> NDArray[np.float64]:
    """A column of vectors or numbers as float64 [R, W]."""
    if key not in table.column_names:
        raise RawError(f"{path} has no column {key}")
    with reading(f"{path}, column {key}"):
        return np.array(table.column(key).to_pylist(), np.float64).reshape(table.num_rows, -1)


def _declared_splits(declared: object, episodes: int) -> dict[int, str] | None:
    """Episode number -> split; None unless the ranges cover every episode once and hold something out."""
    found: dict[int, str] = {}
    for name, text in (declared if isinstance(declared, dict) else {}).items():
        ends = re.fullmatch(r"(\d+):(\d+)", str(text))
        if name not in SPLITS or ends is None or int(ends[2]) > episodes:
            return None
        numbers = range(int(ends[1]), int(ends[2]))
        if any(number in found for number in numbers):
            return None
        found |= dict.fromkeys(numbers, SPLITS[name])
    return found if len(found) == episodes and set(found.values()) - {"train"} else None
