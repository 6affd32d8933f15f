"""Files of weights -> the encoder's module in float32, every tensor accounted for."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import StrictDataclassError
from torch import Tensor
from transformers import VJEPA2Config, VJEPA2Model

from pipeline.encoder.encoder_weights import EncoderModel
from pipeline.encoder.vjepa2_1 import VJEPA21Config, VJEPA21Model
from pipeline.encoder.weights.files import PICKLED, read_tensors
from pipeline.encoder.weights.names import from_meta, has_meta_names, meta_shapes, module_shapes
from pipeline.encoder.weights.released import RELEASED
from pipeline.errors import SettingsError
from pipeline.format.build_settings import EncoderSettings
from pipeline.format.enums import Release
from pipeline.format.json.strict_json import parse_any

Shapes = Mapping[str, tuple[int, ...]]

CLASSES: Mapping[str, tuple[type[VJEPA2Config], type[EncoderModel]]] = {
    "vjepa2": (VJEPA2Config, VJEPA2Model),
    "vjepa2_1": (VJEPA21Config, VJEPA21Model),
}
"""By `model_type` of config.json."""

SHOWN = 3
"""Tensors of one kind of problem that an error names."""


def load_encoder_model(settings: EncoderSettings) -> EncoderModel:
    """The encoder of `settings.name_or_path`: Meta's file, a file or folder of safetensors, or a model of the hub.

    Raises:
        SettingsError: it cannot be read, its sizes are not those of `settings.release`, or a tensor is missing, of
            another shape, or not the encoder's.
    """
    path = _local(settings)
    config = _configuration(path, settings.release)
    try:
        model = build_on_meta(config)
    except (ValueError, KeyError) as error:
        raise SettingsError(f"{path}/config.json does not describe an encoder: {error}") from error
    known = RELEASED.get(settings.release)
    tensors = read_tensors(path, known.section if known else None)
    fill(model, tensors, path)
    return model


def build_on_meta(config: VJEPA2Config) -> EncoderModel:
    """The module without memory for its tensors."""
    with torch.device("meta"):
        return CLASSES[config.model_type][1](config)


def released_config(release: Release) -> VJEPA2Config:
    """The configuration of a released encoder."""
    known = RELEASED[release]
    cls = next(config for config, model in CLASSES.values() if model.__name__ == known.model)
    return cls(**known.config, architectures=[known.model], dtype=torch.float32, attn_implementation="sdpa")


def _local(settings: EncoderSettings) -> Path:
    """The file or folder, fetched from the hub if there is none of that name."""
    name = settings.name_or_path
    path = Path(name)
    if name and path.exists():
        return path
    try:
        if not name:
            known = RELEASED.get(settings.release)
            raise ValueError(f"this encoder is on no hub; fetch Meta's file {known.file}" if known else "it is empty")
        if path.is_absolute() or path.suffix in (*PICKLED, ".safetensors"):
            raise ValueError("there is no such file or folder")
        return Path(snapshot_download(name, allow_patterns=["config.json", "model*.safetensors*"]))
    except (OSError, ValueError) as error:
        raise SettingsError(
            f"encoder.name_or_path={name!r} cannot be loaded: {error}; give the name of a V-JEPA2 model, a folder with "
            "its config.json and model.safetensors, or with encoder=NAME the .pt file of a released encoder"
        ) from error


def _configuration(path: Path, release: Release) -> VJEPA2Config:
    """Of the folder's config.json, which must agree with the release; of the release where there is none."""
    file = path / "config.json"
    if not file.is_file():
        if release == Release.ANY:
            raise SettingsError(f"{path} has no config.json to tell which encoder it is; choose one by encoder=NAME")
        return released_config(release)
    try:
        kind = parse_any(file.read_text()).get("model_type")
        if kind not in CLASSES:
            raise ValueError(f"model_type is {kind!r}, expected one of {', '.join(CLASSES)}")
        config = CLASSES[kind][0].from_pretrained(path, attn_implementation="sdpa")
    except (OSError, ValueError, AttributeError, TypeError, StrictDataclassError) as error:
        raise SettingsError(f"{file} does not describe an encoder: {error}") from error
    config.dtype = torch.float32
    if release != Release.ANY:
        _require_sizes(file, config, release)
    return config


def _require_sizes(file: Path, config: VJEPA2Config, release: Release) -> None:
    wanted = released_config(release)
    for name in ("model_type", *RELEASED[release].config):
        found, expected = getattr(config, name), getattr(wanted, name)
        if found != expected and not (name == "mlp_ratio" and math.isclose(found, expected, rel_tol=1e-9)):
            raise SettingsError(
                f"{file}: {name} is {found}, that of encoder={release} is {expected}; choose the encoder that the "
                "folder holds, or encoder.release=any to take it as it is"
            )


def fill(model: EncoderModel, tensors: Mapping[str, Tensor], path: Path) -> None:
    """Give the encoder its tensors. V-JEPA's own predictor is checked where a folder has it, and then left out.

    Args:
        tensors: by Meta's names, or by those of transformers, without prefixes.
        path: where they come from, for the error.

    Raises:
        SettingsError: a tensor is missing, foreign, or of another shape or type.
    """
    by_meta = has_meta_names(tensors)
    expected = meta_shapes(model) if by_meta else module_shapes(model)
    extra = {name for name in tensors if name.startswith("predictor.")}
    if extra and isinstance(model, VJEPA2Model):
        inner = model.predictor.state_dict()
        expected |= {f"predictor.{name}": tuple(tensor.shape) for name, tensor in inner.items()}
    _require_all(path, expected, tensors)
    if isinstance(model, VJEPA2Model):
        model.predictor = None
    own = {name: tensor for name, tensor in tensors.items() if name not in extra}
    model.encoder.to_empty(device="cpu")
    model.encoder.load_state_dict(from_meta(own, model) if by_meta else own, strict=True)


def _require_all(path: Path, expected: Shapes, tensors: Mapping[str, Tensor]) -> None:
    """Refuse a tensor that is missing, foreign, or of another shape or type."""
    missing = [f"lacks {name} {list(shape)}" for name, shape in expected.items() if name not in tensors]
    foreign = [f"holds {name}, which the encoder does not have" for name in tensors if name not in expected]
    other = [
        f"holds {name} {list(tensor.shape)} of {tensor.dtype}, the encoder has {list(expected[name])} of float"
        for name, tensor in tensors.items()
        if name in expected and (tuple(tensor.shape) != expected[name] or not tensor.is_floating_point())
    ]
    said = [_some(found) for found in (missing, foreign, other) if found]
    if said:
        raise SettingsError(
            f"{path} is not the encoder that its config.json or encoder=NAME describes: it {'; '.join(said)}"
        )


def _some(found: list[str]) -> str:
    return "; ".join(found[:SHOWN]) + (f" and {len(found) - SHOWN} more" if len(found) > SHOWN else "")
