"""`vlajepa import`: the reference's `.pt` or a LeRobot policy folder -> a checkpoint of this system."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from jobs.common.policy.bounded_loading import bounded_loading
from jobs.training.settings import ImportConfig
from model.checkpoint.checkpoint import save_weights
from model.exchange.initial import load_initial
from model.normalize import unit_stats
from model.vla_jepa import build_model
from pipeline.errors import SettingsError


def run(settings: ImportConfig) -> Path:
    """The checkpoint folder."""
    if settings.out.exists():
        raise SettingsError(f"{settings.out} exists; choose another out=")
    if not settings.checkpoint.exists():
        raise SettingsError(f"checkpoint={settings.checkpoint} does not exist")
    if settings.model.backbone.lora.rank:
        raise SettingsError(
            "model.backbone.lora.rank is of a training: import without it, and give it to vlajepa train"
        )
    model = build_model(
        settings.model, settings.sizes, unit_stats(settings.sizes), adapters=False, backbone_weights=False
    )
    with bounded_loading(settings.checkpoint):
        report = load_initial(model, settings.checkpoint, settings.reinitialise, scalers=True)
    state = {
        "model": asdict(settings.model),
        "model_sizes": asdict(settings.sizes),
        "imported_from": str(settings.checkpoint),
    }
    save_weights(settings.out, model, json.loads(json.dumps(state)))
    print(report)
    if settings.checkpoint.is_file() and settings.sizes.action:
        print("the file has no ranges of actions and state: -1..1 until a run sets those of its builds")
    print(f"checkpoint: {settings.out}")
    return settings.out
