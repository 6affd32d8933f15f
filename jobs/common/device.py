"""The device a command runs on."""

from __future__ import annotations

import torch

from pipeline.errors import RunError


def pick_device(name: str) -> torch.device:
    """The device of a setting; "auto" is CUDA where there is one.

    Raises:
        RunError: CUDA was asked for and there is none.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise RunError("device=cuda, but PyTorch sees no CUDA device; use device=auto or cpu")
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)
