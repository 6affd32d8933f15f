"""Whether all ranks train the same: each opens builds and weights by itself, on a node of its own."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from jobs.common.policy.robot_interface import without_words
from jobs.training.loop.ranks import Ranks
from pipeline.errors import RunError
from pipeline.format.text.differences import first_difference

_INTEGERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
"""By bytes."""


def require_agreement(ranks: Ranks, state: Mapping[str, Any], weights: str) -> None:
    """Compare what the run decided, its builds, and the weights it starts from over the ranks. A copy of a build or of
    weights on one node that is out of date, or another one, would train unseen: the main rank alone writes down what a
    run was made of.

    Args:
        state: plain JSON values.
        weights: `weights_digest` of what was loaded; "" if nothing was.

    Raises:
        RunError: a rank differs from the main one; the same on all ranks.
    """
    everyone = ranks.gather({**without_words(state), "weights": weights})
    for rank, other in enumerate(everyone):
        if difference := first_difference(everyone[0], other):
            raise RunError(
                f"rank {rank} is not in the same run as rank 0: {difference}; give all nodes the same builds, weights "
                "and settings"
            )


def weights_digest(model: nn.Module, without: tuple[str, ...] = ()) -> str:
    """SHA-256 of the sums of the bits of all parameters and buffers, in hexadecimal. A sum of integers depends neither
    on threads nor on the machine.

    Args:
        without: prefixes of tensors that do not count: random ones may differ between kinds of processors.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        if not name.startswith(without):
            digest.update(f"{name} {tuple(tensor.shape)} {_bits(tensor)}\n".encode())
    return digest.hexdigest()


def _bits(tensor: Tensor) -> int:
    plain = tensor.detach().contiguous().view(-1)
    return int(plain.view(_INTEGERS[tensor.element_size()]).sum(dtype=torch.int64)) if plain.numel() else 0
