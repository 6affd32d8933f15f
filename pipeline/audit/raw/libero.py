"""LIBERO: HDF5 files below the root, one a task, groups data/demo_N in them. Episode ids are NAME-SHORT-NNNN.

SHORT is the file's path, NNNN the demonstration's number. N rows of a demonstration, W channels of a dataset.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from pipeline.audit.raw.base import RawEpisode, RawError, usable_text
from pipeline.audit.raw.decoding.frames import FrameReader, TimedFrame
from pipeline.audit.raw.settings import clean, count_of, hashed_split, number_in, rate_of, short, text_of, texts_of
from pipeline.audit.raw.vectors import FieldReader, RawVectors

_DEMO = "demo_"


@dataclass(frozen=True)
class _Place:
    """A demonstration: its file and the name of its group."""

    path: Path
    demo: str


class RawLibero:
    """The names of all demonstrations, read once."""

    def __init__(self, settings: Mapping[str, Any], root: Path) -> None:
        self._settings = settings
        self._fps = rate_of(settings)
        self._lag = count_of(settings, "action_lag")
        self._cameras = texts_of(settings, "cameras")
        self._state, self._action = RawVectors(settings, "state"), RawVectors(settings, "action")
        self._places: dict[str, _Place] = {}
        self._twice: set[str] = set()
        name = text_of(settings, "name")
        paths = sorted(root.glob("**/*.hdf5"))
        if not paths or not self._cameras or self._lag > 1:
            raise RawError(f"{root} holds no .hdf5 file, or settings.source no cameras or an action_lag above 1")
        for path in paths:
            task = short(path.relative_to(root).as_posix().removesuffix(".hdf5"))
            for demo, number in _demonstrations(path):
                episode = f"{name}-{task}-{number:04d}"
                if episode in self._places:
                    self._twice.add(episode)
                self._places[episode] = _Place(path, demo)

    def split_of(self, episode: str) -> str | None:
        """See `RawSource`."""
        return hashed_split(episode, self._settings) if episode in self._places else None

    def open(self, episode: str) -> RawEpisode:
        """See `RawSource`."""
        split = self.split_of(episode)
        if split is None or episode in self._twice:
            raise RawError(f"{episode!r} is no demonstration, or more than one")
        place = self._places[episode]
        with _reading(place.path), h5py.File(place.path, "r") as file:
            data = file["data"]
            demo = data[place.demo]
            text = _instruction(data.attrs.get("problem_info"))
            flipped = _plain(data.attrs.get("macros_image_convention")) != "opencv"
            rows = len(demo[f"obs/{self._cameras[0]}"])
            lag = self._lag if self._action else 0
            claimed = data.attrs.get("action_lag")
            if self._action and claimed is not None and claimed != lag:
                raise RawError(f"{place.path} has action_lag={claimed}, the build's settings.source {lag}")
            frames = rows - lag - self._action.lost
            if frames < 1:
                raise RawError(f"{place.path}, {place.demo} has {rows} rows, none is left")
            state = self._state.make(_reader(demo, rows, 0), frames)
            actions = self._action.make(_reader(demo, rows, lag), frames)
        counts = (rows, frames)
        readers = {name: _frame_reader(place, name, flipped, counts, self._fps) for name in self._cameras}
        return RawEpisode(
            id=episode,
            split=split,
            frame_readers={clean(camera): reader for camera, reader in readers.items()},
            instructions=(text,) if text else (),
            state=state,
            actions=actions,
            exact_state=self._state.exact,
            exact_actions=self._action.exact,
        )


def _demonstrations(path: Path) -> Iterator[tuple[str, int]]:
    """Name and number of every demonstration of a file; a damaged file has none."""
    try:
        with _reading(path), h5py.File(path, "r") as file:
            names = list(file["data"].keys())
    except RawError:
        return
    for name in names:
        digits = name.removeprefix(_DEMO)
        number = number_in(digits.lstrip("0") or "0", 1)
        if name.startswith(_DEMO) and digits and number is not None:
            yield name, number


def _reader(demo: h5py.Group, rows: int, skip: int) -> FieldReader:
    """Datasets of a demonstration, float64 [N - skip, W], without their first `skip` rows."""

    def read(name: str) -> NDArray[np.float64]:
        values = np.asarray(demo[name])
        if values.dtype.kind not in "fiu" or values.ndim not in (1, 2) or len(values) != rows:
            raise RawError(f"{demo.name}/{name} is {values.dtype} {values.shape}, expected {rows} rows of numbers")
        return values.astype(np.float64).reshape(rows, -1)[skip:]

    return read


def _frame_reader(place: _Place, camera: str, flipped: bool, counts: tuple[int, int], fps: float) -> FrameReader:
    """Images of one camera. counts: rows that the dataset must have, and how many of them are frames."""
    rows, frames = counts
    where = f"{place.demo}/obs/{camera}"

    def images() -> Iterator[TimedFrame]:
        with _reading(place.path), h5py.File(place.path, "r") as file:
            stored = file[f"data/{where}"]
            shape = tuple(stored.shape)
            if stored.dtype != np.uint8 or len(shape) != 4 or shape[0] != rows or shape[3] != 3:
                raise RawError(f"{place.path}, {where} is {stored.dtype} {shape}, expected {rows} RGB images")
            for index in range(frames):
                image = np.asarray(stored[index])
                yield index / fps, np.flipud(image).copy() if flipped else image

    return images


def _instruction(problem: object) -> str:
    """The text in the attribute problem_info, which may hold it letter by letter; "" when there is none."""
    try:
        found = json.loads(_plain(problem))["language_instruction"]
    except (ValueError, TypeError, KeyError):
        return ""
    joined = "".join(found) if isinstance(found, list) and all(isinstance(part, str) for part in found) else found
    return usable_text(usable_text(joined).strip('"'))


def _plain(value: object) -> str:
    return value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else str(value)


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Whatever h5py raises on a damaged file becomes a RawError that names it."""
    try:
        yield
    except (OSError, KeyError, ValueError, RuntimeError, TypeError, AttributeError) as error:
        raise RawError(f"{path}: {' '.join(str(error).split())[:200]}") from error
