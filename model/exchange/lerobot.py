"""LeRobot's `vla_jepa` policy folder: config.json, model.safetensors, the two processors and their statistics.

Names and keys were read from LeRobot (src/lerobot/policies/vla_jepa and src/lerobot/processor, release 0.6.1 and the
0.6.2 to come), which refuses a configuration with keys it does not know: the folder has only those of both. Its model
loads the target encoder by name, so a folder without the encoder's weights is complete.
`python -m tests.golden.lerobot_policy` compares with LeRobot itself.
"""

from __future__ import annotations

import json
import stat
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from model.checkpoint.checkpoint import new_folder
from model.exchange.lerobot_config import ACTION, PORT_VIEWS, STATE, input_features, norm_map, policy_config
from model.exchange.lerobot_known import config_differences, step_differences
from model.exchange.names import Account
from model.exchange.weights import foreign_weights, load_foreign, other_wiring
from model.normalize import MinMaxScaler
from model.vla_jepa import VLAJEPA
from pipeline.errors import SettingsError
from pipeline.format.json.strict_json import parse, parse_any
from pipeline.format.json.typed_json import from_json
from pipeline.format.text.printable import reason, shown

_LARGEST = 2**26
"""Bytes of a file of JSON."""

PORT_LAYER_NORM_EPS = 1e-6
PORT_POSITIONS = 1024
BEFORE, AFTER = "policy_preprocessor.json", "policy_postprocessor.json"
NORMALIZER = "policy_preprocessor_step_3_normalizer_processor.safetensors"
UNNORMALIZER = "policy_postprocessor_step_0_unnormalizer_processor.safetensors"


_NUMBERS = {"MIN_MAX": ("min", "max"), "QUANTILES": ("q01", "q99"), "MEAN_STD": ("mean", "std")}
"""Statistics of a channel by LeRobot's name of how it is scaled."""


def is_lerobot(folder: Path) -> bool:
    """Whether a folder holds a `vla_jepa` policy."""
    try:
        return bool(parse_any(_read_small(folder / "config.json")).get("type") == "vla_jepa")
    except (OSError, ValueError, AttributeError):
        return False


def load_lerobot(model: VLAJEPA, folder: Path, reinitialise: Sequence[str] = (), scalers: bool = False) -> Account:
    """Load a policy folder in place.

    Args:
        reinitialise: see `model.exchange.weights.load_foreign`.
        scalers: take the ranges of actions and state from the folder too, rather than keep those of the model's data.

    Raises:
        SettingsError: a file is missing or damaged, or does not fit.
    """
    notes = _check_config(model, folder, whole=scalers)
    account = load_foreign(model, _tensors(folder / "model.safetensors"), "lerobot", str(folder), reinitialise)
    if scalers:
        for processor in (BEFORE, AFTER):
            notes += _checked_steps(folder, processor)
        _load_scaler(model.action_scaler, folder, ACTION, AFTER, "unnormalizer_processor")
        _load_scaler(model.state_scaler, folder, STATE, BEFORE, "normalizer_processor")
    return replace(account, notes=tuple(notes))


def save_lerobot(
    model: VLAJEPA, folder: Path, cameras: Sequence[str], encoder: str, weights: str = "last step"
) -> list[str]:
    """Write a policy folder, whole or not at all.

    Args:
        cameras: names of the views in order, as in `observation.images.NAME`.
        encoder: the target encoder's hub name or folder, from which LeRobot loads it.
        weights: which of a checkpoint's they are, for the metadata of model.safetensors.

    Returns:
        What differs there, for people.

    Raises:
        SettingsError: LeRobot cannot express the model.
        FileExistsError: the folder exists.
    """
    require_lerobot(model, cameras)
    with new_folder(folder) as temporary:
        metadata = {"format": "pt", "weights": weights}
        save_file(foreign_weights(model, "lerobot"), temporary / "model.safetensors", metadata=metadata)
        _write_json(temporary / "config.json", policy_config(model, cameras, encoder))
        for name, content in _processors(model, cameras).items():
            _write_json(temporary / f"{name}.json", content)
        statistics = _statistics(model)
        for name in (NORMALIZER, UNNORMALIZER):
            save_file(statistics, temporary / name)
    notes = [
        f"the target encoder's weights are not in the folder; LeRobot loads them from {encoder}",
        "to train on in LeRobot, set causal_world_model_context=true (0.6.2), or the context there sees the future",
    ]
    if model.settings.predictor.views != PORT_VIEWS:
        notes.append(f"{model.settings.predictor.views} views need LeRobot 0.6.2 or later")
    if model.settings.world_model_cameras:
        seen = ", ".join(model.settings.world_model_cameras)
        notes.append(f"the world model was trained on {seen}; LeRobot has no such choice")
    if model.settings.predictor.layer_norm_eps != PORT_LAYER_NORM_EPS:
        notes.append(
            f"LeRobot's predictor has LayerNorm epsilon 1e-06, this one {model.settings.predictor.layer_norm_eps:g}: "
            "its world-model loss differs slightly there, actions do not"
        )
    return notes


def _check_config(model: VLAJEPA, folder: Path, whole: bool) -> list[str]:
    """See `config_differences`. Returns notes; raises SettingsError for what differs."""
    try:
        theirs = parse_any(_read_small(folder / "config.json"))
    except (OSError, ValueError) as error:
        raise SettingsError(f"{folder}/config.json cannot be read: {error}") from error
    problems, notes = config_differences(theirs, model, whole)
    if problems:
        raise SettingsError(f"{folder}/config.json and the model differ:\n  " + "\n  ".join(problems))
    return notes


def _checked_steps(folder: Path, processor: str) -> list[str]:
    """See `step_differences`. Returns notes; raises SettingsError for a step that is not known."""
    try:
        problems, notes = step_differences(parse(_read_small(folder / processor)))
    except (OSError, ValueError) as error:
        raise SettingsError(f"{folder}/{processor} cannot be read: {reason(error)}") from error
    if problems:
        raise SettingsError(f"{folder}/{processor}: {'; '.join(problems)}")
    return notes


def require_lerobot(model: VLAJEPA, cameras: Sequence[str] | None = None) -> None:
    """Raise SettingsError with all that LeRobot cannot express of a model, trained or not.

    Args:
        cameras: as `save_lerobot` has them; None: not known yet.
    """
    s, sizes = model.settings, model.sizes
    problems = []
    if model.action_head is None:
        raise SettingsError("LeRobot's policy needs an action head; this model was trained on human video alone")
    problems += other_wiring(s)
    if cameras is not None and len(cameras) != sizes.views:
        problems.append(f"cameras must name the {sizes.views} views, got {len(cameras)}")
    if s.prompt.action_token_groups != 4 * sizes.chunk:
        problems.append(
            f"it adds 4 x chunk = {4 * sizes.chunk} action tokens; prompt.action_token_groups is "
            f"{s.prompt.action_token_groups}, which gives later tokens other ids"
        )
    if s.action_head.future_tokens != s.prompt.embodied_tokens:
        problems.append(
            f"it has one number for action_head.future_tokens={s.action_head.future_tokens} and "
            f"prompt.embodied_tokens={s.prompt.embodied_tokens}"
        )
    if s.action_head.max_positions != PORT_POSITIONS:
        problems.append(f"its action head has {PORT_POSITIONS} positions, max_positions={s.action_head.max_positions}")
    if s.predictor.dim != sizes.width:
        problems.append(f"its predictor is as wide as the encoder ({sizes.width}), predictor.dim={s.predictor.dim}")
    if problems:
        raise SettingsError("LeRobot's vla_jepa cannot hold this model:\n  " + "\n  ".join(problems))


def _processors(model: VLAJEPA, cameras: Sequence[str]) -> dict[str, dict[str, Any]]:
    features = {**input_features(model, cameras), ACTION: {"type": "ACTION", "shape": [model.sizes.action]}}
    normalize = {"eps": 1e-8, "features": features, "norm_map": norm_map()}
    before: list[dict[str, Any]] = [
        {"registry_name": "rename_observations_processor", "config": {"rename_map": {}}},
        {"registry_name": "to_batch_processor", "config": {}},
        {"registry_name": "device_processor", "config": {"device": "cpu", "float_dtype": None}},
        {"registry_name": "normalizer_processor", "config": normalize, "state_file": NORMALIZER},
    ]
    after = [
        {"registry_name": "unnormalizer_processor", "config": normalize, "state_file": UNNORMALIZER},
        {"registry_name": "device_processor", "config": {"device": "cpu", "float_dtype": None}},
    ]
    return {
        "policy_preprocessor": {"name": "policy_preprocessor", "steps": before},
        "policy_postprocessor": {"name": "policy_postprocessor", "steps": after},
    }


def _statistics(model: VLAJEPA) -> dict[str, Tensor]:
    """Minimum and maximum, float64: from them the scalers' float32 numbers come back to the bit."""
    result: dict[str, Tensor] = {}
    for key, scaler in ((STATE, model.state_scaler), (ACTION, model.action_scaler)):
        if scaler is not None:
            center, half = scaler.center.double().cpu(), scaler.half_range.double().cpu()
            result |= {f"{key}.min": center - half, f"{key}.max": center + half}
    return result


def _load_scaler(scaler: MinMaxScaler | None, folder: Path, key: str, processor: str, step: str) -> None:
    if scaler is None:
        return
    try:
        entry = _step(parse(_read_small(folder / processor)), step)
        if Path(entry.state_file).name != entry.state_file:
            raise ValueError(f"state_file {shown(entry.state_file)} is no name of a file of the folder")
        statistics = _tensors(folder / entry.state_file)
        mode = entry.norm_map["ACTION" if key == ACTION else "STATE"]
        names = _NUMBERS[mode]
        first, second = (statistics[f"{key}.{name}"].double() for name in names)
    except (OSError, ValueError, KeyError) as error:
        raise SettingsError(f"{folder}/{processor} gives no range or mean of {key}: {reason(error)}") from error
    if first.shape != scaler.center.shape:
        raise SettingsError(f"{folder}: {key} has {len(first)} channels, the model {len(scaler.center)}")
    center, half = (first, second) if mode == "MEAN_STD" else ((first + second) / 2, (second - first) / 2)
    with torch.no_grad():
        scaler.center.copy_(center)
        # LeRobot divides by 1e-8 where a channel is constant.
        scaler.half_range.copy_(torch.where(half == 0, 1e-8, half))
    try:
        scaler.require_usable()
    except ValueError as error:
        raise SettingsError(f"{folder}/{processor}, {key}: {error}") from error


@dataclass(frozen=True)
class _Step:
    """What is read of a processor's step: which statistics it takes, and their file."""

    norm_map: dict[str, str]
    state_file: str


def _step(content: Any, name: str) -> _Step:
    """The step of this name. Raises ValueError if there is none as it should be."""
    steps = content.get("steps") if isinstance(content, dict) else None
    for entry in steps if isinstance(steps, list) else ():
        if isinstance(entry, dict) and entry.get("registry_name") == name and isinstance(entry.get("config"), dict):
            return from_json(
                _Step, {"norm_map": entry["config"].get("norm_map"), "state_file": entry.get("state_file")}
            )
    raise ValueError(f"it has no step {name}")


def _read_small(path: Path) -> bytes:
    """A file of JSON. Raises ValueError for what is no file, as a pipe that never ends, or larger than `_LARGEST`."""
    found = path.stat()
    if not stat.S_ISREG(found.st_mode) or found.st_size > _LARGEST:
        raise ValueError(f"{path.name} must be a regular file of at most {_LARGEST:,} bytes")
    return path.read_bytes()


def _tensors(path: Path) -> dict[str, Tensor]:
    try:
        if not path.is_file():
            raise ValueError("it is no regular file")
        return load_file(path)
    except Exception as error:  # safetensors does not export its error class for typing
        raise SettingsError(f"{path} cannot be read: {error}") from error


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n")
