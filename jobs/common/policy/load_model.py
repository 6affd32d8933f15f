"""A checkpoint -> the model it was made by, without the builds it was trained on."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from pydantic import TypeAdapter

from model.checkpoint.checkpoint import load_weights
from model.checkpoint.state_file import read_state, verify_checkpoint
from model.settings import ModelSettings
from model.vla_jepa import VLAJEPA, build_model, unit_stats
from pipeline.errors import BuildError
from pipeline.format.schema import Sizes
from pipeline.format.text.differences import first_difference


def load_model(checkpoint: Path) -> VLAJEPA:
    """The model of a checkpoint folder, in eval mode on the CPU, with its weights and its ranges of actions and state.
    Raises BuildError if it is no checkpoint or its weights do not fit, SettingsError if its backbone cannot be
    found."""
    verify_checkpoint(checkpoint)
    state = read_state(checkpoint)
    try:
        settings = TypeAdapter(ModelSettings).validate_python(state["model"])
        sizes = TypeAdapter(Sizes).validate_python(state["model_sizes"])
        if difference := first_difference(state["model"], json.loads(json.dumps(asdict(settings)))):
            raise ValueError(f"{difference}: a setting that is missing or unknown")  # a default might be another model
    except (KeyError, ValueError) as error:
        what = f"has no usable settings and sizes of the model: {error}"
        raise BuildError(f"{checkpoint}/state.json {what}") from error
    model = build_model(settings, sizes, unit_stats(sizes))
    load_weights(checkpoint, model)
    return model.eval()
