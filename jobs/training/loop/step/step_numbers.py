"""The numbers of a step on their way from the device: they are read after the next step has been launched, so that the
device need not wait for the host between two steps."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


def steps_under_way(device: torch.device) -> int:
    """How many steps may have been launched whose numbers have not been read."""
    return int(device.type == "cuda")


class Later:
    """A tensor whose copy to the host has been asked for."""

    def __init__(self, tensor: Tensor) -> None:
        self._copied = None
        if tensor.device.type == "cuda":
            host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
            host.copy_(tensor, non_blocking=True)
            self._copied = torch.cuda.Event()
            self._copied.record()
            tensor = host
        self._tensor = tensor

    def read(self) -> list[float]:
        """The values, of a tensor of one dimension; waits until they are there."""
        if self._copied is not None:
            self._copied.synchronize()
        found: list[float] = self._tensor.tolist()
        return found


@dataclass(frozen=True)
class StepNumbers:
    """Of a step that has been launched, from 0.

    updates  its optimiser steps
    skipped  see `SkippedSamples.numbers`
    dump     see `jobs.training.loop.guards`
    """

    step: int
    updates: Sequence[UpdateNumbers]
    skipped: Mapping[str, float]
    dump: Callable[[Mapping[str, float]], str]


@dataclass(frozen=True)
class UpdateNumbers:
    """What one optimiser step of a step measured.

    means, norms  their names: see `WeightedMeans.sums` and `Optimiser.norms`
    values        weighted sums, each with its weight, then norms
    rates         learning rates
    """

    means: Sequence[str]
    norms: Sequence[str]
    values: Later
    rates: Mapping[str, float]

    @classmethod
    def of(cls, sums: Mapping[str, Tensor], norms: Mapping[str, Tensor], rates: Mapping[str, float]) -> UpdateNumbers:
        """Sums are float64 [2] with their weights, norms float32 []."""
        values = [*sums.values(), *(norm.double()[None] for norm in norms.values())]
        return cls(tuple(sums), tuple(norms), Later(torch.cat(values)), rates)

    def read(self) -> dict[str, float]:
        """Means, of which those without weight are left out, norms and rates by name."""
        values = self.values.read()
        pairs = zip(values[: 2 * len(self.means) : 2], values[1 : 2 * len(self.means) : 2], strict=True)
        means = {name: _mean(*pair) for name, pair in zip(self.means, pairs, strict=True) if pair[1] > 0}
        norms = dict(zip(self.norms, values[2 * len(self.means) :], strict=True))
        return means | norms | dict(self.rates)


def _mean(total: float, weight: float) -> float:
    """One that is not finite is said as it is."""
    return total / weight if math.isfinite(total) else total
