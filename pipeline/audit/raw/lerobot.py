"""LeRobot v2.0 and v2.1: one parquet table an episode, one mp4 an episode and camera. Episode ids are NAME-NNNNNN."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipeline.audit.raw.base import RawEpisode, RawError, text_of

_TABLE = "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet"
_VIDEO = "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4"
_SPLITS = {"train": "train", "val": "val", "validation": "val", "test": "test"}


class RawLeRobot:
    """The metadata of a LeRobot folder, read once."""

    def __init__(self, settings: Mapping[str, Any], root: Path) -> None:
        self._root = root
        self._settings = settings
        self._prefix = text_of(settings, "name") + "-"
        self._info = _json(root / "meta/info.json")
        self._episodes = {row["episode_index"]: row for row in _lines(root / "meta/episodes.jsonl", "episode_index")}
        self._texts = {row["task_index"]: row.get("task") for row in _lines(root / "meta/tasks.jsonl", "task_index")}
        self._declared = _declared_splits(self._info.get("splits"), len(self._episodes))

    def split_of(self, episode: str) -> str | None:
        """See `RawSource`."""
        number = self._number(episode)
        if number is None:
            return None
        if self._declared is not None:
            return self._declared.get(number)
        share = int.from_bytes(hashlib.sha256(episode.encode()).digest()[:8], "big") / 2**64
        return "val" if share < float(self._settings.get("val_share", 0)) else "train"

    def open(self, episode: str) -> RawEpisode:
        """See `RawSource`."""
        number, split = self._number(episode), self.split_of(episode)
        if number is None or split is None:
            raise RawError(f"meta/episodes.jsonl lists no {episode!r}")
        path = self._path("data_path", _TABLE, number, "")
        try:
            table = pq.ParquetFile(path).read()
        except (pa.ArrowException, OSError) as error:
            raise RawError(f"{path}: {error}") from error
        cameras = [key for key, value in self._info.get("features", {}).items() if value.get("dtype") == "video"]
        videos = {_view(key): self._path("video_path", _VIDEO, number, key) for key in cameras}
        return RawEpisode(
            episode, split, videos, self._instructions(number, table),
            _matrix(table, self._settings.get("state_key")), _matrix(table, self._settings.get("action_key")),
        )  # fmt: skip

    def _number(self, episode: str) -> int | None:
        found = re.fullmatch(re.escape(self._prefix) + r"(\d{6,})", episode)
        number = int(found[1]) if found else None
        return number if number in self._episodes else None

    def _path(self, setting: str, standard: str, number: int, camera: str) -> Path:
        """By the declared template; by the standard one where the declared names no file."""
        chunk = number // int(self._info.get("chunks_size") or 1000)
        values = {"episode_chunk": chunk, "episode_index": number, "video_key": camera}
        try:
            declared = self._root / str(self._info.get(setting) or standard).format(**values)
        except (KeyError, IndexError, ValueError) as error:
            raise RawError(f"meta/info.json: {setting} cannot be filled in: {error!r}") from error
        fallback = self._root / standard.format(**values)
        return fallback if not declared.exists() and fallback.exists() else declared

    def _instructions(self, number: int, table: pa.Table) -> tuple[str, ...]:
        if "task_index" not in table.column_names:
            tasks = self._episodes[number].get("tasks")
            return (tasks[0].strip(),) if isinstance(tasks, list) and len(tasks) == 1 else ()
        texts = [self._texts.get(index) for index in table.column("task_index").to_pylist()]
        return tuple(text.strip() if isinstance(text, str) else "" for text in texts)


def _view(key: str) -> str:
    return re.sub(r"[^A-Za-z0-9_-]+", "_", key.removeprefix("observation.images.")).strip("_")


def _matrix(table: pa.Table, key: object) -> NDArray[np.float32] | None:
    """A column of vectors as float32 [R, width]."""
    if not isinstance(key, str) or key not in table.column_names:
        return None
    try:
        matrix = np.array(table.column(key).to_pylist(), np.float64).astype(np.float32)
    except (ValueError, TypeError) as error:
        raise RawError(f"column {key} holds no rows of one width: {error}") from error
    return matrix.reshape(table.num_rows, -1)


def _declared_splits(declared: object, episodes: int) -> dict[int, str] | None:
    """Episode number -> split; None unless the ranges cover every episode once and hold something out."""
    found: dict[int, str] = {}
    for name, text in (declared if isinstance(declared, dict) else {}).items():
        ends = re.fullmatch(r"(\d+):(\d+)", str(text))
        if name not in _SPLITS or ends is None or int(ends[2]) > episodes:
            return None
        for number in range(int(ends[1]), int(ends[2])):
            if number in found:
                return None
            found[number] = _SPLITS[name]
    return found if len(found) == episodes and set(found.values()) - {"train"} else None


def _json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise RawError(f"{path}: {error}") from error
    if not isinstance(value, dict):
        raise RawError(f"{path} holds no object")
    return value


def _lines(path: Path, key: str) -> list[dict[str, Any]]:
    """Rows of a file of JSON lines that hold an integer under `key`."""
    rows = []
    try:
        for line in path.read_text("utf-8").splitlines():
            row = json.loads(line) if line.strip() else None
            if isinstance(row, dict) and isinstance(row.get(key), int):
                rows.append(row)
    except (OSError, ValueError) as error:
        raise RawError(f"{path}: {error}") from error
    return rows
