"""The device a command runs on."""

from __future__ import annotations

import torch

from pipeline.errors import SettingsError


def pick_device(name: str) -> torch.device:
    """The device of a setting; "auto" is CUDA where there is one. Raises SettingsError if CUDA is set and there is
    none."""
    if name == "cuda" and not torch.cuda.is_available():
        raise SettingsError("device=cuda, but PyTorch finds no CUDA device here; use device=auto or cpu")
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)
