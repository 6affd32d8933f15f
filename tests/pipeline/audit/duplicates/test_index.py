"""Words of points, and the films that share them."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.audit.duplicates.features import LENGTH, VARIANTS, Variant, find_points, permutation, varied_pictures
from pipeline.audit.duplicates.index import _FLIPS, BITS, WordIndex, words_of

PLAIN = VARIANTS[0]


def _picture() -> NDArray[np.uint8]:
    rng = np.random.default_rng(0)
    small = rng.integers(0, 256, (24, 32)).astype(np.uint8)
    return np.kron(small, np.ones((6, 6), np.uint8))


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: variant.name or "none")
def test_a_changed_picture_has_the_words_with_bits_flipped(variant: Variant) -> None:
    descriptions = np.random.default_rng(0).random((50, LENGTH), np.float32)
    changed = words_of(descriptions[:, permutation(variant)])
    assert (changed == words_of(descriptions) ^ np.uint32(_FLIPS[variant])).mean() > 0.99  # rounding near zero


@pytest.mark.parametrize("variant", VARIANTS[1:], ids=lambda variant: variant.name)
def test_points_of_a_changed_picture_are_found_again(variant: Variant) -> None:
    own, changed = find_points(_picture()), find_points(varied_pictures(_picture(), variant))
    alike = own.descriptions[:, permutation(variant)] @ changed.descriptions.T
    assert np.median(alike.max(axis=1)) > 0.95
    assert np.median((own.descriptions @ changed.descriptions.T).max(axis=1)) < 0.95


def _index(films: list[NDArray[np.uint32]], indexed: list[bool]) -> WordIndex:
    held = np.array([len(film) for film in films], np.int64)
    return WordIndex(np.concatenate(films), np.where(indexed, held, 0), held)


def _films(count: int) -> list[NDArray[np.uint32]]:
    rng = np.random.default_rng(1)
    return [np.unique(rng.integers(0, 2**BITS, 300)).astype(np.uint32) for _ in range(count)]


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: variant.name or "none")
def test_a_film_is_found_by_some_of_its_words_with_a_bit_wrong(variant: Variant) -> None:
    films = _films(40)
    asked = films[7][::4] ^ np.uint32(_FLIPS[variant]) ^ np.uint32(1 << 5)
    best = _index(films, [True] * 40).closest(asked)[0]
    assert (best.film, best.variant) == (7, variant)


def test_films_that_are_only_asked_about_are_not_found() -> None:
    films = _films(4)
    found = _index(films, [True, False, True, True]).closest(films[1])
    assert 1 not in {candidate.film for candidate in found}


def test_an_index_of_nothing_finds_nothing() -> None:
    assert WordIndex(np.zeros(0, np.uint32), np.zeros(0, np.int64), np.zeros(0, np.int64)).closest(_films(1)[0]) == []
