"""The declarations in the info.json of a LeRobot dataset, and the paths of its files."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.errors import RunError
from pipeline.sources.files import FileSizes
from pipeline.sources.metadata import read_json
from pipeline.sources.naming import SPLIT_NAMES

INFO_FILE = "meta/info.json"
IMAGE_PREFIX = "observation.images."
VERSIONS = ("v2.0", "v2.1", "v3.0")
ROOT_FIX = f"Set `root` to a LeRobot dataset folder of version {', '.join(VERSIONS)}."


@dataclass(frozen=True)
class Info:
    """The declarations. Facts from the files take precedence.

    widths   channels of every numeric column, by name
    cameras  feature key -> "video" or "image" (images inside the table), in declared order, without depth maps
    """

    path: str
    version: str
    robot: str | None
    fps: float | None
    chunks_size: int
    data_path: str | None
    video_path: str | None
    total_episodes: int | None
    widths: Mapping[str, int]
    splits: Mapping[str, str]
    cameras: Mapping[str, str]

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
        splits = raw.get("splits")
        return cls(
            path=path,
            version=version,
            robot=raw.get("robot_type"),
            fps=_positive(path, raw, "fps"),
            chunks_size=int(_positive(path, raw, "chunks_size") or 1000),
            data_path=raw.get("data_path"),
            video_path=raw.get("video_path"),
            total_episodes=raw.get("total_episodes"),
            widths={key: width for key, value in features.items() if (width := _width(value)) is not None},
            splits=splits if isinstance(splits, dict) else {},
            cameras={key: value["dtype"] for key, value in features.items() if _is_camera(value)},
        )


class Files(FileSizes):
    """The files of a dataset, found by the templates of its info.json or LeRobot's own."""

    def __init__(self, root: str, info: Info) -> None:
        super().__init__(root)
        self.info = info

    def find(self, declared: str | None, standard: str, values: Mapping[str, Any]) -> str:
        """Path by the declared template, or by LeRobot's standard template if only that file exists.

        Raises:
            RunError: the declared template cannot be filled in.
        """
        fallback = standard.format(**values)
        try:
            path = str(declared or standard).format(**values)
        except (KeyError, IndexError, ValueError) as error:
            raise RunError(f"{self.info.path}: cannot fill in the path template {declared!r}: {error!r}") from error
        return fallback if self.size(path) is None and self.size(fallback) is not None else path


def official_splits(declared: Mapping[str, str], episodes: int) -> dict[int, str] | None:
    """Episode number -> split from ranges such as {"train": "0:80", "val": "80:100"}.

    None unless they are consistent and hold something out: known names, no overlap, every episode in one range, none
    past the end. Some published datasets declare "0:100" for five episodes.
    """
    found: dict[int, str] = {}
    for name, text in declared.items():
        split = SPLIT_NAMES.get(name)
        first, _, last = str(text).partition(":")
        if split is None or not (first.isdecimal() and last.isdecimal()) or int(last) > episodes:
            return None
        numbers = range(int(first), int(last))
        if any(number in found for number in numbers):
            return None
        found.update(dict.fromkeys(numbers, split))
    if len(found) != episodes or set(found.values()) <= {"train"}:
        return None
    return found


def _positive(path: str, raw: Mapping[str, Any], key: str) -> float | None:
    value = raw.get(key)
    if value is None or value == 0:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        raise RunError(f"{path}: {key} must be a positive number, got {value!r}")
    return float(value)


def _is_camera(feature: Mapping[str, Any]) -> bool:
    if feature.get("dtype") not in ("video", "image"):
        return False
    facts = feature.get("info") or feature.get("video_info") or {}
    return not (isinstance(facts, dict) and facts.get("video.is_depth_map", False))


def _width(feature: Mapping[str, Any]) -> int | None:
    shape = feature.get("shape")
    if feature.get("dtype") not in ("float32", "float64", "int64", "int32") or not isinstance(shape, list):
        return None
    return int(shape[0]) if len(shape) == 1 and isinstance(shape[0], int) else None
