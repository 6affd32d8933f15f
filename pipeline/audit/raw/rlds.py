"""RLDS: TFRecord files of a prepared TensorFlow dataset, one episode a record. Episode ids are NAME-SPLIT-NNNNNN.

NNNNNN is the record's number over all files of the split. N steps of a record, W channels of a field.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.audit.raw.base import RawEpisode, RawError, RawSource, reading, usable_text
from pipeline.audit.raw.decoding.clock import frame_second
from pipeline.audit.raw.decoding.frames import FrameReader, TimedFrame, decode_image
from pipeline.audit.raw.decoding.tfrecord import Values, parse_example, read_record
from pipeline.audit.raw.place import Place, find
from pipeline.audit.raw.rlds_features import Features, read_features
from pipeline.audit.raw.settings import SPLITS, clean, count_of, hashed_split, rate_of, text_of, texts_of
from pipeline.audit.raw.templates import path_from
from pipeline.audit.raw.vectors import RobotVectors
from pipeline.format.json.strict_json import parse_any
from pipeline.format.text.patterns import simple_patterns

_FRAMING = 16
"""Bytes around the data of a record: its length, and two checksums."""

_INFO = "dataset_info.json"
_TEMPLATE = "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"
_ONCE = "episode_metadata/"
_OBSERVATION = "steps/observation/"
_IMAGES = (b"\xff\xd8\xff", b"\x89PNG")
"""How a JPEG and a PNG begin."""

_Place = tuple[Place, int]
"""File and number in it of a record."""


class RawRlds(RawSource):
    """All records of a prepared dataset."""

    @property
    def rate(self) -> float | None:
        """As the settings have it; records hold no times."""
        return self._fps

    def list_episodes(self) -> None:
        settings = self.settings
        name, self._fps, self._skip = text_of(settings, "name"), rate_of(settings), count_of(settings, "skip_first")
        self._cameras, self._texts = texts_of(settings, "cameras"), texts_of(settings, "instruction")
        self._vectors = RobotVectors(settings)
        self._wanted = _patterns(settings.get("wanted"))
        if not self._cameras:
            raise RawError("settings.source.cameras names no camera")
        folder = _version_folder(self.root)
        splits, self._features = _read_splits(folder / _INFO), read_features(folder / "features.json")
        official = len({SPLITS[split] for split in splits}) > 1
        for split, places in splits.items():
            for number, place in enumerate(places):
                episode = f"{name}-{clean(split)}-{number:06d}"
                self.add(episode, SPLITS[split] if official else hashed_split(episode, settings), place)

    def read(self, episode: str, split: str, place: _Place) -> RawEpisode:
        where = f"{place[0]}, record {place[1]}"
        with reading(where):
            record = _Record(parse_example(read_record(*place)), where, self._cameras[0], self._features)
        frames = record.steps - self._skip - self._vectors.action.lost
        if frames < 1:
            raise RawError(f"{where} has {record.steps} steps, none is left")
        numbers = record.numeric_fields()
        return RawEpisode(
            id=episode,
            split=split,
            frame_readers={
                clean(camera): self._frame_reader(record, camera, frames)
                for camera in dict.fromkeys([*self._cameras, *record.cameras()])
            },
            instructions=tuple(record.text(self._texts, self._skip + frame) for frame in range(frames)),
            wanted=all(re.search(pattern, record.text((name,), self._skip)) for name, pattern in self._wanted.items()),
            **self._vectors.make(lambda field: record.field(field)[self._skip :], frames, names=numbers),
        )

    def _frame_reader(self, record: _Record, camera: str, frames: int) -> FrameReader:
        images = record.images(camera)[self._skip :][:frames]
        declared = self._features.pictures.get(camera, ())

        def shown() -> Iterator[TimedFrame]:
            for at, image in enumerate(images):
                where = f"{record.where}: {camera}, frame {at}"
                picture = decode_image(image, where)
                if any(size > 0 and size != found for size, found in zip(declared, picture.shape, strict=False)):
                    raise ValueError(f"{where} is {picture.shape[:2]}, features.json declares {declared}")
                yield frame_second(at, self._fps), picture

        return shown


class _Record:
    """One record: an episode of N = `steps` steps, as many as the first camera has images."""

    def __init__(self, features: Mapping[str, Values], where: str, first_camera: str, declared: Features) -> None:
        self._features, self.where, self._tensors = features, where, declared.tensors
        self.steps = len(self._values(f"steps/observation/{first_camera}"))
        if not self.steps:
            raise RawError(f"{where} has no images of {first_camera}")

    def images(self, camera: str) -> list[bytes]:
        """Encoded, one a step."""
        values = self._values(f"steps/observation/{camera}")
        if not isinstance(values, list) or len(values) != self.steps:
            raise RawError(f"{self.where}: {camera} has {len(values)} values, expected {self.steps} images")
        return values

    def cameras(self) -> Iterator[str]:
        """Fields of the observation that hold an image each step."""
        for name, values in self._features.items():
            images = values if isinstance(values, list) and len(values) == self.steps else [b""]
            if name.startswith(_OBSERVATION) and images[0].startswith(_IMAGES):
                yield name.removeprefix(_OBSERVATION)

    def numeric_fields(self) -> list[str]:
        """Fields of a step that hold numbers."""
        steps = (name for name, values in self._features.items() if not isinstance(values, list))
        return sorted({*self._tensors, *(name.removeprefix("steps/") for name in steps if name.startswith("steps/"))})

    def field(self, name: str) -> NDArray[np.float64]:
        """A numeric field of a step, float64 [N, W]: as features.json declares it, or by the numbers that are there."""
        values = self._values(f"steps/{name}")
        if name in self._tensors:
            with reading(f"{self.where}: {name}"):
                return self._tensors[name].read(values, self.steps)
        if isinstance(values, list) or not len(values) or len(values) % self.steps:
            raise RawError(f"{self.where}: {name} has {len(values)} values, expected numbers of {self.steps} steps")
        return values.astype(np.float64).reshape(self.steps, -1)

    def text(self, fields: tuple[str, ...], step: int) -> str:
        """The first text of a step that is not blank; "" when all are."""
        for field in fields:
            once = field.startswith(_ONCE)
            values = self._values(field if once else f"steps/{field}")
            if not isinstance(values, list) or len(values) != (1 if once else self.steps):
                raise RawError(f"{self.where}: {field} has {len(values)} values, expected texts of {self.steps} steps")
            try:
                text = usable_text(values[0 if once else step].decode())
            except UnicodeDecodeError:
                continue
            if text:
                return text
        return ""

    def _values(self, feature: str) -> Values:
        if feature not in self._features:
            raise RawError(f"{self.where} has no {feature}; it has {', '.join(sorted(self._features))}")
        return self._features[feature]


def _patterns(wanted: object) -> Mapping[str, re.Pattern[str]]:
    """Text field -> what its text must match. Raises RawError."""
    with reading("settings.source.wanted"):
        return simple_patterns(dict(wanted or {}))  # type: ignore[call-overload]


def _version_folder(root: Place) -> Place:
    """The folder with dataset_info.json: `root`, or the only one below it."""
    if (root / _INFO).is_file():
        return root
    found = [path.parent for path in find(root, f"*/{_INFO}")]
    if len(found) != 1:
        raise RawError(f"{len(found)} folders below {root} hold {_INFO}, expected one")
    return found[0]


def _read_splits(path: Place) -> dict[str, list[_Place]]:
    """The records of each split. Raises RawError when the file is none, or the name of a split is unknown."""
    with reading(f"{path} is no description of a dataset"):
        info = parse_any(path.read_bytes())
        dataset, kind = str(info["name"]), str(info.get("fileFormat") or "tfrecord")
        unknown = [split["name"] for split in info["splits"] if split["name"] not in SPLITS]
        if unknown or kind != "tfrecord":
            raise RawError(f"{path}: {kind} with splits {unknown}; known are tfrecord and {', '.join(SPLITS)}")
        return {
            split["name"]: list(_places(path.parent, split, {"DATASET": dataset, "FILEFORMAT": kind}))
            for split in info["splits"]
        }


def _places(folder: Place, split: Mapping[str, Any], names: Mapping[str, str]) -> Iterator[_Place]:
    """Every record of a split: over its files, whose names are made from a template."""
    lengths = [int(length) for length in split.get("shardLengths", ())]
    total = f"{len(lengths):05d}"
    for number, length in enumerate(lengths):
        index = f"{number:05d}"
        shard = {"SHARD_INDEX": index, "NUM_SHARDS": total, "SHARD_X_OF_Y": f"{index}-of-{total}"}
        path = folder / path_from(
            split.get("filepathTemplate") or _TEMPLATE, {**names, "SPLIT": split["name"], **shard}
        )
        most = path.stat().st_size // _FRAMING if path.is_file() else length
        if not 0 <= length <= most:
            raise RawError(f"{folder / _INFO}: shardLengths gives {path.name} {length} records, it holds 0 to {most}")
        yield from zip(itertools.repeat(path), range(length), strict=False)
