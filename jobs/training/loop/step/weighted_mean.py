"""Weighted means of many numbers over micro batches, builds and ranks: one reduction, and nothing is read."""

from __future__ import annotations

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
        values, weights = (self._there(number) for number in (value, weight))
        pair = torch.stack([torch.where(weights > 0, values * weights, 0.0), weights])
        self._sums[name] = self._sums.get(name, 0.0) + pair

    def sums(self, ranks: Ranks) -> dict[str, Tensor]:
        """By name float64 [2], over all ranks: the weighted sum, and the sum of the weights."""
        if not self._sums:
            return {}
        return dict(zip(self._sums, ranks.sum(torch.stack(list(self._sums.values()))), strict=True))

    def _there(self, number: Tensor | float) -> Tensor:
        """float64 [], on the device; a number is filled in there, since a copy would wait for it."""
        if isinstance(number, Tensor):
            return number.detach().to(self._device, torch.float64)
        return torch.full((), number, dtype=torch.float64, device=self._device)
