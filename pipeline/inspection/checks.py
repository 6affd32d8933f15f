"""Inspects the content of a dataset before a build: opens evenly spread episodes and summarises them."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import EpisodeError
from pipeline.inspection.quality.reading import EpisodeContent, read_episode
from pipeline.inspection.quality.survey import Survey
from pipeline.sources.base import EpisodeRef, LedgerEntry, Source, SourceIndex
from pipeline.sources.episode.time_limit import SAMPLE_LIMIT_S, within

T = TypeVar("T")

SHEET_ROWS = 8
"""Episodes on the contact sheet."""

UNEVEN = 0.25
"""A view is uneven if a step between two frames differs from the mean step by more than this share of it."""


@dataclass
class ViewFacts:
    """One camera over the opened episodes.

    sizes   "WIDTHxHEIGHT" -> episodes;  codecs  codec -> episodes;  fps  measured, one per episode
    uneven  episodes with unequal steps between frames
    """

    sizes: Counter[str] = field(default_factory=Counter)
    codecs: Counter[str] = field(default_factory=Counter)
    fps: list[float] = field(default_factory=list)
    uneven: int = 0


@dataclass
class Strip:
    """First, middle and last frame of every view of one episode; frames uint8 [H, W, 3]."""

    episode: str
    text: str
    frames: list[tuple[str, int, NDArray[np.uint8]]]


@dataclass
class Range:
    """Smallest and largest value of each channel so far."""

    low: NDArray[np.float64] | None = None
    high: NDArray[np.float64] | None = None

    def add(self, values: NDArray[np.float64]) -> None:
        """Add rows [N, C]."""
        low, high = values.min(axis=0), values.max(axis=0)
        self.low = low if self.low is None else np.minimum(self.low, low)
        self.high = high if self.high is None else np.maximum(self.high, high)


@dataclass
class Inspection:
    """The findings. `left_out` holds the entries of the index and of opened episodes; `texts` counts instructions."""

    index: SourceIndex
    survey: Survey
    opened: int = 0
    lengths: dict[str, int] = field(default_factory=dict)
    views: dict[str, ViewFacts] = field(default_factory=dict)
    texts: Counter[str] = field(default_factory=Counter)
    state: Range = field(default_factory=Range)
    action: Range = field(default_factory=Range)
    left_out: list[LedgerEntry] = field(default_factory=list)
    strips: list[Strip] = field(default_factory=list)

    @property
    def unusable(self) -> int:
        """Opened episodes that cannot be used."""
        return len(self.left_out) - len(self.index.left_out)


def inspect_source(
    source: Source,
    index: SourceIndex,
    episodes: int | None,
    survey: Survey | None = None,
    seed: int = 0,
    progress: Callable[[], None] = lambda: None,
) -> Inspection:
    """Open episodes and inspect them. One that takes more than a minute is passed over, as "timed-out".

    Args:
        episodes: number of episodes, see `sampled`; None: all.
        survey: checks what is in them; None: one that knows no manifest.
        progress: called after each episode.
    """
    survey = survey or Survey(index.views)
    found = Inspection(index, survey, views={view: ViewFacts() for view in index.views}, left_out=list(index.left_out))
    chosen = sampled(index.refs, episodes, seed)
    shown = {ref.id for ref in spread(chosen, SHEET_ROWS)}
    for ref in chosen:
        found.opened += 1
        try:
            content = within(SAMPLE_LIMIT_S, ref.id, partial(read_episode, source, ref, index.views))
            _take(content, ref, found, ref.id in shown)
        except EpisodeError as error:
            found.left_out.append(LedgerEntry(ref.id, ref.split, "inspect", error.reason, error.detail))
        progress()
    return found


def sampled(entries: Sequence[T], count: int | None, seed: int) -> list[T]:
    """`count` entries in their order: one drawn from each of as many equal parts. None: all."""
    if count is None or count >= len(entries):
        return list(entries)
    draw = random.Random(seed)
    edges = [i * len(entries) // count for i in range(count + 1)]
    return [entries[draw.randrange(a, b)] for a, b in pairwise(edges)]


def spread(entries: Sequence[T], count: int | None) -> list[T]:
    """`count` entries at equal distances, with the first and the last."""
    if count is None or count >= len(entries):
        return list(entries)
    return [entries[i] for i in np.unique(np.linspace(0, len(entries) - 1, count).round().astype(int))]


def _take(content: EpisodeContent, ref: EpisodeRef, found: Inspection, image: bool) -> None:
    found.survey.take(ref, content)
    for view, shown in content.views.items():
        facts = found.views[view]
        facts.sizes[f"{shown.stills[0][1].shape[1]}x{shown.stills[0][1].shape[0]}"] += 1
        if shown.codec:
            facts.codecs[shown.codec] += 1
        steps = np.diff(shown.seconds)
        if len(steps) and steps.mean() > 0:
            facts.fps.append(float(1 / steps.mean()))
            facts.uneven += int(np.abs(steps - steps.mean()).max() > UNEVEN * steps.mean())
    if content.state is not None:
        found.state.add(content.state)
    if content.actions is not None:
        found.action.add(content.actions)
    found.lengths[ref.id] = content.frames
    text = content.text or "(test: no text)"
    found.texts[text] += 1
    if image:
        stills = [(view, at, frame) for view, shown in content.views.items() for at, frame in shown.stills]
        found.strips.append(Strip(ref.id, text, stills))
