"""Near-duplicates across splits (rule L6): the same film under two ids, whatever ordinary change was made to it.

Every film leaves some words in an index. Films of the train split that share rare words with a held-out film are
decoded once more and compared with it frame by frame.

A film is one view of one episode. K words of a film.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from pipeline.audit.duplicates.comparison import Overlay, overlays
from pipeline.audit.duplicates.features import Variant
from pipeline.audit.duplicates.film_points import FilmPoints
from pipeline.audit.duplicates.films import read_film
from pipeline.audit.duplicates.index import WordIndex
from pipeline.audit.duplicates.motion import frame_pairs
from pipeline.audit.duplicates.sketch import sketch_frames

Frames = Iterable[NDArray[np.uint8]]
Reader = Callable[[str, str], Frames]
"""Episode and view -> its frames, RGB uint8 [H, W, 3] each. Empty where they cannot be read."""

TRAIN = "train"
_HELD_FILMS = 24  # compared lately; 10 MiB each


@dataclass(frozen=True)
class Match:
    """A film of another split that shows the same as a film of the train episode `other`.

    relation  "copy", or what was done besides: mirrored, negative, time-reversed
    share     of the shorter film that has a counterpart
    pairs     (frame of `episode`, frame of `other`) of frames that match, as numbered by the source
    """

    episode: str
    split: str
    view: str
    other: str
    other_view: str
    relation: str
    share: float
    correlation: float
    pairs: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class FilmName:
    """A film."""

    episode: str
    split: str
    view: str


@dataclass(frozen=True)
class Question:
    """A held-out film, and the train films that may show the same, each after the change that makes it alike."""

    film: FilmName
    candidates: tuple[tuple[FilmName, Variant], ...]


class FilmComparison:
    """Answers questions.

    Args:
        read: decodes a film once more. Where films of several builds are compared, their episodes must have different
            names.
    """

    def __init__(self, read: Reader) -> None:
        self._read = read
        self._film = lru_cache(_HELD_FILMS)(self._decoded)

    def answer(self, question: Question) -> Match | None:
        """The train film that the held-out one is a copy of."""
        for other, variant in question.candidates:
            mine, theirs = self._film(question.film).varied(variant), self._film(other)
            for overlay in overlays(mine, theirs):
                if overlay.same:
                    return _match(question.film, other, variant, mine, theirs, overlay)
        return None

    def _decoded(self, name: FilmName) -> FilmPoints:
        return FilmPoints(read_film(self._read(name.episode, name.view)))


class DuplicateSearch:
    """Takes films of any splits, of one build or several; asks about those of every other split than "train"."""

    def __init__(self) -> None:
        self._names: list[FilmName] = []
        self._lengths: list[int] = []
        self._words = tempfile.TemporaryFile()  # noqa: SIM115 (closed with this object)

    def add(self, episode: str, split: str, view: str, frames: Frames) -> None:
        """Add a film by its frames, RGB uint8 [H, W, 3] each."""
        self.add_words(episode, split, view, sketch_frames(frames))

    def add_words(self, episode: str, split: str, view: str, words: NDArray[np.uint32]) -> None:
        """Add a film by its words, uint32 [K], as `Sketcher` gives them."""
        self._names.append(FilmName(episode, split, view))
        self._lengths.append(len(words))
        self._words.write(np.ascontiguousarray(words).data)

    @property
    def count(self) -> int:
        """Films added so far."""
        return len(self._names)

    def matches(self, read: Reader) -> Iterator[Match]:
        """Held-out films that show the same as a train film; at most one match for each of them."""
        comparison = FilmComparison(read)
        yield from filter(None, map(comparison.answer, self.questions()))

    def questions(self) -> Iterator[Question]:
        """What has to be compared film by film."""
        self._words.flush()
        total = sum(self._lengths)
        if total == 0:
            return
        words = np.memmap(self._words, np.uint32, "r", shape=(total,))
        train = np.array([name.split == TRAIN for name in self._names])
        lengths = np.array(self._lengths, np.int64)
        index = WordIndex(words, np.where(train, lengths, 0), lengths)
        starts = np.cumsum(lengths) - lengths
        for film in np.flatnonzero(~train).tolist():
            own = np.array(words[starts[film] : starts[film] + lengths[film]])
            found = [(self._names[one.film], one.variant) for one in index.closest(own)] if len(own) else []
            if found:
                yield Question(self._names[film], tuple(found))


def _match(
    name: FilmName, other: FilmName, variant: Variant, mine: FilmPoints, theirs: FilmPoints, overlay: Overlay
) -> Match:
    a, b = mine.film.numbers, theirs.film.numbers
    shared = len(frame_pairs(overlay.line, len(a), len(b), max(len(a), len(b))))
    words = [variant.name, "time-reversed" if overlay.line.slope < 0 else ""]
    return Match(
        episode=name.episode,
        split=name.split,
        view=name.view,
        other=other.episode,
        other_view=other.view,
        relation=" and ".join(filter(None, words)) or "copy",
        share=min(1.0, shared / min(len(a), len(b))),
        correlation=max(overlay.motion.correlation, overlay.motion.blurred),
        pairs=tuple((int(a[i]), int(b[j])) for i, j in overlay.motion.pairs),
    )
