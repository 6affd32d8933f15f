"""An index of films by visual words: which films of a large set have many points like those of a given one.

A word is the signs of some projections of a point's description. Every projection is a wave over the grid's rows,
columns and directions that a mirror image or a negative leaves as it is or turns round, so that the words of a changed
film are its own with some bits flipped. One projection near zero changes sign easily: words that differ in one bit
count as well.

K words of a film, B bits of a word, N films.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.audit.duplicates.features import VARIANTS, Variant

MAX_WORDS = 512
"""K: 2 KiB a film."""

CANDIDATES = 16
"""Films proposed for each film asked about."""

OUTSTANDING = 5.0
"""The first candidates are proposed however few words they share; the others must stand out from all films by so many
standard deviations."""

_ALWAYS = 2
_OWNER_BITS = 32


@dataclass(frozen=True)
class Candidate:
    """A film of the index, and the change after which it is alike."""

    film: int
    variant: Variant
    score: float


def words_of(descriptions: NDArray[np.float32]) -> NDArray[np.uint32]:
    """Descriptions float32 [P, 128] -> their words, uint32 [P]."""
    signs = descriptions @ _WAVES.T > 0
    return (signs.astype(np.uint32) << np.arange(BITS, dtype=np.uint32)).sum(axis=1, dtype=np.uint32)


class WordIndex:
    """Built once from the words of all films.

    Args:
        words: uint32 [sum of `held`], those of each film after those of the one before; all words of one film differ.
        indexed: int64 [N], words of each film to index: all of them, or 0 for a film that is only asked about.
        held: int64 [N], words of each film.
    """

    def __init__(self, words: NDArray[np.uint32], indexed: NDArray[np.int64], held: NDArray[np.int64]) -> None:
        self._count = len(held)
        self._films = int((indexed > 0).sum())
        owners = np.repeat(np.arange(self._count, dtype=np.uint64), held)
        kept = np.repeat(indexed > 0, held)
        pairs = words[kept].astype(np.uint64) << np.uint64(_OWNER_BITS) | owners[kept]
        pairs.sort()  # in place: this is as long as all words
        self._owners = (pairs & np.uint64(2**_OWNER_BITS - 1)).astype(np.uint32)
        bounds = np.arange(2**BITS + 1, dtype=np.uint64) << np.uint64(_OWNER_BITS)
        self._starts = np.searchsorted(pairs, bounds)
        self._norms = np.sqrt(np.maximum(indexed, 1))

    def closest(self, words: NDArray[np.uint32], most: int = CANDIDATES) -> list[Candidate]:
        """The films most alike after some change, the best first."""
        if self._films == 0:
            return []
        found: list[tuple[Candidate, float]] = []
        for variant in VARIANTS:
            scores = self._scores(words ^ np.uint32(_FLIPS[variant]))
            limit = float(scores.mean() + OUTSTANDING * scores.std())
            for film in np.argsort(-scores, kind="stable")[:most].tolist():
                found.append((Candidate(film, variant, float(scores[film])), limit))
        found.sort(key=lambda pair: -pair[0].score)
        likely = [c for place, (c, limit) in enumerate(found) if place < _ALWAYS or c.score > limit]
        return [candidate for candidate in likely if candidate.score > 0][:most]

    def _scores(self, words: NDArray[np.uint32]) -> NDArray[np.float64]:
        """Similarity to every film, float64 [N]: rare words that both have count more."""
        near = (words[:, None] ^ _NEIGHBOURS[None, :]).ravel()
        first, held = self._starts[near], self._starts[near + 1] - self._starts[near]
        near, first, held = near[held > 0], first[held > 0], held[held > 0]
        if not len(near):
            return np.zeros(self._count)
        within = np.arange(held.sum()) - np.repeat(np.cumsum(held) - held, held)
        owners = self._owners[np.repeat(first, held) + within]
        rarity = np.log1p(self._films / held)
        return np.bincount(owners, np.repeat(rarity, held), minlength=self._count) / self._norms


def _waves() -> tuple[NDArray[np.float32], dict[Variant, int]]:
    """Projections float32 [B, 128], and by variant the bits that it flips."""
    cells = [np.cos((np.arange(4) + 0.5) * rate * np.pi / 4) for rate in range(3)]
    turns = np.arange(8) * np.pi / 4
    rows: list[NDArray[np.float64]] = []
    flips = dict.fromkeys(VARIANTS, 0)
    for a, b, k, odd in np.ndindex(3, 3, 3, 2):
        mirror, negative = (a + odd) % 2, (a + b) % 2  # whether they turn the wave round
        if a + b + k > (4 if k == 1 else 3) or (k == 0 and odd) or not (mirror or negative):
            continue
        around = np.sin(k * turns) if odd else np.cos(k * turns)
        wave = np.einsum("i,j,k->ijk", cells[a], cells[b], around).ravel()
        for variant in VARIANTS:
            turned = (variant.mirrored * mirror + variant.negative * negative) % 2
            flips[variant] |= turned << len(rows)
        rows.append(wave / np.linalg.norm(wave))
    return np.array(rows, np.float32), flips


_WAVES, _FLIPS = _waves()
BITS = len(_WAVES)
_NEIGHBOURS = np.concatenate([[0], 1 << np.arange(BITS)]).astype(np.uint32)
