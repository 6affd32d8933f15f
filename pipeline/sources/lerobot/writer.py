"""Writes a LeRobot v2.1 folder: a table per episode, the metadata and the statistics.

    meta/{info.json, tasks.jsonl, episodes.jsonl, episodes_stats.jsonl}
    data/chunk-000/episode_000000.parquet
    videos/chunk-000/observation.images.CAMERA/episode_000000.mp4    written by the caller

Shapes: N frames, W channels.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipeline.sources.lerobot.info import INFO_FILE
from pipeline.sources.lerobot.layout import DATA_PATH, EPISODES_FILE, TASKS_FILE, VIDEO_PATH

CHUNK = 1000
"""Episodes per folder."""

STATS_FILE = "meta/episodes_stats.jsonl"
STATS_FRAMES = 16
"""Frames per episode for image statistics."""

BOOKKEEPING = {"timestamp": "float32"} | dict.fromkeys(("frame_index", "episode_index", "index", "task_index"), "int64")
"""Columns of every table, one number per frame."""

IMAGES = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
"""Type of a column of encoded images, as the library `datasets` stores its type Image."""

Row = dict[str, Any]


@dataclass(frozen=True)
class _Written:
    """What the metadata needs of a written episode."""

    length: int
    task: str
    stats: Mapping[str, Row]


class LeRobotWriter:
    """Writes episodes one after the other, and the metadata at the end.

    Args:
        root: an empty folder.
        robot: `robot_type` of info.json.
        fps: frames per second.
        features: feature key -> its description in info.json, in the order of the tables' columns: see
            `vector_feature`, `image_feature` and `video_feature`. The bookkeeping columns are added.
    """

    def __init__(self, root: Path, robot: str, fps: int, features: Mapping[str, Row]) -> None:
        self._root, self._robot, self._fps = root, robot, fps
        bookkeeping = {name: {"dtype": dtype, "shape": [1], "names": None} for name, dtype in BOOKKEEPING.items()}
        self._features: Mapping[str, Row] = {**features, **bookkeeping}
        self._tasks: dict[str, int] = {}
        self._episodes: list[_Written] = []
        self._frames = 0

    def video_path(self, key: str) -> Path:
        """Where the video of a camera of the next episode belongs; its folder exists."""
        return self._path(VIDEO_PATH, video_key=key)

    def add(
        self,
        task: str,
        vectors: Mapping[str, NDArray[np.float32]],
        image_stats: Mapping[str, Row],
        images: Mapping[str, Sequence[bytes]] | None = None,
    ) -> None:
        """Write the next episode's table.

        Args:
            task: its instruction.
            vectors: float32 [N, W] by column.
            image_stats: of every camera, see `image_stats`.
            images: N encoded images (PNG or JPEG) by column, of the cameras without a video.
        """
        table = self._table(vectors, images or {}, self._tasks.setdefault(task, len(self._tasks)))
        pq.write_table(table, self._path(DATA_PATH))
        numbers = [name for name in table.column_names if name not in (images or {})]
        stats = {name: _stats(np.array(table[name].to_pylist())) for name in numbers}
        self._episodes.append(_Written(table.num_rows, task, {**stats, **image_stats}))
        self._frames += table.num_rows

    def finish(self, splits: Mapping[str, int] | None = None) -> None:
        """Write the metadata; without it nothing reads the folder.

        Args:
            splits: episodes of each split, in the order in which they were written; none: all are "train".
        """
        meta = self._root / INFO_FILE
        meta.parent.mkdir(parents=True, exist_ok=True)
        episodes = list(enumerate(self._episodes))
        _write_lines(self._root / TASKS_FILE, [{"task_index": n, "task": text} for text, n in self._tasks.items()])
        _write_lines(
            self._root / EPISODES_FILE,
            [{"episode_index": n, "tasks": [e.task], "length": e.length} for n, e in episodes],
        )
        _write_lines(self._root / STATS_FILE, [{"episode_index": n, "stats": e.stats} for n, e in episodes])
        meta.write_text(
            json.dumps(self._info(splits or {"train": len(self._episodes)}), indent=4) + "\n", encoding="utf-8"
        )

    def _path(self, template: str, **values: str) -> Path:
        """A path of the next episode, in a folder that exists."""
        number = len(self._episodes)
        path = self._root / template.format(episode_chunk=number // CHUNK, episode_index=number, **values)
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def _table(
        self, vectors: Mapping[str, NDArray[np.float32]], images: Mapping[str, Sequence[bytes]], task: int
    ) -> pa.Table:
        """The columns LeRobot v2.1 writes, in its types."""
        count = len(next(iter(vectors.values())))
        frames = np.arange(count)
        columns = {name: _vectors(values) for name, values in vectors.items()}
        for name, encoded in images.items():
            rows = [{"bytes": image, "path": f"frame_{i:06d}.png"} for i, image in enumerate(encoded)]
            columns[name] = pa.array(rows, IMAGES)
        columns |= {
            "timestamp": pa.array((frames / self._fps).astype(np.float32)),
            "frame_index": pa.array(frames, pa.int64()),
            "episode_index": pa.array(np.full(count, len(self._episodes)), pa.int64()),
            "index": pa.array(self._frames + frames, pa.int64()),
            "task_index": pa.array(np.full(count, task), pa.int64()),
        }
        table = pa.table(columns)
        # The loaders recognise a column of images by this metadata only.
        return table.replace_schema_metadata(_types(self._features, table.column_names)) if images else table

    def _info(self, splits: Mapping[str, int]) -> Row:
        ends = dict(zip(splits, accumulate(splits.values()), strict=True))
        videos = [key for key, feature in self._features.items() if feature["dtype"] == "video"]
        return {
            "codebase_version": "v2.1",
            "robot_type": self._robot,
            "total_episodes": len(self._episodes),
            "total_frames": self._frames,
            "total_tasks": len(self._tasks),
            "total_videos": len(self._episodes) * len(videos),
            "total_chunks": (len(self._episodes) - 1) // CHUNK + 1,
            "chunks_size": CHUNK,
            "fps": self._fps,
            "splits": {name: f"{end - splits[name]}:{end}" for name, end in ends.items()},
            "data_path": DATA_PATH,
            "video_path": VIDEO_PATH if videos else None,
            "features": self._features,
        }


def vector_feature(names: Sequence[str], units: str) -> Row:
    """A column of float32 vectors with one name per channel."""
    return {"dtype": "float32", "shape": [len(names)], "names": list(names), "units": units}


def image_feature(size: int) -> Row:
    """A column of encoded square images."""
    return {"dtype": "image", "shape": [size, size, 3], "names": ["height", "width", "channel"]}


def video_feature(size: int, codec: str, fps: int) -> Row:
    """A square camera whose frames are stored as video in pixel format yuv420p."""
    return {
        "dtype": "video",
        "shape": [size, size, 3],
        "names": ["height", "width", "channel"],
        "info": {
            "video.height": size,
            "video.width": size,
            "video.codec": codec,
            "video.pix_fmt": "yuv420p",
            "video.is_depth_map": False,
            "video.fps": fps,
            "video.channels": 3,
            "has_audio": False,
        },
    }


def spread(count: int) -> list[int]:
    """Indices of frames for image statistics, evenly spread over an episode of `count` frames."""
    return np.linspace(0, count - 1, min(STATS_FRAMES, count)).astype(int).tolist()


def image_stats(frames: NDArray[np.uint8]) -> Row:
    """Statistics per channel of frames uint8 [N, H, W, 3], values 0..1, shaped [3, 1, 1] as in LeRobot."""
    stats = _stats(frames.reshape(-1, 3) / 255)
    shaped: Row = {name: [[[value]] for value in values] for name, values in stats.items() if name != "count"}
    return {**shaped, "count": [len(frames)]}


def _stats(values: NDArray[Any]) -> Row:
    """Statistics over the frames of one column, in LeRobot's form."""
    values = values.reshape(len(values), -1)
    stats = {name: getattr(values, name)(0).tolist() for name in ("min", "max", "mean", "std")}
    return {**stats, "count": [len(values)]}


def _vectors(values: NDArray[np.float32]) -> pa.FixedSizeListArray:
    return pa.FixedSizeListArray.from_arrays(pa.array(values.ravel(), pa.float32()), values.shape[1])


def _types(features: Mapping[str, Row], columns: Sequence[str]) -> dict[str, str]:
    """The schema metadata in which the library `datasets` keeps the types of its columns."""
    found: Row = {}
    for name in columns:
        feature = features[name]
        value = {"dtype": feature["dtype"], "_type": "Value"}
        if feature["dtype"] == "image":
            found[name] = {"_type": "Image"}
        elif name in BOOKKEEPING:
            found[name] = value
        else:
            found[name] = {"feature": value, "length": feature["shape"][0], "_type": "Sequence"}
    return {"huggingface": json.dumps({"info": {"features": found}})}


def _write_lines(path: Path, rows: Sequence[Row]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
