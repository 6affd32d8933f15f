"""Which weights of a checkpoint act: those of its last step, or their moving averages where a run keeps them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from model.checkpoint.sharded_checkpoint import SHARDED, sharded_shapes
from model.checkpoint.sharded_metadata import INDEX
from pipeline.errors import CorruptError
from pipeline.format.text.printable import shown

AVERAGES = "averages"
"""Kind of tensors: what is evaluated, served and exported in place of the weights of the last step."""


def has_averages(checkpoint: Path) -> bool:
    """Whether a checkpoint holds averages of its trained weights."""
    if (checkpoint / SHARDED / INDEX).is_file():
        return bool(sharded_shapes(checkpoint, AVERAGES))
    return (checkpoint / f"{AVERAGES}.safetensors").is_file()


def acting_weights(checkpoint: Path, state: Mapping[str, Any]) -> str:
    """Which weights `load_weights` takes of a checkpoint, for people and metadata.

    Raises:
        CorruptError: its state says that there are averages, or that there are none, and its files say otherwise; or
            says no such thing.
    """
    trainer = state.get("trainer")
    decay = trainer.get("ema", 0.0) if isinstance(trainer, Mapping) else 0.0
    if type(decay) not in (int, float) or not 0 <= decay < 1:
        raise CorruptError(
            f"{checkpoint}/state.json: trainer.ema must be 0 to below 1, found {shown(decay)}; restore it"
        )
    if bool(decay) != has_averages(checkpoint):
        there = "has no averages of weights" if decay else "has averages of weights"
        raise CorruptError(f"{checkpoint} {there}, and its state.json says trainer.ema={decay!r:.80}; restore it")
    return f"moving averages (trainer.ema={decay:g})" if decay else "last step"
