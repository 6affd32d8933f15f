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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from model.checkpoint.checkpoint import new_folder
from model.exchange.names import Account
from model.exchange.weights import foreign_weights, load_foreign, other_wiring
from model.normalize import MinMaxScaler
from model.settings import ActionHeadSettings
from model.vla_jepa import VLAJEPA
from pipeline.errors import SettingsError
from pipeline.format.json.strict_json import parse, parse_any
from pipeline.format.json.typed_json import from_json
from pipeline.format.text.printable import reason, shown

_LARGEST = 2**26
"""Bytes of a file of JSON."""

STATE, ACTION = "observation.state", "action"
PORT_LAYER_NORM_EPS = 1e-6
PORT_VIEWS = 2
PORT_POSITIONS = 1024
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
    _check_config(model, folder)
    account = load_foreign(model, _tensors(folder / "model.safetensors"), "lerobot", str(folder), reinitialise)
    if scalers:
        _load_scaler(model.action_scaler, folder, ACTION, "policy_postprocessor.json", "unnormalizer_processor")
        _load_scaler(model.state_scaler, folder, STATE, "policy_preprocessor.json", "normalizer_processor")
    return account


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


def policy_config(model: VLAJEPA, cameras: Sequence[str], encoder: str) -> dict[str, Any]:
    """The content of config.json."""
    s, sizes = model.settings, model.sizes
    head, predictor = s.action_head, s.predictor
    return {
        "type": "vla_jepa",
        "n_obs_steps": 1,
        "input_features": _input_features(model, cameras),
        "output_features": {ACTION: {"type": "ACTION", "shape": [sizes.action]}},
        "normalization_mapping": _norm_map(),
        "chunk_size": sizes.chunk,
        "n_action_steps": sizes.chunk,
        "qwen_model_name": s.backbone.name_or_path or "Qwen/Qwen3-VL-2B-Instruct",
        "jepa_encoder_name": encoder,
        "action_dim": sizes.action,
        "state_dim": model.state_width,
        "num_action_tokens_per_timestep": s.prompt.action_tokens_per_step,
        "num_embodied_action_tokens_per_instruction": s.prompt.embodied_tokens,
        **_head_config(head),
        "action_noise_s": head.time_max,
        "action_max_seq_len": head.max_positions,
        "num_video_frames": 2 * (sizes.steps + 1),
        "predictor_depth": predictor.depth,
        "predictor_num_heads": predictor.heads,
        "predictor_mlp_ratio": predictor.mlp_ratio,
        "world_model_loss_weight": s.loss.world_model_on_robot,
        "repeated_diffusion_steps": head.repeats,
        "resize_images_to": [s.backbone.image_size] * 2,
        "clip_normalized_actions": False,
        "pre_snap_gripper_action": False,
        "binarize_gripper_action": False,
        "torch_dtype": s.backbone.dtype,
        # LeRobot 0.6.1 refuses a key it does not know, and has no other number of views than this.
        **({} if predictor.views == PORT_VIEWS else {"world_model_num_views": predictor.views}),
    }


def _head_config(head: ActionHeadSettings) -> dict[str, Any]:
    return {
        "num_inference_timesteps": head.inference_steps,
        "action_hidden_size": head.hidden_size,
        "action_model_type": "DiT-B",
        "action_num_layers": head.layers,
        "action_num_heads": head.heads,
        "action_attention_head_dim": head.head_width,
        "action_dropout": head.dropout,
        "action_num_timestep_buckets": head.time_buckets,
        "action_noise_beta_alpha": head.beta_a,
        "action_noise_beta_beta": head.beta_b,
    }


NUMBERS_BESIDE_SHAPES = {
    "num_action_tokens_per_timestep": "prompt.action_tokens_per_step",
    "num_embodied_action_tokens_per_instruction": "prompt.embodied_tokens",
    "predictor_num_heads": "predictor.heads",
    "action_num_heads": "action_head.heads",
    "action_attention_head_dim": "action_head.head_width",
    "action_num_timestep_buckets": "action_head.time_buckets",
}
"""Keys of config.json that change what is computed, though tensors fit, and our setting of the same meaning."""


def _check_config(model: VLAJEPA, folder: Path) -> None:
    """Raise SettingsError where config.json names a number that this model was not built with; null is its default."""
    try:
        theirs = parse_any(_read_small(folder / "config.json"))
    except (OSError, ValueError) as error:
        raise SettingsError(f"{folder}/config.json cannot be read: {error}") from error
    ours = policy_config(model, (), "")
    problems = [
        f"{key} is {shown(theirs[key])}, model.{setting} is {ours[key]!r}"
        for key, setting in NUMBERS_BESIDE_SHAPES.items()
        if theirs.get(key) is not None and theirs[key] != ours[key]
    ]
    if problems:
        raise SettingsError(f"{folder}/config.json and the model differ:\n  " + "\n  ".join(problems))


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


def _input_features(model: VLAJEPA, cameras: Sequence[str]) -> dict[str, Any]:
    side = model.settings.backbone.image_size
    features = {f"observation.images.{camera}": {"type": "VISUAL", "shape": [3, side, side]} for camera in cameras}
    if model.state_width:
        features[STATE] = {"type": "STATE", "shape": [model.state_width]}
    return features


def _norm_map() -> dict[str, str]:
    return {"VISUAL": "IDENTITY", "STATE": "MIN_MAX", "ACTION": "MIN_MAX"}


def _processors(model: VLAJEPA, cameras: Sequence[str]) -> dict[str, dict[str, Any]]:
    features = {**_input_features(model, cameras), ACTION: {"type": "ACTION", "shape": [model.sizes.action]}}
    normalize = {"eps": 1e-8, "features": features, "norm_map": _norm_map()}
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
