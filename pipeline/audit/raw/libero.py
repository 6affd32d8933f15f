"""LIBERO: HDF5 files below the root, one a task, groups data/demo_N in them. Episode ids are NAME-SHORT-NNNN.

SHORT is the file's path, NNNN the demonstration's number. N rows of a demonstration, W channels of a dataset.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import h5py
import numpy as np
from numpy.typing import NDArray

from pipeline.audit.raw.base import RawEpisode, RawError, RawSource, reading, usable_text
from pipeline.audit.raw.decoding.clock import frame_second
from pipeline.audit.raw.decoding.frames import FrameReader, TimedFrame
from pipeline.audit.raw.hdf5 import attribute_of, dataset_in, group_in
from pipeline.audit.raw.place import Place, find, handle
from pipeline.audit.raw.settings import SPLITS, clean, count_of, hashed_split, rate_of, short, text_of, texts_of
from pipeline.audit.raw.vectors import FieldReader, RobotVectors
from pipeline.format.json.strict_json import parse_any

_DEMO = re.compile(r"demo_([0-9]{1,18})")

_Place = tuple[Place, str]
"""A demonstration: its file and the name of its group."""


class RawLibero(RawSource):
    """All demonstrations of all files; a damaged file has none."""

    @property
    def rate(self) -> float | None:
        """As the settings have it; records hold no times."""
        return self._fps

    def list_episodes(self) -> None:
        settings = self.settings
        name, self._fps, self._lag = text_of(settings, "name"), rate_of(settings), count_of(settings, "action_lag")
        self._cameras, self._vectors = texts_of(settings, "cameras"), RobotVectors(settings)
        lost = (self._lag if self._vectors.action else 0) + self._vectors.action.lost
        paths = find(self.root, "**/*.hdf5")
        if not paths or not self._cameras or self._lag > 1:
            raise RawError(f"{self.root} holds no .hdf5 file, or settings.source no cameras or an action_lag above 1")
        files = {path: _File.read(path) for path in paths}
        kinds = {split for file in files.values() for split in file.splits.values()}
        masked = len(kinds) > 1 and all(file.is_split for file in files.values())
        for path, file in files.items():
            task = short(str(path).removeprefix(f"{self.root}/").removesuffix(".hdf5"))
            for demo, count in file.demos.items():
                if number := _DEMO.fullmatch(demo):
                    episode = f"{name}-{task}-{int(number[1]):04d}"
                    frames = None if count is None else max(0, count - lost)
                    problem = "has no actions" if count is None else None
                    split = file.splits[demo] if masked else hashed_split(episode, settings)
                    self.add(episode, split, (path, demo), frames, problem)

    def meant_by(self, entry: str) -> list[str]:
        """A bad demonstration is left out under its own name."""
        named = re.fullmatch(r"(.*)-demo_([0-9]{1,18})", entry)
        return super().meant_by(f"{named[1]}-{int(named[2]):04d}" if named else entry)

    def read(self, episode: str, split: str, place: _Place) -> RawEpisode:
        path, name = place
        with reading(path), h5py.File(handle(path), "r") as file:
            data = group_in(file, "data")
            if _rows_of(data, name) is None:
                raise RawError(f"{path}: {name} is no demonstration with actions of its own")
            demo = group_in(data, name)
            text = _instruction(attribute_of(data, "problem_info"))
            flipped = _plain(attribute_of(data, "macros_image_convention")) != "opencv"
            rows = len(dataset_in(demo, f"obs/{self._cameras[0]}", whole=False))
            action, claimed = self._vectors.action, attribute_of(data, "action_lag")
            lag = self._lag if action else 0
            if action and claimed is not None and claimed != lag:
                raise RawError(f"{path} has action_lag={claimed}, the build's settings.source {lag}")
            frames = rows - lag - action.lost
            if frames < 1:
                raise RawError(f"{path}, {name} has {rows} rows, none is left")
            names = _numeric_datasets(demo) if self._vectors.state else ()
            cameras = dict.fromkeys([*self._cameras, *_other_cameras(demo, rows)])
            vectors = self._vectors.make(_reader(demo, rows, 0), frames, _reader(demo, rows, lag), names)
        return RawEpisode(
            id=episode,
            split=split,
            frame_readers={
                clean(camera): _frame_reader(place, camera, flipped, (rows, frames), self._fps) for camera in cameras
            },
            instructions=(text,) if text else (),
            **vectors,
        )


@dataclass(frozen=True)
class _File:
    """A task. demos: name in data -> rows of actions (None: no demonstration); splits: by masks of robomimic."""

    demos: Mapping[str, int | None]
    splits: Mapping[str, str]

    @property
    def is_split(self) -> bool:
        """Whether every demonstration has one split."""
        return all(demo in self.splits for demo in self.demos if _DEMO.fullmatch(demo))

    @classmethod
    def read(cls, path: Place) -> _File:
        """A file that cannot be read has no demonstrations."""
        demos: dict[str, int | None] = {}
        splits: dict[str, str] = {}
        with contextlib.suppress(RawError), reading(path), h5py.File(handle(path), "r") as file:
            data = group_in(file, "data")
            for demo in data:
                demos[demo] = _rows_of(data, demo)
            twice: set[str] = set()
            for mask, split in SPLITS.items():
                listed = dataset_in(file, f"mask/{mask}") if f"mask/{mask}" in file else None
                names = listed[()].tolist() if listed is not None and listed.ndim == 1 else []
                for name in map(_plain, names):
                    if splits.setdefault(name, split) != split:
                        twice.add(name)
            splits = {name: split for name, split in splits.items() if name not in twice}
        return cls(demos, splits)


def _rows_of(data: h5py.Group, name: str) -> int | None:
    """Rows of the actions of a demonstration that lies in the file itself; None where there is none."""
    try:
        demo = group_in(data, name)
        actions = dataset_in(demo, "actions", whole=False)
    except RawError:
        return None
    rows = len(actions) if actions.shape else None
    claimed = attribute_of(demo, "num_samples")
    return rows if claimed is None or claimed == rows else None


def _numeric_datasets(demo: h5py.Group) -> list[str]:
    """Datasets of a demonstration that hold one row of numbers a frame."""
    found: list[str] = []

    def visit(name: str, item: object) -> None:
        if isinstance(item, h5py.Dataset) and len(item.shape) in (1, 2) and item.dtype.kind in "fiu":
            found.append(name)

    demo.visititems(visit)
    return sorted(found)


def _other_cameras(demo: h5py.Group, rows: int) -> Iterator[str]:
    """Names of all datasets of images that a demonstration has, one a row."""
    for name in demo["obs"]:
        with contextlib.suppress(RawError):
            item = dataset_in(demo, f"obs/{name}", whole=False)
            if item.dtype == np.uint8 and item.ndim == 4 and (item.shape[0], item.shape[3]) == (rows, 3):
                yield name


def _reader(demo: h5py.Group, rows: int, skip: int) -> FieldReader:
    """Datasets of a demonstration, float64 [N - skip, W], without their first `skip` rows."""

    def read(name: str) -> NDArray[np.float64]:
        values = np.asarray(dataset_in(demo, name))
        if values.dtype.kind not in "fiu" or values.ndim not in (1, 2) or len(values) != rows:
            raise RawError(f"{demo.name}/{name} is {values.dtype} {values.shape}, expected {rows} rows of numbers")
        if not values.size:
            raise RawError(f"{demo.name}/{name} is empty")
        return values.astype(np.float64).reshape(rows, -1)[skip:]

    return read


def _frame_reader(place: _Place, camera: str, flipped: bool, counts: tuple[int, int], fps: float) -> FrameReader:
    """Images of one camera. counts: rows that the dataset must have, and how many of them are frames."""
    rows, frames = counts
    path, where = place[0], f"data/{place[1]}/obs/{camera}"

    def images() -> Iterator[TimedFrame]:
        with reading(path), h5py.File(handle(path), "r") as file:
            stored = dataset_in(file, where, whole=False)
            shape = tuple(stored.shape)
            if stored.dtype != np.uint8 or len(shape) != 4 or shape[0] != rows or shape[3] != 3 or not stored.size:
                raise RawError(f"{path}, {where} is {stored.dtype} {shape}, expected {rows} RGB images")
            for index in range(frames):
                image = np.asarray(stored[index])
                yield frame_second(index, fps), np.flipud(image).copy() if flipped else image

    return images


def _instruction(problem: object) -> str:
    """The text in the attribute problem_info, which may hold it letter by letter; "" when there is none."""
    try:
        found = parse_any(_plain(problem))["language_instruction"]
    except (ValueError, TypeError, KeyError):
        return ""
    joined = "".join(found) if isinstance(found, list) and all(isinstance(part, str) for part in found) else found
    return usable_text(usable_text(joined).strip('"'))


def _plain(value: object) -> str:
    return value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else str(value)
