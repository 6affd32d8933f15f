"""Exponential moving averages of the trained weights, in float32.

Every rank averages what it holds: all weights with DDP, which are equal on all ranks, or its shards with FSDP2.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor
from torch.optim.swa_utils import get_ema_multi_avg_fn


class Averages:
    """They begin at the weights the run starts from.

    Args:
        masters: the weights by name, those that the optimiser steps; frozen ones are not averaged. None: nothing is
            done.
        decay: an average is `decay` x itself + (1 - decay) x the weight after each optimiser step.

    Attributes:
        tensors: the averages by name, float32, sharded as the weights are.
    """

    def __init__(self, masters: Mapping[str, nn.Parameter], decay: float) -> None:
        self._masters = {name: master for name, master in masters.items() if master.requires_grad}
        self.tensors = {name: master.detach().to(torch.float32, copy=True) for name, master in self._masters.items()}
        self._average = get_ema_multi_avg_fn(decay)

    @torch.no_grad()
    def update(self) -> None:
        """Take in the weights after an optimiser step."""
        if not self.tensors:
            return
        weights = [_local(master).float() for master in self._masters.values()]
        self._average([_local(tensor) for tensor in self.tensors.values()], weights, None)

    @contextmanager
    def in_place_of_weights(self, model: nn.Module) -> Iterator[None]:
        """While open, a model computes with the averages, if there are any, rounded as its parameters are; afterwards
        its parameters are what they were, to the bit."""
        if not self.tensors:
            yield
            return
        parameters = [parameter for name, parameter in model.named_parameters() if name in self.tensors]
        names = [name for name, _ in model.named_parameters() if name in self.tensors]
        kept = [_local(parameter.detach()).clone() for parameter in parameters]
        _fill(model, parameters, [_local(self.tensors[name]) for name in names])
        try:
            yield
        finally:
            _fill(model, parameters, kept)


@torch.no_grad()
def _fill(model: nn.Module, parameters: list[nn.Parameter], values: list[Tensor]) -> None:
    torch._foreach_copy_([_local(parameter) for parameter in parameters], values)
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.reshard()  # what was gathered before is out of date


def _local(tensor: Tensor) -> Tensor:
    """What this rank holds of a tensor, in the same memory."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor
