"""The declarations in the info.json of a LeRobot dataset, and the paths of its files."""

from __future__ import annotations

import os
import re
from bisect import bisect_right
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from pipeline.errors import RunError
from pipeline.format.text.printable import printable
from pipeline.sources.files import FileSizes
from pipeline.sources.metadata import read_json
from pipeline.sources.naming import SPLIT_NAMES
from pipeline.sources.templates import fill_template

INFO_FILE = "meta/info.json"
NUMERIC = frozenset({"float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "bool"})
"""Types of declared features that can be channels of a vector."""

IMAGE_PREFIX = "observation.images."
VERSIONS = ("v2.0", "v2.1", "v3.0")
ROOT_FIX = f"Set `root` to a LeRobot dataset folder of version {', '.join(VERSIONS)}."


@dataclass(frozen=True)
class Info:
    """The declarations. Facts from the files take precedence.

    widths   channels of every numeric column, by name
    names    names of these channels, where declared
    cameras  feature key -> "video" or "image" (images inside the table), in declared order, without depth maps
    depth    feature keys of the depth maps
    sizes    feature key -> height and width of a camera's pictures, where declared
    """

    path: str
    version: str
    robot: str | None
    fps: float | None
    chunks_size: int
    templates: Mapping[str, Any]
    total_episodes: int | None
    widths: Mapping[str, int]
    names: Mapping[str, tuple[str, ...]]
    splits: Mapping[str, str]
    cameras: Mapping[str, str]
    depth: tuple[str, ...]
    sizes: Mapping[str, tuple[int, int]]

    @classmethod
    def read(cls, root: str) -> Info:
        """Read ROOT/meta/info.json.

        Raises:
            RunError: it is missing, not JSON, of another version, or declares no features.
        """
        path = os.path.join(root, INFO_FILE)
        raw = read_json(path, ROOT_FIX)
        if not isinstance(raw, dict) or not isinstance(raw.get("features"), dict):
            raise RunError(f"{path} declares no features. {ROOT_FIX}")
        version = str(raw.get("codebase_version", "missing"))
        if version not in VERSIONS:
            raise RunError(f"{path}: codebase_version is {version}, expected one of {', '.join(VERSIONS)}. {ROOT_FIX}")
        features = {key: value for key, value in raw["features"].items() if isinstance(value, dict)}
        pictures = {key: value for key, value in features.items() if value.get("dtype") in ("video", "image")}
        depth = tuple(key for key, value in pictures.items() if _is_depth(value))
        widths = {key: width for key, value in features.items() if (width := _width(value)) is not None}
        splits = raw.get("splits")
        return cls(
            path=path,
            version=version,
            robot=raw.get("robot_type"),
            fps=_positive(path, raw, "fps"),
            chunks_size=max(1, int(_positive(path, raw, "chunks_size") or 1000)),
            templates={name: raw.get(name) for name in ("data_path", "video_path")},
            total_episodes=raw.get("total_episodes"),
            widths=widths,
            names={key: names for key in widths if len(names := _names(features[key].get("names"))) == widths[key]},
            splits=splits if isinstance(splits, dict) else {},
            cameras={key: value["dtype"] for key, value in pictures.items() if key not in depth},
            depth=depth,
            sizes={key: size for key, value in pictures.items() if (size := _picture_size(value)) is not None},
        )


class Files(FileSizes):
    """The files of a dataset, found by the templates of its info.json or LeRobot's own."""

    def __init__(self, root: str, info: Info) -> None:
        super().__init__(root)
        self.info = info

    def find(self, setting: str, standard: str, values: Mapping[str, Any]) -> str:
        """Path by the template that info.json declares, or by LeRobot's standard one if only that file exists.

        Args:
            setting: "data_path" or "video_path".

        Raises:
            RunError: the declared template cannot be filled in, or leads out of the dataset.
        """
        fallback = fill_template(standard, values, "the standard path")
        declared = self.info.templates.get(setting)
        path = fill_template(declared, values, f"{self.info.path}: {setting}") if declared else fallback
        return fallback if self.size(path) is None and self.size(fallback) is not None else path


def official_splits(declared: Mapping[str, str], numbers: Collection[int]) -> dict[int, str] | None:
    """Episode number -> split from ranges of episode numbers such as {"train": "0:80", "val": "80:100"}.

    None unless they are consistent and hold something out: known names, no overlap, every episode in one range. The
    numbers may have gaps, and ranges may reach past the last of them: some published datasets declare "0:100" for five
    episodes.

    Args:
        numbers: the episodes that there are.
    """
    ranges: list[tuple[int, int, str]] = []
    for name, text in declared.items():
        split = SPLIT_NAMES.get(name)
        first, _, last = str(text).partition(":")
        if split is None or not (first.isdecimal() and last.isdecimal()) or int(first) > int(last):
            return None
        if int(first) < int(last):
            ranges.append((int(first), int(last), split))
    ranges.sort()
    if any(after[0] < before[1] for before, after in pairwise(ranges)):
        return None
    found: dict[int, str] = {}
    for number in numbers:
        place = bisect_right(ranges, number, key=lambda one: one[0]) - 1
        if place < 0 or number >= ranges[place][1]:
            return None
        found[number] = ranges[place][2]
    return found if set(found.values()) - {"train"} else None


def _positive(path: str, raw: Mapping[str, Any], key: str) -> float | None:
    value = raw.get(key)
    if value is None or value == 0:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        raise RunError(f"{path}: {key} must be a positive number, got {value!r}")
    return float(value)


def _is_depth(feature: Mapping[str, Any]) -> bool:
    """Whether a camera holds distances: by its flag (older sets write `video.is_depth_map`, newer `is_depth_map`), or
    by a format of one deep channel."""
    facts = {**feature}
    for name in ("info", "video_info"):
        facts |= feature[name] if isinstance(feature.get(name), dict) else {}
    if any(value and str(key).rpartition(".")[2] == "is_depth_map" for key, value in facts.items()):
        return True
    stored = str(facts.get("video.pix_fmt") or facts.get("pix_fmt") or "")
    return bool(re.match(r"gray(9|1\d|32|f)", stored))


def _picture_size(feature: Mapping[str, Any]) -> tuple[int, int] | None:
    """Height and width of a camera's pictures by its shape, which has the colours last or first."""
    shape = feature.get("shape")
    if not isinstance(shape, list) or len(shape) != 3 or any(type(size) is not int for size in shape):
        return None
    return (shape[1], shape[2]) if shape[0] in (1, 3) and shape[2] not in (1, 3) else (shape[0], shape[1])


def _names(declared: Any) -> tuple[str, ...]:
    """Names of channels as a list, a list in a list, or an object of lists, such as {"motors": [...]}; else empty."""
    if isinstance(declared, dict):
        declared = list(declared.values())
    if not isinstance(declared, list):
        return ()
    flat = [name for part in declared for name in (part if isinstance(part, list) else [part])]
    return tuple(map(printable, flat)) if all(isinstance(name, str) for name in flat) else ()


def _width(feature: Mapping[str, Any]) -> int | None:
    """Channels of a column of numbers; None for other features."""
    shape = feature.get("shape")
    if feature.get("dtype") not in NUMERIC:
        return None
    sizes = shape if isinstance(shape, list) else [shape]
    wide = [size for size in sizes if isinstance(size, int) and size > 1]
    if any(type(size) is not int or size < 1 for size in sizes):
        return None
    return (wide[0] if wide else 1) if len(wide) <= 1 else None
