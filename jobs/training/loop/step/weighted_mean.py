"""Weighted means of many numbers over micro batches, builds and ranks: one transfer from the device, one reduction."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from jobs.training.loop.ranks import Ranks


class WeightedMeans:
    """Collects numbers by name, each with a weight. The names must be the same on all ranks."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._sums: dict[str, Tensor] = {}

    def add(self, name: str, value: Tensor | float, weight: Tensor | float) -> None:
        """Add a number; one of weight 0 counts for nothing, even if it is NaN."""
        weights = torch.as_tensor(weight, dtype=torch.float64, device=self._device)
        values = torch.as_tensor(value, device=self._device).detach().double()
        pair = torch.stack([torch.where(weights > 0, values * weights, 0.0), weights])
        self._sums[name] = self._sums.get(name, 0.0) + pair

    def reduce(self, ranks: Ranks) -> dict[str, float]:
        """Means over all ranks; what had no weight is left out."""
        if not self._sums:
            return {}
        pairs = ranks.sum(torch.stack(list(self._sums.values()))).tolist()
        return {
            name: value / weight if math.isfinite(value) else value
            for name, (value, weight) in zip(self._sums, pairs, strict=True)
            if weight > 0
        }
