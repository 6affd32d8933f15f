"""A checkpoint -> the model it was made by, without the builds it was trained on."""

from __future__ import annotations

import json
from dataclasses import asdict, fields
from pathlib import Path

from jobs.common.policy.bounded_loading import bounded_loading
from model.checkpoint.averages import acting_weights
from model.checkpoint.checkpoint import load_weights
from model.checkpoint.state_file import read_state, verify_checkpoint
from model.normalize import unit_stats
from model.settings import ModelSettings
from model.student.adapters import merged_adapters
from model.vla_jepa import VLAJEPA, build_model
from pipeline.errors import BuildError
from pipeline.format.json.typed_json import from_json
from pipeline.format.schema import Sizes
from pipeline.format.text.differences import first_difference
from pipeline.format.text.printable import printable, shown

_LARGEST = Sizes(
    views=64, image_size=2048, steps=1000, tokens=100_000, width=100_000, state=10_000, chunk=10_000, action=10_000
)
"""Beyond any robot and encoder. A checkpoint of somebody else may say anything."""


def load_model(checkpoint: Path) -> VLAJEPA:
    """The model of a checkpoint folder, in eval mode on the CPU, with its weights (averaged, where it has averages) and
    its ranges of actions and state.

    Raises:
        BuildError: it is no checkpoint, or its weights do not fit.
        SettingsError: its backbone cannot be found.
    """
    verify_checkpoint(checkpoint)
    state = read_state(checkpoint)
    acting_weights(checkpoint, state)
    try:
        settings = from_json(ModelSettings, state["model"], "model")
        sizes = from_json(Sizes, state["model_sizes"], "model_sizes")
        if difference := first_difference(state["model"], json.loads(json.dumps(asdict(settings)))):
            raise ValueError(f"{difference}: a setting that is missing or unknown")  # a default might be another model
    except (KeyError, ValueError) as error:
        what = f"has no usable settings and sizes of the model: {printable(error)}"
        raise BuildError(f"{checkpoint}/state.json {what}") from error
    _check_sizes(checkpoint, sizes)
    with bounded_loading(checkpoint):
        model = build_model(settings, sizes, unit_stats(sizes), adapters=False, backbone_weights=False)
        with merged_adapters(model.student.model, settings.backbone.lora, model.student.prompts.added):
            load_weights(checkpoint, model)
    for name, scaler in (("state", model.state_scaler), ("action", model.action_scaler)):
        try:
            if scaler is not None:
                scaler.require_usable()
        except ValueError as error:
            raise BuildError(f"{checkpoint}: scale of the {name}: {error}") from error
    return model.eval()


def _check_sizes(checkpoint: Path, sizes: Sizes) -> None:
    for field in fields(Sizes):
        size, most = getattr(sizes, field.name), getattr(_LARGEST, field.name)
        if not 0 <= size <= most:
            raise BuildError(
                f"{checkpoint}/state.json: model_sizes.{field.name} must be 0 to {most}, got {shown(size)}"
            )
