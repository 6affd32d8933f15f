"""Weighted means of many numbers over passes, builds and ranks, with one transfer from the device."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from jobs.training.loop.ranks import Ranks


class Means:
    """Collects numbers by name, each with a weight. The names must be the same on all ranks."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._sums: dict[str, tuple[Tensor, Tensor]] = {}

    def add(self, name: str, value: Tensor | float, weight: Tensor | float) -> None:
        """Add a number; one of weight 0 counts for nothing, even if it is NaN."""
        weights = torch.as_tensor(weight, dtype=torch.float64, device=self._device)
        values = torch.as_tensor(value, device=self._device).detach().double()
        weighted = torch.where(weights > 0, values * weights, 0.0)
        sums, total = self._sums.get(name, (torch.zeros_like(weighted), torch.zeros_like(weights)))
        self._sums[name] = sums + weighted, total + weights

    def reduce(self, ranks: Ranks) -> dict[str, float]:
        """Means over all ranks; what had no weight is left out."""
        if not self._sums:
            return {}
        packed = ranks.sum(torch.stack([torch.stack(pair) for pair in self._sums.values()]))
        pairs = packed.tolist()
        return {
            name: value / weight if math.isfinite(value) else value
            for name, (value, weight) in zip(self._sums, pairs, strict=True)
            if weight > 0
        }
