"""From chunks of actions to the action of each step.

Chunks that overlap predict the same step more than once. With p_0, …, p_{n-1} the predictions for the present step, the
oldest first, the action is the mean of them by weights w_i / sum w:

    none      the newest chunk alone, its first `execute` actions one after the other
    temporal  w_i = exp(-m i): the oldest counts most (ACT, Zhao et al. 2023, arXiv 2304.13705, section IV;
              tonyzhaozh/act `imitate_episodes.py` with m = 0.01)
    adaptive  w_i = exp(alpha <p_i, p_{n-1}> / (|p_i| |p_{n-1}|)): those that agree with the newest count most, so that
              two ways of doing a thing are not averaged (CogACT, Li et al. 2024, arXiv 2411.19650). alpha = 0.1 as in
              VLA-JEPA's evaluation (ginwind/VLA-JEPA@ec8c70f `examples/SimplerEnv/eval_files/adaptive_ensemble.py`)

T actions in a chunk, A action width.
"""

from __future__ import annotations

from collections import deque
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray


class EnsembleMode(StrEnum):
    """How chunks that overlap are averaged, see the module."""

    NONE = "none"
    TEMPORAL = "temporal"
    ADAPTIVE = "adaptive"


TEMPORAL_DECAY = 0.01
"""m above."""

ADAPTIVE_ALPHA = 0.1
"""alpha above."""

_TINY = 1e-7
"""Keeps the cosine of actions without any motion finite."""


class Ensembler:
    """Chunks of one episode in, actions out; a new chunk is due every `execute` steps.

    Args:
        mode: those that average do so only where chunks overlap: with `execute` below the length of a chunk, usually 1.
        execute: steps between two chunks, 1 to `horizon`.
        horizon: steps of a chunk that may be used, counted from its start; a longer chunk is cut. VLA-JEPA's evaluation
            on SimplerEnv takes 7 for WidowX and 2 for the Google Robot.
    """

    def __init__(self, mode: EnsembleMode, execute: int, horizon: int) -> None:
        self.mode, self.execute, self.horizon = mode, execute, horizon
        self._chunks: deque[tuple[int, NDArray[np.float32]]] = deque()
        self._step = 0

    def add(self, chunk: NDArray[np.float32]) -> None:
        """Take a chunk [T, A] that begins with the present step.

        Raises:
            ValueError: it has fewer than `execute` actions, another width than the one before, or numbers that are not
                finite.
        """
        found = np.array(chunk, np.float32)[: self.horizon]
        if found.ndim != 2 or len(found) < self.execute:
            raise ValueError(f"a chunk must be [T, A] with T of at least {self.execute}, got {list(np.shape(chunk))}")
        if self._chunks and self._chunks[-1][1].shape[1] != found.shape[1]:
            raise ValueError(f"actions had {self._chunks[-1][1].shape[1]} numbers, got {found.shape[1]}")
        if not np.isfinite(found).all():
            raise ValueError("actions must be finite")
        if self.mode is EnsembleMode.NONE:
            self._chunks.clear()
        self._chunks.append((self._step, found))

    def next(self) -> NDArray[np.float32]:
        """The action of the present step, float32 [A]; the step is then over. Raises ValueError if a chunk is due
        first."""
        if not self._chunks or self._step - self._chunks[-1][0] >= self.execute:
            raise ValueError("there is no chunk for this step; call add first")
        while self._step - self._chunks[0][0] >= len(self._chunks[0][1]):
            self._chunks.popleft()
        predicted = [chunk[self._step - begin] for begin, chunk in self._chunks if self._step - begin < len(chunk)]
        self._step += 1
        return self._mean(np.stack(predicted))

    def _mean(self, predicted: NDArray[np.float32]) -> NDArray[np.float32]:
        if len(predicted) == 1:
            return predicted[0].copy()
        values = predicted.astype(np.float64)
        if self.mode is EnsembleMode.TEMPORAL:
            exponents = -TEMPORAL_DECAY * np.arange(len(values))
        else:
            lengths = np.linalg.norm(values, axis=1)
            exponents = ADAPTIVE_ALPHA * (values @ values[-1]) / (lengths * lengths[-1] + _TINY)
        weights = np.exp(exponents - exponents.max())
        return np.asarray(weights @ values / weights.sum(), np.float32)
