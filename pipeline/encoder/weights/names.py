"""Tensors of an encoder under Meta's names and under those of its module."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from pipeline.encoder.encoder_weights import EncoderModel
from pipeline.encoder.vjepa2_1 import VJEPA21Model

_TO_OURS = (
    (r"^patch_embed\.", "embeddings.patch_embeddings."),
    (r"^blocks\.(\d+)\.attn\.", r"layer.\1.attention."),
    (r"^blocks\.", "layer."),
    (r"^norm\.", "layernorm."),
)
"""Meta's names of V-JEPA 2 -> transformers'. Those of 2.1 are the names of our module."""

_PARTS = ("query", "key", "value")


def module_shapes(model: EncoderModel) -> dict[str, tuple[int, ...]]:
    """Shape of every tensor of the encoder by the module's name."""
    return {name: tuple(tensor.shape) for name, tensor in model.encoder.state_dict().items()}


def meta_shapes(model: EncoderModel) -> dict[str, tuple[int, ...]]:
    """Shape of every tensor of the encoder by Meta's name."""
    if isinstance(model, VJEPA21Model):
        return module_shapes(model)
    found: dict[str, tuple[int, ...]] = {}
    for name, shape in module_shapes(model).items():
        own = re.sub(r"^layernorm\.", "norm.", name.replace("embeddings.patch_embeddings.", "patch_embed."))
        own = re.sub(r"^layer\.", "blocks.", own).replace(".attention.", ".attn.")
        if own.split(".")[-2] not in _PARTS:
            found[own] = shape
        elif ".query." in own:
            found[own.replace(".query.", ".qkv.")] = (3 * shape[0], *shape[1:])
    return found


def has_meta_names(names: Iterable[str]) -> bool:
    """Whether a file of V-JEPA 2 has Meta's names; transformers' begin otherwise."""
    return any(name.startswith(("patch_embed.", "blocks.")) for name in names)


def from_meta(tensors: Mapping[str, Tensor], model: EncoderModel) -> dict[str, Tensor]:
    """Tensors by Meta's names -> by the module's."""
    if isinstance(model, VJEPA21Model):
        return dict(tensors)
    found: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        own = name
        for pattern, ours in _TO_OURS:
            own = re.sub(pattern, ours, own)
        if ".qkv." not in own:
            found[own] = tensor
            continue
        for part, third in zip(_PARTS, torch.chunk(tensor, 3), strict=True):
            found[own.replace(".qkv.", f".{part}.")] = third
    return found
