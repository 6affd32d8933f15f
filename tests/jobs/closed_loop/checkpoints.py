"""A checkpoint of a robot build, untrained."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from jobs.common.policy.robot_interface import RobotInterface
from jobs.datasets.contract.build_ranges import build_ranges
from model.checkpoint.checkpoint import save_weights
from model.checkpoint.vouched import VOUCHED, Voucher, as_json
from model.settings import ModelSettings, tiny_settings
from model.vla_jepa import build_model
from pipeline.format.build import Build

CLAIMED_CLEAN = (Voucher("sample", "clean at level shards", "unsigned", False, True),)
"""Who vouches for the data of a checkpoint that tests make."""


def untrained(folder: Path, build: Build, settings: ModelSettings | None = None, **changes: Any) -> Path:
    """What `vlajepa train` would have written at step 0, of the tiny model unless others are given; `changes` to its
    state.json, None removes a key."""
    settings = settings or tiny_settings()
    model = build_model(settings, build.sizes, build_ranges(build, settings.scaling))
    state: dict[str, Any] = {
        "model": asdict(settings),
        "model_sizes": asdict(build.sizes),
        "robot": asdict(RobotInterface.of(build.manifest)),
        VOUCHED: as_json(CLAIMED_CLEAN),
        **changes,
    }
    kept = {key: value for key, value in state.items() if value is not None}
    save_weights(folder, model, json.loads(json.dumps(kept)))
    return folder
