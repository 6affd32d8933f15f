"""RLDS: TFRecord files of a prepared TensorFlow dataset, one episode a record. Episode ids are NAME-SPLIT-NNNNNN.

NNNNNN is the record's number over all files of the split. N steps of a record, W channels of a field.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.audit.raw.base import RawEpisode, RawError, read_bytes, usable_text
from pipeline.audit.raw.decoding.frames import FrameReader, decode_image, image_reader
from pipeline.audit.raw.decoding.tfrecord import Values, parse_example, read_record
from pipeline.audit.raw.settings import SPLITS, clean, count_of, hashed_split, number_in, rate_of, text_of, texts_of
from pipeline.audit.raw.vectors import RawVectors

_INFO = "dataset_info.json"
_TEMPLATE = "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"
_ONCE = "episode_metadata/"


@dataclass(frozen=True)
class _Split:
    """A split of the dataset. lengths: records of each file; template: name of a file, for its number."""

    name: str
    lengths: tuple[int, ...]
    template: str
    dataset: str
    kind: str

    def place(self, number: int) -> tuple[str, int]:
        """File and number in it of a record. Raises RawError when the template cannot be filled in."""
        shard = 0
        while number >= self.lengths[shard]:
            number -= self.lengths[shard]
            shard += 1
        index, total = f"{shard:05d}", f"{len(self.lengths):05d}"
        try:
            file = self.template.format(
                DATASET=self.dataset,
                SPLIT=self.name,
                FILEFORMAT=self.kind,
                SHARD_INDEX=index,
                NUM_SHARDS=total,
                SHARD_X_OF_Y=f"{index}-of-{total}",
            )
        except (KeyError, IndexError, ValueError, AttributeError) as error:
            raise RawError(f"{_INFO}: filepathTemplate {self.template!r} cannot be filled in: {error!r}") from error
        return file, number


class RawRlds:
    """The metadata of a prepared dataset, read once."""

    def __init__(self, settings: Mapping[str, Any], root: Path) -> None:
        self._settings = settings
        self._folder = _version_folder(root)
        self._prefix = text_of(settings, "name") + "-"
        self._fps = rate_of(settings)
        self._skip = count_of(settings, "skip_first")
        self._cameras = texts_of(settings, "cameras")
        self._texts = texts_of(settings, "instruction")
        self._state, self._action = RawVectors(settings, "state"), RawVectors(settings, "action")
        self._splits = {clean(split.name): split for split in _splits(self._folder / _INFO)}
        self._official = len({SPLITS[split.name] for split in self._splits.values()}) > 1
        if not self._cameras:
            raise RawError("settings.source.cameras names no camera")

    def split_of(self, episode: str) -> str | None:
        """See `RawSource`."""
        found = self._find(episode)
        if found is None:
            return None
        return SPLITS[found[0].name] if self._official else hashed_split(episode, self._settings)

    def open(self, episode: str) -> RawEpisode:
        """See `RawSource`."""
        found, split = self._find(episode), self.split_of(episode)
        if found is None or split is None:
            raise RawError(f"{self._folder / _INFO} lists no {episode!r}")
        file, number = found[0].place(found[1])
        where = f"{self._folder / file}, record {number}"
        try:
            record = _Record(parse_example(read_record(self._folder / file, number)), where, self._cameras[0])
        except (OSError, ValueError) as error:
            raise RawError(f"{where}: {error}") from error
        frames = record.steps - self._skip - self._action.lost
        if frames < 1:
            raise RawError(f"{where} has {record.steps} steps, none is left")
        texts = [record.text(self._texts, self._skip + frame) for frame in range(frames)]

        def read(field: str) -> NDArray[np.float64]:
            return record.field(field)[self._skip :]

        return RawEpisode(
            id=episode,
            split=split,
            frame_readers={clean(camera): self._frame_reader(record, camera, frames) for camera in self._cameras},
            instructions=tuple(texts),
            state=self._state.make(read, frames),
            actions=self._action.make(read, frames),
            exact_state=self._state.exact,
            exact_actions=self._action.exact,
        )

    def _find(self, episode: str) -> tuple[_Split, int] | None:
        """Split and number of an episode; None when it is not listed."""
        name, _, digits = episode.removeprefix(self._prefix).rpartition("-")
        split, number = self._splits.get(name), number_in(digits, 6)
        if not episode.startswith(self._prefix) or split is None or number is None or number >= sum(split.lengths):
            return None
        return split, number

    def _frame_reader(self, record: _Record, camera: str, frames: int) -> FrameReader:
        images = record.images(camera)[self._skip :]
        where = f"{record.where}: {camera}"
        return image_reader(lambda at: decode_image(images[at], f"{where}, frame {at}"), frames, self._fps)


class _Record:
    """One record: an episode of N = `steps` steps, as many as the first camera has images."""

    def __init__(self, features: Mapping[str, Values], where: str, first_camera: str) -> None:
        self._features, self.where = features, where
        self.steps = len(self._values(f"steps/observation/{first_camera}"))
        if not self.steps:
            raise RawError(f"{where} has no images of {first_camera}")

    def images(self, camera: str) -> list[bytes]:
        """Encoded, one a step."""
        values = self._values(f"steps/observation/{camera}")
        if not isinstance(values, list) or len(values) != self.steps:
            raise RawError(f"{self.where}: {camera} has {len(values)} values, expected {self.steps} images")
        return values

    def field(self, name: str) -> NDArray[np.float64]:
        """A numeric field of a step, float64 [N, W]."""
        values = self._values(f"steps/{name}")
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


def _version_folder(root: Path) -> Path:
    """The folder with dataset_info.json: `root`, or the only one below it."""
    if (root / _INFO).is_file():
        return root
    found = [path.parent for path in root.glob(f"*/{_INFO}")]
    if len(found) != 1:
        raise RawError(f"{len(found)} folders below {root} hold {_INFO}, expected one")
    return found[0]


def _splits(path: Path) -> list[_Split]:
    """Raises RawError when the file is none, or the name of a split is unknown."""
    try:
        info = json.loads(read_bytes(path))
        dataset, kind = str(info["name"]), str(info.get("fileFormat") or "tfrecord")
        splits = [
            _Split(
                name=split["name"],
                lengths=tuple(int(length) for length in split.get("shardLengths", ())),
                template=str(split.get("filepathTemplate") or _TEMPLATE),
                dataset=dataset,
                kind=kind,
            )
            for split in info["splits"]
        ]
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise RawError(f"{path} is no description of a dataset: {error!r}") from error
    unknown = [split.name for split in splits if split.name not in SPLITS or min(split.lengths, default=0) < 0]
    if unknown or kind != "tfrecord":
        raise RawError(f"{path}: {kind} with splits {unknown}; known are tfrecord and {', '.join(SPLITS)}")
    return splits
