"""Films in the order of decoding, and flashes of the end, are found; honest films are not."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.audit.lookahead.cameras.film_order import FilmOrder, order_sums
from tests.pipeline.audit.lookahead.cameras.films import Change, Film, as_decoded, episodes, flashing

MADE = [episode.film for episode in episodes(10)]


def found(change: Change, share: float = 1.0) -> list[str]:
    """Findings where a share of the episodes is changed."""
    whole, part = FilmOrder(), FilmOrder()
    for number, film in enumerate(MADE):
        search = part if number % 2 else whole
        search.add(order_sums({"front": change(film) if number < share * len(MADE) else film}))
    whole.merge(part)
    return list(whole.findings())


@pytest.mark.parametrize(("group", "share"), [(2, 1.0), (3, 1.0), (4, 1.0), (5, 1.0), (3, 0.3), (4, 0.3)])
def test_frames_in_the_order_of_decoding_are_found(group: int, share: float) -> None:
    (line,) = found(as_decoded(group), share)
    assert line.startswith("camera front has frames out of order")


def test_a_pyramid_of_frames_is_found() -> None:
    def pyramid(film: Film) -> Film:
        order = np.arange(len(film))
        for first in range(1, len(film) - 3, 4):
            order[first : first + 4] = first + np.array([3, 1, 0, 2])
        return film[order]

    assert found(pyramid)


@pytest.mark.parametrize("every", [4, 7])
def test_flashes_of_the_end_are_found(every: int) -> None:
    lines = found(flashing(every))
    assert any(line.startswith("camera front shows the end of its episode in single frames before") for line in lines)


def _flicker(film: Film) -> Film:
    bright = film.astype(int)
    bright[::2, :, ::4] += 12
    return bright.clip(0, 255).astype(np.uint8)


def _glitches(film: Film) -> Film:
    grey = film.copy()
    grey[5::9] = np.linspace(0, 255, film.shape[1]).astype(np.uint8)
    return grey


HONEST: dict[str, Change] = {
    "as it is": lambda film: film,
    "lamps that flicker": _flicker,
    "frames that were lost in transmission": _glitches,
    "every frame twice": lambda film: np.repeat(film, 2, axis=0),
    "every third frame": lambda film: film[::3],
    "a still scene": lambda film: np.repeat(film[:1], len(film), axis=0),
    "noise": lambda film: np.random.default_rng(0).integers(0, 255, film.shape).astype(np.uint8),
    "turned round": lambda film: film[::-1],
}


@pytest.mark.parametrize("name", HONEST)
def test_honest_films_have_no_finding(name: str) -> None:
    assert found(HONEST[name]) == []
