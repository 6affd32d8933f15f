"""From errors of all held-out samples to the numbers of a build.

Letters: N samples, K future steps, V views, P kinds of pairs, R partners of a sample and kind.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from jobs.training.held_out.intervals import Interval, ratio_interval, share_interval
from jobs.training.held_out.pairs import PairKind, Pairs
from jobs.training.held_out.result import EpisodeErrors, HeldOut, Reliance

OTHER = list(PairKind).index(PairKind.OTHER_EPISODE)


def summarise(
    errors: NDArray[np.float64],
    exchanged: NDArray[np.float64],
    futures: NDArray[np.float64],
    action: NDArray[np.float64],
    images: NDArray[np.float64],
    steps: NDArray[np.float64],
    pairs: Pairs,
) -> HeldOut:
    """Numbers of a build from those of its samples, float64, see `measure.BatchNumbers`.

    Args:
        errors: [N, 2, K, V].
        exchanged: [N, P, R, K, V].
        futures: [N, 1 + R].
        action: [N].
        images: [N, P, R].
        steps: [N].
    """
    per_step = [_mean(each, (0, 2)) for each in (errors[:, 0], errors[:, 1], _mean(exchanged[:, OTHER], (1,)))]
    model, copied, shuffled = (_number(_mean(each, (0,))) for each in per_step)
    episodes = [(str(name), pairs.episodes == name) for name in np.unique(pairs.episodes)]
    return HeldOut(
        model=_required(model),
        nothing_changes=_required(copied),
        shuffled=shuffled,
        per_step=_numbers(per_step[0]),
        per_step_nothing_changes=_numbers(per_step[1]),
        latent_action_reliance=_reliances(errors[:, 0], exchanged, pairs),
        two_alternative=_two_alternative(futures, pairs),
        action=_number(np.nansum(action * steps) / steps.sum()) if steps.sum() else None,
        image_reliance=_image_reliances(action, images, steps, pairs),
        samples=len(errors),
        episodes=len(episodes),
        by_episode={name: _episode(errors[own], exchanged[own]) for name, own in episodes},
    )


def _reliances(errors: NDArray[np.float64], exchanged: NDArray[np.float64], pairs: Pairs) -> dict[str, Reliance]:
    """errors: of the own steering, [N, K, V]."""
    found = {}
    for kind, others in zip(PairKind, exchanged.swapaxes(0, 1), strict=True):
        other = _mean(others, (1,))
        own = np.where(np.isnan(other), np.nan, errors)
        interval = ratio_interval(_mean(others, (2, 3)), _mean(own, (1, 2)), _groups(kind, pairs))
        if interval is not None:
            by_step, by_view = (_numbers(_mean(other, axes) / _mean(own, axes)) for axes in ((0, 2), (0, 1)))
            found[kind.value] = Reliance(interval, by_step, by_view)
    return found


def _two_alternative(futures: NDArray[np.float64], pairs: Pairs) -> Interval | None:
    own, twins = futures[:, :1], futures[:, 1:]
    right = np.where(np.isnan(own + twins), np.nan, (own < twins) + 0.5 * (own == twins))
    return share_interval(right, pairs.scenes)


def _image_reliances(
    action: NDArray[np.float64], images: NDArray[np.float64], steps: NDArray[np.float64], pairs: Pairs
) -> dict[str, Interval]:
    found = {
        kind.value: ratio_interval(others * steps[:, None], action * steps, _groups(kind, pairs))
        for kind, others in zip(PairKind, images.swapaxes(0, 1), strict=True)
    }
    return {kind: interval for kind, interval in found.items() if interval is not None}


def _groups(kind: PairKind, pairs: Pairs) -> NDArray[np.str_]:
    return pairs.scenes if kind is PairKind.SAME_SCENE else pairs.episodes


def _episode(errors: NDArray[np.float64], exchanged: NDArray[np.float64]) -> EpisodeErrors:
    """Of one episode's samples, each as in `summarise`."""
    parts = (errors[:, 0], errors[:, 1], _mean(exchanged[:, OTHER], (1,)))
    model, copied, shuffled = (_number(_mean(each, (0, 1, 2))) for each in parts)
    return EpisodeErrors(_required(model), _required(copied), shuffled, len(errors))


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
