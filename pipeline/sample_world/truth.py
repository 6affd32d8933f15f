"""What the sample world knows of each episode and no reader is told: for probes of what a model's features hold."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from pipeline.sample_world.scene import Scene

TRUTH_FILE = "truth.jsonl"


def truth_row(number: str, scene: Scene) -> dict[str, object]:
    """The episode's number in its dataset, and where the named thing stands in its first frame, in metres."""
    x, y = (round(float(value), 4) for value in scene.first.places[scene.rollout.task.thing, :2])
    return {"episode": number, "named_x": x, "named_y": y}


def write_truth(root: Path, rows: Iterable[dict[str, object]]) -> None:
    """ROOT/truth.jsonl, a line an episode."""
    (root / TRUTH_FILE).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
