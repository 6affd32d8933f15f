"""Parameters of a V-JEPA 2 or 2.1 encoder as the forward pass takes them, whatever its module names them.

Letters: B clips, F frames, T = F/2 tubelets, C input side, N tokens a tubelet, D width.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor, nn
from transformers import VJEPA2Model

from pipeline.encoder.rotary_tables import Rotary
from pipeline.encoder.vjepa2_1 import VJEPA21Model

EncoderModel: TypeAlias = VJEPA2Model | VJEPA21Model
"""Both have `config` with transformers' names, `encoder`, and `get_vision_features`."""


class Affine(NamedTuple):
    """Parameters of a linear layer or of a norm."""

    weight: Tensor
    bias: Tensor | None


class LayerWeights(NamedTuple):
    """Parameters of a transformer layer."""

    norm1: Affine
    qkv: Affine
    proj: Affine
    norm2: Affine
    fc1: Affine
    fc2: Affine


@dataclass(frozen=True)
class EncoderWeights:
    """An encoder in parts.

    patches     what it projects patches with
    modality    [1, 1, D], added to every patch; None: nothing is
    attention   module of the first layer, which attention functions are handed
    """

    patches: Affine
    modality: Tensor | None
    layers: list[LayerWeights]
    final: Affine
    attention: Any
    activation: Callable[[Tensor], Tensor]
    rotary: Rotary


def weights_of(model: EncoderModel) -> EncoderWeights:
    """Views of a model's parameters; queries, keys and values of V-JEPA 2 become views of one tensor first."""
    return _of_vjepa2_1(model) if isinstance(model, VJEPA21Model) else _of_vjepa2(model)


def cast_weights(model: EncoderModel, dtype: torch.dtype) -> None:
    """Keep the weights of matrix products in the type that autocast would cast them to at every call. Norms stay."""
    for module in model.encoder.modules():
        if isinstance(module, nn.Linear | nn.Conv3d):
            module.to(dtype)


def _of_vjepa2(model: VJEPA2Model) -> EncoderWeights:
    encoder = model.encoder
    attention = encoder.layer[0].attention
    return EncoderWeights(
        patches=_affine(encoder.embeddings.patch_embeddings.proj),
        modality=None,
        layers=[_layer(x, x.attention, _joined(x.attention)) for x in encoder.layer],
        final=_affine(encoder.layernorm),
        attention=attention,
        activation=encoder.layer[0].mlp.activation,
        rotary=Rotary(attention.grid_size, attention.d_dim, attention.attention_head_size),
    )


def _of_vjepa2_1(model: VJEPA21Model) -> EncoderWeights:
    encoder: Any = model.encoder
    attention = encoder.blocks[0].attn
    return EncoderWeights(
        patches=_affine(encoder.patch_embed.proj),
        modality=encoder.video_mod_embed.detach(),
        layers=[_layer(block, block.attn, _affine(block.attn.qkv)) for block in encoder.blocks],
        final=_affine(encoder.norms_block[-1]),
        attention=attention,
        activation=encoder.blocks[0].mlp.activation,
        rotary=attention.rotary,
    )


def _layer(layer: Any, attention: Any, qkv: Affine) -> LayerWeights:
    others = map(_affine, (attention.proj, layer.norm2, layer.mlp.fc1, layer.mlp.fc2))
    return LayerWeights(_affine(layer.norm1), qkv, *others)


def _joined(attention: Any) -> Affine:
    """Query, key and value, one below the other; the modules keep views, so that no memory is needed twice."""
    parts = (attention.query, attention.key, attention.value)
    weight = torch.cat([part.weight.detach() for part in parts])
    bias = None if parts[0].bias is None else torch.cat([part.bias.detach() for part in parts])
    for i, part in enumerate(parts):
        part.weight.data = weight.chunk(3)[i]
        if bias is not None:
            part.bias.data = bias.chunk(3)[i]
    return Affine(weight, bias)


def _affine(part: Any) -> Affine:
    return Affine(part.weight.detach(), None if part.bias is None else part.bias.detach())
