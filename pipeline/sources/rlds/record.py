"""One record of an RLDS dataset: an episode, parsed by the dataset's own feature specification.

tensorflow-datasets parses the record without loading TensorFlow. Images stay encoded until a window needs them.
"""

from __future__ import annotations

import codecs
import contextlib
import functools
import json
import logging
import os
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import EpisodeError, RunError
from pipeline.sources.metadata import has_text, lfs_pointer, one_line
from pipeline.sources.rlds.feature_classes import FEATURES_FILE, check_classes
from pipeline.sources.templates import fill_template
from pipeline.sources.video.stored_image import decode_image
from pipeline.storage.raw.places import raw_path

INFO_FILE = "dataset_info.json"
ROOT_FIX = "Set `root` to the folder of a prepared dataset."

TEMPLATE_FIELDS = ("DATASET", "SPLIT", "FILEFORMAT", "SHARD_INDEX", "NUM_SHARDS", "SHARD_X_OF_Y")
"""What the names of TFDS's record files are made of."""

METADATA = "episode_metadata/"
"""Prefix of a text field that an episode has once; all other fields are paths inside a step."""


@dataclass(frozen=True)
class Fields:
    """The fields in features.json, by path inside a step.

    widths  channels of every numeric vector or scalar;  images, texts  names (texts of `episode_metadata/` too)
    """

    widths: Mapping[str, int]
    images: tuple[str, ...]
    texts: tuple[str, ...]


def load_info(folder: str) -> Any:
    """`tfds.core.DatasetInfo` of a prepared folder.

    Raises:
        RunError: tensorflow-datasets is not installed, a metadata file is damaged, the files are not TFRecords, or
            the records are not episodes.
    """
    try:
        import tensorflow_datasets as tfds
    except ImportError as error:
        raise RunError(f"RLDS data needs tensorflow-datasets ({error}); run pip install '.[rlds]'") from error
    logging.getLogger("absl").setLevel(logging.WARNING)  # it logs every file it loads
    try:
        with _checked_description(folder) as local:
            info = tfds.builder_from_directory(local).info
        file_format = getattr(info.file_format, "value", info.file_format)
    except RunError:
        raise
    except Exception as error:  # whatever a library raises on a damaged file
        raise RunError(f"{folder}: dataset_info.json or features.json cannot be read: {one_line(error)}") from error
    if file_format != "tfrecord":
        raise RunError(f"{folder} is stored as {file_format}, expected tfrecord")
    if "steps" not in info.features or "observation" not in info.features["steps"].feature:
        raise RunError(f"{folder}/features.json has no steps with an observation; expected the RLDS layout")
    return info


@contextlib.contextmanager
def _checked_description(folder: str) -> Iterator[str]:
    """A folder with copies of the files that describe a dataset: what is checked is what TensorFlow Datasets reads.

    Raises:
        RunError: a file is missing or no JSON, or it is refused by `check_templates` or `check_classes`.
    """
    place = raw_path(folder)
    with tempfile.TemporaryDirectory(prefix="vlajepa-") as local:
        for name, check in ((INFO_FILE, check_templates), (FEATURES_FILE, check_classes)):
            path = os.path.join(folder, name)
            try:
                content = (place / name).read_bytes()
                parsed = json.loads(content.removeprefix(codecs.BOM_UTF8))
            except OSError as error:
                raise RunError(f"{path}: {error.strerror}. {ROOT_FIX}") from error
            except (ValueError, RecursionError) as error:
                raise RunError(lfs_pointer(path) or f"{path} cannot be read: {one_line(error)}. {ROOT_FIX}") from error
            check(parsed, path)
            (Path(local) / name).write_bytes(content)
        yield local


def check_templates(content: Any, path: str) -> None:
    """Raise RunError where a path template of dataset_info.json is more than named fields, or leads out of the folder:
    TensorFlow Datasets would fill it in."""
    splits = content.get("splits") if isinstance(content, dict) else None
    for split in splits if isinstance(splits, list) else ():
        template = split.get("filepathTemplate") if isinstance(split, dict) else None
        if template:
            values = dict.fromkeys(TEMPLATE_FIELDS, "0") | {"DATASET": str(content.get("name"))}
            fill_template(template, values, f"{path}: filepathTemplate")


def record_files(folder: str, info: Any) -> dict[str, list[tuple[str, int]]]:
    """Split -> (name of the file, its records) in order.

    Raises:
        RunError: dataset_info.json does not list them.
    """
    try:
        return {
            name: [
                (os.path.basename(path), int(n)) for path, n in zip(split.filepaths, split.shard_lengths, strict=True)
            ]
            for name, split in info.splits.items()
        }
    except Exception as error:  # whatever a library raises on a damaged file
        raise RunError(f"{folder}/dataset_info.json does not list the record files: {one_line(error)}") from error


def list_fields(features: Any) -> Fields:
    """The fields that a manifest may name."""
    widths: dict[str, int] = {}
    images, texts = [], []
    for path, feature in _leaves(features["steps"].feature, ""):
        kind = type(feature).__name__
        if kind == "Image":
            images.append(path)
        elif kind == "Text":
            texts.append(path)
        elif len(feature.shape) <= 1 and np.dtype(feature.np_dtype).kind in "fiub":
            widths[path] = int(feature.shape[0]) if feature.shape and feature.shape[0] else 1
    metadata = dict(features.items()).get("episode_metadata", {})
    texts += [METADATA + name for name in metadata if type(metadata[name]).__name__ == "Text"]
    return Fields(widths, tuple(images), tuple(texts))


class Record:
    """One parsed record.

    Args:
        path: the TFRecord file, beside the dataset's features.json.
        number: index of the record in the file, from 0.
        fields: what is read of a step, as paths inside it, and of `episode_metadata/`. Other fields are not looked at.
        instruction: text fields in the order of preference.
        skip_first: steps left out at the beginning.

    Raises:
        EpisodeError: "undecodable", "bad-record" or "too-short".
        RunError: the file holds more records than dataset_info.json lists.
    """

    def __init__(
        self, path: str, number: int, fields: frozenset[str], instruction: Sequence[str], skip_first: int
    ) -> None:
        from pipeline.sources.rlds.tfrecord import count_records, read_record  # needs the extra `rlds`

        self.where = f"{path}, record {number}"
        self._instruction = instruction
        self._described = _description(os.path.dirname(path), fields)
        record = read_record(path, number)
        self._described.require_all_listed(path, count_records(path))
        steps, self._metadata = _parse(self._described.features, record, self.where)
        self._steps = steps[skip_first:]
        if not self._steps:
            raise EpisodeError("too-short", f"{self.where} has {len(steps)} steps, {skip_first} are skipped")

    @property
    def num_frames(self) -> int:
        """Steps that are not skipped."""
        return len(self._steps)

    def field(self, path: str) -> NDArray[Any]:
        """A numeric field in every step, [N, W]."""
        rows = [np.atleast_1d(self._get(step, path)) for step in self._steps]
        try:
            return np.stack(rows).reshape(len(rows), -1)
        except ValueError as error:
            raise EpisodeError("bad-record", f"{self.where}: {path} differs in width from step to step") from error

    def images(self, camera: str) -> Callable[[int], NDArray[np.uint8]]:
        """Decoder of one camera's images."""
        path = f"observation/{camera}"

        def image(index: int) -> NDArray[np.uint8]:
            where = f"{self.where}: {path} at step {index}"
            picture = decode_image(self._get(self._steps[index], path), where)
            declared = self._described.features["steps"].feature["observation"][camera].shape[:2]
            if any(wanted not in (None, found) for wanted, found in zip(declared, picture.shape, strict=False)):
                detail = f"{where} is {picture.shape[:2]} (height, width), features.json declares {declared}"
                raise EpisodeError("bad-record", detail)
            return picture

        return image

    def text_of(self, name: str, index: int) -> str | None:
        """A text field at a step, stripped; None when it holds no text."""
        source = self._metadata if name.startswith(METADATA) else self._steps[index]
        value = self._get(source, name.removeprefix(METADATA))
        text = value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else value
        return str(text).strip() if has_text(text) else None

    def text(self, index: int) -> str:
        """The episode's own text at a step. Raises EpisodeError("no-instruction")."""
        for name in self._instruction:
            text = self.text_of(name, index)
            if text:
                return text
        raise EpisodeError(
            "no-instruction", f"{self.where}: {', '.join(self._instruction)} hold no text at step {index}"
        )

    def _get(self, step: Mapping[str, Any], path: str) -> Any:
        value: Any = step
        try:
            for name in path.split("/"):
                value = value[name]
        except (KeyError, TypeError) as error:
            raise EpisodeError("bad-record", f"{self.where}: a step has no {path}") from error
        return value


@dataclass(frozen=True)
class _Description:
    """What a folder says of its records.

    features  TFDS's, of the fields that are read
    counts    name of a file -> records that are listed of it
    """

    features: Any
    counts: Mapping[str, int]

    def require_all_listed(self, path: str, count: int) -> None:
        """Raise RunError where a file holds more records than are listed: their episodes would be lost unseen."""
        listed = self.counts.get(os.path.basename(path), count)
        if count > listed:
            raise RunError(
                f"{path} holds {count} records, {INFO_FILE} lists {listed}: {count - listed} episodes would be lost; "
                "correct shardLengths there, or prepare the dataset again"
            )


@functools.lru_cache(maxsize=4)
def _description(folder: str, fields: frozenset[str]) -> _Description:
    """A process reads it once."""
    info = load_info(folder)
    counts = {name: count for files in record_files(folder, info).values() for name, count in files}
    return _Description(select_fields(info.features, fields), counts)


def select_fields(features: Any, fields: Collection[str]) -> Any:
    """The features of a dataset with these fields alone: paths inside a step, and of `episode_metadata/`.

    Raises:
        RunError: one is stored by zlib, which TensorFlow Datasets would unpack to any size.
    """
    import tensorflow_datasets as tfds

    once = {field.removeprefix(METADATA) for field in fields if field.startswith(METADATA)}
    steps = _select(features["steps"].feature, {field for field in fields if not field.startswith(METADATA)})
    selected = {"steps": tfds.features.Dataset(steps)}
    if once and "episode_metadata" in features:
        selected["episode_metadata"] = tfds.features.FeaturesDict(_select(features["episode_metadata"], once))
    return tfds.features.FeaturesDict(selected)


def _select(features: Any, paths: Collection[str]) -> dict[str, Any]:
    """The features at these paths, by name; those of a dictionary below its name."""
    import tensorflow_datasets as tfds

    found: dict[str, Any] = {}
    for name in {path.partition("/")[0] for path in paths} & set(features):
        below = {path.partition("/")[2] for path in paths if path.startswith(f"{name}/")}
        found[name] = tfds.features.FeaturesDict(_select(features[name], below)) if below else features[name]
        if getattr(getattr(features[name], "_encoding", None), "value", None) == "zlib":
            raise RunError(
                f"features.json: {name} is stored by zlib, whose size nothing bounds; prepare it without encoding"
            )
    return found


def _parse(features: Any, record: bytes, where: str) -> tuple[list[Mapping[str, Any]], Mapping[str, Any]]:
    """Steps and metadata."""
    import tensorflow_datasets as tfds

    observation = features["steps"].feature["observation"]
    skipped = {name: tfds.decode.SkipDecoding() for name in observation if type(observation[name]).__name__ == "Image"}
    try:
        example = features.deserialize_example_np(record, decoders={"steps": {"observation": skipped}})
        return list(example["steps"]), example.get("episode_metadata", {})
    except Exception as error:  # whatever a library raises on a record that does not match features.json
        detail = f"{type(error).__name__}: {one_line(error)}"
        raise EpisodeError("bad-record", f"{where} does not match features.json: {detail}") from error


def _leaves(features: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    for name in features:
        feature = features[name]
        if hasattr(feature, "keys"):
            yield from _leaves(feature, f"{prefix}{name}/")
        else:
            yield f"{prefix}{name}", feature
