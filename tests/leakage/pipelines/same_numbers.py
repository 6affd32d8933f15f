"""A held-out episode is a train episode filmed by another camera: other pictures, the same state and actions."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipeline.audit.raw.decoding.video import read_video
from pipeline.sample_world.video import CODECS, write_video
from tests.leakage.pipelines.pipeline import LeakyPipeline
from tests.leakage.world import World

TRAIN, VAL = 0, 3


def _seen_from_elsewhere(frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """In perspective, with other colours."""
    side = frame.shape[0]
    corners = np.array([[0, 0], [side, 0], [side, side], [0, side]], np.float32)
    seen = np.array([[0.2, 0.1], [0.95, 0], [0.8, 0.97], [0, 0.8]], np.float32) * np.float32(side)
    bent = cv2.warpPerspective(
        frame, cv2.getPerspectiveTransform(corners, seen), (side, side), borderMode=cv2.BORDER_REFLECT
    )
    return np.ascontiguousarray(bent[:, :, [2, 0, 1]])


def held_out_event_filmed_by_another_camera(world: World) -> None:
    root = world.raw_copy = world.copy_raw()
    info = json.loads((root / "meta/info.json").read_text())
    info["splits"] = {"train": f"0:{VAL}", "val": f"{VAL}:{info['total_episodes']}"}
    (root / "meta/info.json").write_text(json.dumps(info))
    train, val = (f"episode_{number:06d}" for number in (TRAIN, VAL))
    _copy_table(next(root.glob(f"data/*/{train}.parquet")), next(root.glob(f"data/*/{val}.parquet")))
    rows = [json.loads(line) for line in (root / "meta/episodes.jsonl").read_text().splitlines()]
    rows[VAL] |= {name: rows[TRAIN][name] for name in ("length", "tasks")}
    (root / "meta/episodes.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for film in root.glob(f"videos/*/*/{train}.mp4"):
        frames = np.stack([_seen_from_elsewhere(frame) for _, frame in read_video(film)])
        write_video(film.with_name(f"{val}.mp4"), frames, 12, CODECS["av1"])


def _copy_table(source: Path, to: Path) -> None:
    table = pq.read_table(source)
    column = table.schema.get_field_index("episode_index")
    numbers = pa.array([VAL] * len(table), table.schema.field(column).type)
    pq.write_table(table.set_column(column, "episode_index", numbers), to)


PIPELINES = (
    LeakyPipeline(
        held_out_event_filmed_by_another_camera,
        "robot",
        "L6",
        "source",
        "has the state and actions of train episode",
    ),
)
