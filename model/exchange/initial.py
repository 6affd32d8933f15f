"""The weights a new run starts from: an own checkpoint, a reference `.pt`, or a LeRobot policy folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from model.checkpoint.checkpoint import load_weights
from model.checkpoint.folders import newest_checkpoint
from model.checkpoint.state_file import verify_checkpoint
from model.exchange.lerobot import is_lerobot, load_lerobot
from model.exchange.names import SCALERS
from model.exchange.starvla import load_starvla
from model.exchange.weights import check_parts
from model.vla_jepa import VLAJEPA
from pipeline.errors import SettingsError


def load_initial(model: VLAJEPA, source: Path, reinitialise: Sequence[str] = (), scalers: bool = False) -> str:
    """Load weights in place; its content determines the kind of source.

    Args:
        source: a run's folder (its newest checkpoint), a folder with state.json (a checkpoint of this system), a folder
            with LeRobot's config.json, or a file with the reference's tensors.
        reinitialise: parts of the action head that keep their fresh weights; see `model.exchange.names`.
        scalers: take the ranges of actions and state from the source too (a `.pt` has none).

    Returns:
        What was loaded and what was not, for people.

    Raises:
        SettingsError: the source is none of these.
        BuildError, SettingsError: it does not fit the model; every tensor concerned is listed.
    """
    check_parts(reinitialise)
    if (checkpoint := newest_checkpoint(source)) is not None:
        fresh = tuple(f"action_head.{part}." for part in reinitialise)
        verify_checkpoint(checkpoint)
        load_weights(checkpoint, model, fresh + (() if scalers else SCALERS))
        return f"loaded {checkpoint}" + (f"; fresh weights for {', '.join(reinitialise)}" if fresh else "")
    if is_lerobot(source):
        return load_lerobot(model, source, reinitialise, scalers).text()
    if source.is_file():
        return load_starvla(model, source, reinitialise).text()
    raise SettingsError(
        f"{source} is no checkpoint: give a run or a step-… folder of one, a LeRobot vla_jepa folder, or the "
        "reference's .pt"
    )
