"""A checkpoint of a robot build, untrained."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from jobs.common.policy.robot_interface import RobotInterface
from model.checkpoint.checkpoint import save_weights
from model.checkpoint.vouched import VOUCHED, Voucher, as_json
from model.normalize import BuildStats
from model.settings import tiny_settings
from model.vla_jepa import build_model
from pipeline.format.build import Build

CLAIMED_CLEAN = (Voucher("sample", "clean at level shards", "unsigned", False, True),)
"""Who vouches for the data of a checkpoint that tests make."""


def untrained(folder: Path, build: Build, **changes: Any) -> Path:
    """What `vlajepa train` would have written at step 0; `changes` to its state.json, None removes a key."""
    model = build_model(tiny_settings(), build.sizes, BuildStats.parse(build.read_file("stats.json"), build.path))
    state: dict[str, Any] = {
        "model": asdict(tiny_settings()),
        "model_sizes": asdict(build.sizes),
        "robot": asdict(RobotInterface.of(build.manifest)),
        VOUCHED: as_json(CLAIMED_CLEAN),
        **changes,
    }
    kept = {key: value for key, value in state.items() if value is not None}
    save_weights(folder, model, json.loads(json.dumps(kept)))
    return folder
