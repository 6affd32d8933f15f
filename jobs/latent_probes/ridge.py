"""Ridge regression: how much of one thing another one tells, on samples held out."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float64]
PENALTIES = tuple(10.0**power for power in range(-2, 6))


def explained(x: Vectors, y: Vectors, held_x: Vectors, held_y: Vectors) -> float:
    """R^2 on held-out samples of a ridge regression x -> y: 1 - squared error over that of the train mean.

    The penalty is chosen on the last quarter of the training samples, which is then trained on as well.
    """
    cut = len(x) * 3 // 4
    scores = [_score(x[:cut], y[:cut], x[cut:], y[cut:], each) for each in PENALTIES]
    best = PENALTIES[int(np.argmax(scores))]
    return _score(x, y, held_x, held_y, best)


def _score(x: Vectors, y: Vectors, held_x: Vectors, held_y: Vectors, penalty: float) -> float:
    """In dual form, since samples are fewer than features."""
    middle, mean = x.mean(axis=0), y.mean(axis=0)
    centred = x - middle
    kernel = centred @ centred.T
    weights = np.linalg.solve(kernel + penalty * np.eye(len(x)) * np.trace(kernel) / len(x) * 1e-3, y - mean)
    guess = mean + (held_x - middle) @ centred.T @ weights
    return float(1 - ((held_y - guess) ** 2).sum() / ((held_y - mean) ** 2).sum())
