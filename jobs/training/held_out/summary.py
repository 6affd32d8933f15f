"""From errors of all held-out samples to the numbers of a build.

Letters: N samples, K future steps, V views, P kinds of pairs.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from jobs.training.held_out.bootstrap import Interval, mean_interval, ratio_interval
from jobs.training.held_out.pairs import PairKind, Pairs
from jobs.training.held_out.result import EpisodeErrors, HeldOut, Reliance

OTHER = 2 + list(PairKind).index(PairKind.OTHER_EPISODE)
"""Row of the errors with the latent actions of another episode."""


def summarise(
    errors: NDArray[np.float64],
    futures: NDArray[np.float64],
    action: NDArray[np.float64],
    steps: NDArray[np.float64],
    pairs: Pairs,
) -> HeldOut:
    """Numbers of a build from those of its samples, float64, see `measure.BatchNumbers`.

    Args:
        errors: [2 + P, N, K, V].
        futures: [2, N].
        action: [1 + P, N].
        steps: [N].
    """
    per_step = [_mean(row, (0, 2)) for row in errors]
    model, copied, shuffled = (_number(_mean(per_step[row], (0,))) for row in (0, 1, OTHER))
    return HeldOut(
        model=_required(model),
        nothing_changes=_required(copied),
        shuffled=shuffled,
        per_step=_numbers(per_step[0]),
        per_step_nothing_changes=_numbers(per_step[1]),
        latent_action_reliance=_reliances(errors, pairs),
        two_alternative=_two_alternative(futures, pairs),
        action=_number(np.nansum(action[0] * steps) / steps.sum()) if steps.sum() else None,
        image_reliance=_image_reliances(action, steps, pairs),
        samples=errors.shape[1],
        episodes=len(set(pairs.episodes.tolist())),
        by_episode={str(name): _episode(errors[:, pairs.episodes == name]) for name in np.unique(pairs.episodes)},
    )


def _reliances(errors: NDArray[np.float64], pairs: Pairs) -> dict[str, Reliance]:
    found = {}
    for row, kind in enumerate(PairKind, 2):
        other = errors[row]
        own = np.where(np.isnan(other), np.nan, errors[0])
        interval = ratio_interval(_mean(other, (1, 2)), _mean(own, (1, 2)), _groups(kind, pairs))
        if interval is not None:
            by_step, by_view = (_numbers(_mean(other, axes) / _mean(own, axes)) for axes in ((0, 2), (0, 1)))
            found[kind.value] = Reliance(interval, by_step, by_view)
    return found


def _two_alternative(futures: NDArray[np.float64], pairs: Pairs) -> Interval | None:
    own, twin = futures
    right = np.where(np.isnan(own), np.nan, (own < twin) + 0.5 * (own == twin))
    return mean_interval(right, pairs.scenes)


def _image_reliances(action: NDArray[np.float64], steps: NDArray[np.float64], pairs: Pairs) -> dict[str, Interval]:
    found = {
        kind.value: ratio_interval(
            action[row] * steps, np.where(np.isnan(action[row]), np.nan, action[0] * steps), _groups(kind, pairs)
        )
        for row, kind in enumerate(PairKind, 1)
    }
    return {kind: interval for kind, interval in found.items() if interval is not None}


def _groups(kind: PairKind, pairs: Pairs) -> NDArray[np.str_]:
    return pairs.scenes if kind is PairKind.SAME_SCENE else pairs.episodes


def _episode(errors: NDArray[np.float64]) -> EpisodeErrors:
    model, copied, shuffled = (_number(_mean(errors[row], (0, 1, 2))) for row in (0, 1, OTHER))
    return EpisodeErrors(_required(model), _required(copied), shuffled, errors.shape[1])


def _mean(values: NDArray[np.float64], axis: tuple[int, ...]) -> NDArray[np.float64]:
    """Mean of what is not NaN; NaN where nothing is."""
    there = ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        mean: NDArray[np.float64] = np.where(there, values, 0).sum(axis=axis) / there.sum(axis=axis)
    return mean


def _number(value: float | np.floating | NDArray[np.float64]) -> float | None:
    return None if math.isnan(value) else float(value)


def _required(value: float | None) -> float:
    return math.nan if value is None else value


def _numbers(values: NDArray[np.float64]) -> tuple[float | None, ...]:
    return tuple(_number(value) for value in values)
