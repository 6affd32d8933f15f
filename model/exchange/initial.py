"""The weights a new run starts from: an own checkpoint, a reference `.pt`, or a LeRobot policy folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from model.checkpoint.averages import acting_weights
from model.checkpoint.checkpoint import load_weights
from model.checkpoint.folders import newest_checkpoint
from model.checkpoint.state_file import read_state, verify_checkpoint
from model.exchange.lerobot import is_lerobot, load_lerobot
from model.exchange.names import SCALERS
from model.exchange.starvla import load_starvla
from model.exchange.weights import check_parts
from model.settings import LoraSettings
from model.student.adapters import merged_adapters
from model.vla_jepa import VLAJEPA
from pipeline.errors import BuildError, SettingsError
from pipeline.format.json.typed_json import from_json


def load_initial(model: VLAJEPA, source: Path, reinitialise: Sequence[str] = (), scalers: bool = False) -> str:
    """Load weights in place; its content determines the kind of source.

    Args:
        model: without adapters of its backbone; those of the source become part of the backbone's weights.
        source: a run's folder (its newest checkpoint), a folder with state.json (a checkpoint of this system, whose
            averaged weights are taken where it has them), a folder with LeRobot's config.json, or a file with the
            reference's tensors.
        reinitialise: parts of the action head that keep their fresh weights; see `model.exchange.names`.
        scalers: take the ranges of actions and state from the source too (a `.pt` has none).

    Returns:
        What was loaded and what was not, for people.

    Raises:
        SettingsError: the source is none of these; or it has adapters of the backbone, and peft is not installed.
        BuildError, SettingsError: it does not fit the model; every tensor concerned is listed.
    """
    check_parts(reinitialise)
    if (checkpoint := newest_checkpoint(source)) is not None:
        fresh = tuple(f"action_head.{part}." for part in reinitialise)
        verify_checkpoint(checkpoint)
        state = read_state(checkpoint)
        which = acting_weights(checkpoint, state)
        with merged_adapters(model.student.model, _adapters(checkpoint, state), model.student.prompts.added):
            load_weights(checkpoint, model, fresh + (() if scalers else SCALERS))
        text = f"loaded {checkpoint}, weights: {which}"
        return text + (f"; fresh weights for {', '.join(reinitialise)}" if fresh else "")
    if is_lerobot(source):
        return load_lerobot(model, source, reinitialise, scalers).text()
    if source.is_file():
        return load_starvla(model, source, reinitialise).text()
    raise SettingsError(
        f"{source} is no checkpoint: give a run or a step-… folder of one, a LeRobot vla_jepa folder, or the "
        "reference's .pt"
    )


def _adapters(checkpoint: Path, state: Mapping[str, Any]) -> LoraSettings:
    """Those of a checkpoint's backbone."""
    try:
        return from_json(LoraSettings, state["model"]["backbone"]["lora"])
    except (KeyError, TypeError, ValueError) as error:
        raise BuildError(f"{checkpoint}/state.json has no usable model.backbone.lora: {error}") from error
