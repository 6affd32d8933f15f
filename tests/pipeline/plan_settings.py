"""Settings of a plan as plan.json stores them, for tests that need no encoder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

SETTINGS: Mapping[str, Any] = {
    "source": {"name": "s"},
    "window": {"steps": 1, "interval": 1, "chunk": 3, "every": 1, "per_episode": 0, "end": "drop"},
    "inputs": {"image_size": 224, "jpeg_quality": 95},
    "encoder": {
        "mode": "prefix",
        "resize": "crop",
        "dtype": "float32",
        "device": "cpu",
        "crop_size": 256,
        "tokens": 256,
        "width": 1024,
        "layers": 24,
        "mlp_ratio": 4.0,
    },
    "latents": {"dtype": "float16"},
    "shards": {"samples": 30, "group_samples": 10},
    "splits": ["train", "val"],
}


def changed(section: str, **values: Any) -> Mapping[str, Any]:
    """The settings with some values of a section changed."""
    return {**SETTINGS, section: {**SETTINGS[section], **values}}
