"""LeRobot v2.0, v2.1 and v3.0: a table of numbers and texts, and videos or images. Episode ids are NAME-NNNNNN.

R rows of an episode's table, one a frame; W channels of a column.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from itertools import combinations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.audit.raw.base import RawEpisode, RawError, RawSource, usable_text
from pipeline.audit.raw.decoding.clock import frame_second
from pipeline.audit.raw.decoding.frames import FrameReader, TimedFrame, decode_image, drop_last_frames
from pipeline.audit.raw.lerobot.layout import Layout
from pipeline.audit.raw.lerobot.segments import find_conflicts
from pipeline.audit.raw.lerobot.tables import integers_of, numbers_of
from pipeline.audit.raw.place import Place
from pipeline.audit.raw.settings import SPLITS, clean, hashed_split, rate_of, text_of, texts_of
from pipeline.audit.raw.vectors import RobotVectors

_BOOKKEEPING = frozenset({"episode_index", "frame_index", "task_index", "timestamp"})


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
        declared = _declared_splits(self._layout.info.get("splits"), [n for n in self._layout.numbers if n >= 0])
        self._conflicts = find_conflicts(self._layout, rate_of(self._layout.info) if self._layout.shared else 0.0)
        for number, count in self._layout.numbers.items():
            if number < 0:
                continue
            episode = f"{name}-{number:06d}"
            for _ in range(count):
                split = hashed_split(episode, self.settings) if declared is None else declared.get(number)
                self.add(episode, split, number, self._layout.length(number), self._conflicts.of(number))

    def read(self, episode: str, split: str, place: int) -> RawEpisode:
        layout, number = self._layout, place
        if number in self._conflicts.rows:
            raise RawError(self._conflicts.rows[number])
        path, cameras = layout.table_path(number), layout.cameras
        images = {key for key, kind in cameras.items() if kind == "image"}
        numbers = layout.numeric_columns if self._vectors.state else frozenset()
        table = layout.table(number, _BOOKKEEPING | self._vectors.fields | numbers | images)
        self._check_rows(table, number, path)
        lost = self._vectors.action.lost
        frames = table.num_rows - lost
        readers = {key: self._frame_reader(number, key, kind, table) for key, kind in cameras.items()}
        texts = self._instructions(number, table, path)
        return RawEpisode(
            id=episode,
            split=split,
            frame_readers={
                clean(key.removeprefix("observation.images.")): drop_last_frames(reader, lost)
                for key, reader in readers.items()
            },
            instructions=texts if len(texts) == 1 else texts[:frames],
            **self._vectors.make(lambda field: numbers_of(table, field, path), frames, names=sorted(numbers)),
        )

    def _check_rows(self, table: pa.Table, number: int, path: Place) -> None:
        rows, length = table.num_rows, self._layout.length(number)
        if rows <= self._vectors.action.lost or (self._layout.shared and length not in (None, rows)):
            raise RawError(f"{path} has {rows} rows of episode {number}, the metadata has {length}")

    def _frame_reader(self, number: int, key: str, kind: str, table: pa.Table) -> FrameReader:
        if problem := self._conflicts.frames.get(key, {}).get(number):
            return lambda: _refuse(problem)
        if kind == "video":
            return self._layout.frame_reader(number, key)
        size = self._layout.picture_size(key)
        fps = rate_of(self._layout.info)

        def image(index: int) -> NDArray[np.uint8]:
            stored = table.column(key)[index].as_py() if key in table.column_names else None
            encoded = stored.get("bytes") if isinstance(stored, dict) else None
            picture = decode_image(encoded, f"episode {number}: {key} at frame {index}")
            if size not in (None, picture.shape[:2]):
                raise ValueError(f"episode {number}: {key} at frame {index} is {picture.shape[:2]}, declared is {size}")
            return picture

        return lambda: ((frame_second(index, fps), image(index)) for index in range(table.num_rows))

    def _instructions(self, number: int, table: pa.Table, path: Place) -> tuple[str, ...]:
        tasks = self._layout.rows[number].get("tasks")
        listed = [usable_text(task) for task in tasks if isinstance(task, str)] if isinstance(tasks, list) else []
        if "task_index" not in table.column_names:
            texts = listed if len(listed) == 1 else []
        else:
            texts = [self._layout.texts.get(index, "") for index in integers_of(table, "task_index", path)]
            strange = {*texts} - {*listed, ""} if listed else ()
            if strange:
                raise RawError(f"episode {number}: its rows name the tasks {strange}, the metadata lists {listed}")
        return tuple("" if text in self._fillers else text for text in texts)


def _refuse(problem: str) -> Iterator[TimedFrame]:
    raise ValueError(problem)


def _declared_splits(declared: object, episodes: Collection[int]) -> dict[int, str] | None:
    """Episode number -> split, by ranges of episode numbers (which may have gaps).

    None unless no two ranges have a number in common, every episode lies in one, and something is held out.
    """
    ranges: list[tuple[range, str]] = []
    for name, text in (declared if isinstance(declared, dict) else {}).items():
        ends = re.fullmatch(r"(\d+):(\d+)", str(text))
        if name not in SPLITS or ends is None or int(ends[1]) > int(ends[2]):
            return None
        ranges.append((range(int(ends[1]), int(ends[2])), SPLITS[name]))
    full = [numbers for numbers, _ in ranges if numbers]
    if any(max(a.start, b.start) < min(a.stop, b.stop) for a, b in combinations(full, 2)):
        return None
    found = {number: split for number in episodes for numbers, split in ranges if number in numbers}
    return found if len(found) == len(episodes) and {*found.values()} - {"train"} else None
