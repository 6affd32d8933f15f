"""FSDP2: every block of the model becomes a unit whose parameters are gathered when it runs and freed afterwards."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor

from model.vla_jepa import VLAJEPA


def shard_model(model: VLAJEPA, mesh: DeviceMesh) -> None:
    """Shard parameters in place over the ranks of a mesh of one dimension; they move to its devices.

    Gradients are averaged over the ranks as they are made. Forward passes are collective from here on: every rank must
    run the same ones.
    """
    for module in (*sharding_units(model), model):
        fully_shard(module, mesh=mesh)
    # What is called without passing through `forward` has to gather parameters as well.
    for module, methods in ((model, ("world_model_sample_errors", "act")), (model.predictor, ("rollout",))):
        for method in methods:
            register_fsdp_forward_method(module, method)
    if model.action_head is not None:
        for method in ("training_loss", "sample"):
            register_fsdp_forward_method(model.action_head, method)


def sharding_units(model: VLAJEPA) -> Iterator[nn.Module]:
    """The modules that are gathered one at a time, inner before outer."""
    backbone = model.student.model
    yield from blocks(model)
    # The backbone looks words up before its text model runs.
    yield from (backbone.get_input_embeddings(), backbone.visual, backbone.language_model, model.student)
    yield model.predictor
    if model.action_head is not None:
        yield model.action_head


def blocks(model: VLAJEPA) -> list[nn.Module]:
    """The repeated blocks: vision, predictor, action head, text."""
    return [*blocks_of_fixed_shape(model), *model.student.model.language_model.layers]


def blocks_of_fixed_shape(model: VLAJEPA) -> list[nn.Module]:
    """The blocks that see the same shapes in every batch: all but the text's, whose prompts differ in length."""
    found = [*model.student.model.visual.blocks, *model.predictor.predictor_blocks]
    return found + ([] if model.action_head is None else list(model.action_head.model.transformer_blocks))


def compile_blocks(model: VLAJEPA) -> None:
    """torch.compile, in place, of every block of fixed shape; names of parameters stay.

    The text's layers stay as they are: packed prompts have other lengths in every batch, each to be compiled anew.
    """
    for block in blocks_of_fixed_shape(model):
        block.compile()


def is_sharded(model: nn.Module) -> bool:
    """Whether `shard_model` was applied."""
    return any(isinstance(parameter, DTensor) for parameter in model.parameters())
