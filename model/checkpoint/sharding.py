"""FSDP2: every block of the model becomes a unit whose parameters are gathered when it runs and freed afterwards."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import torch
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor

from model.vla_jepa import VLAJEPA

COMPILED_FORMS = 64
"""Of one kind of block: with and without gradients, for a fixed and for any number of samples, and what comes of it."""


def shard_model(model: VLAJEPA, mesh: DeviceMesh, dtype: torch.dtype | None = None) -> None:
    """Shard parameters in place over the ranks of a mesh of one dimension; they move to its devices.

    Gradients are averaged over the ranks as they are made, in float32. Forward passes are collective from here on:
    every rank must run the same ones.

    Args:
        dtype: of the gathered parameters that the model computes with; None: their own.
    """
    # It warns of in-place changes to what the predictor returns; nothing makes any.
    warnings.filterwarnings("ignore", "FSDP2-wrapped module", UserWarning)
    policy = MixedPrecisionPolicy(dtype, reduce_dtype=torch.float32, cast_forward_inputs=False)
    for module in (*sharding_units(model), model):
        fully_shard(module, mesh=mesh, mp_policy=policy)
    # What is called without passing through `forward` has to gather parameters as well.
    for module, methods in ((model, ("steering", "action_losses", "act", "gathered")), (model.predictor, ("rollout",))):
        for method in methods:
            register_fsdp_forward_method(module, method)
    if model.action_head is not None:
        for method in ("training_loss", "sample_losses", "sample"):
            register_fsdp_forward_method(model.action_head, method)


def sharding_units(model: VLAJEPA) -> Iterator[nn.Module]:
    """The modules that are gathered one at a time, inner before outer."""
    yield from blocks(model)
    yield from (model.student, model.predictor)
    if model.action_head is not None:
        yield model.action_head


def blocks(model: VLAJEPA) -> list[nn.Module]:
    """The repeated blocks: vision, predictor, action head, text."""
    return [*blocks_of_fixed_shape(model), *model.student.model.language_model.layers]


def blocks_of_fixed_shape(model: VLAJEPA) -> list[nn.Module]:
    """The blocks that see the same shapes in every batch of as many samples: all but the text's."""
    found = [*model.student.model.visual.blocks, *model.predictor.predictor_blocks]
    return found + ([] if model.action_head is None else list(model.action_head.model.transformer_blocks))


def compile_blocks(model: VLAJEPA) -> None:
    """torch.compile, in place, of every block; names of parameters stay.

    Packed prompts have another number of tokens in every batch, which the text's layers are compiled for. The others
    see the same shapes until a batch has fewer samples; then they are compiled once more, for any number.

    Raises:
        torch.compiler's FailOnRecompileLimitHit: later, where a block meets more kinds of input than code is kept for.
    """
    # Blocks of vision and text share one function of transformers, of which PyTorch keeps 8 compiled forms by default.
    torch._dynamo.config.recompile_limit = COMPILED_FORMS
    torch._dynamo.config.fail_on_recompile_limit_hit = True
    for block in blocks_of_fixed_shape(model):
        block.compile()
    for layer in model.student.model.language_model.layers:
        layer.compile(dynamic=True)


def is_sharded(model: nn.Module) -> bool:
    """Whether `shard_model` was applied."""
    return any(isinstance(parameter, DTensor) for parameter in model.parameters())
