"""Inspects the content of a dataset before a build: opens evenly spread episodes and summarises them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import EpisodeError
from pipeline.format.episode import Episode
from pipeline.sources.base import EpisodeRef, LedgerEntry, Source, SourceIndex
from pipeline.sources.episode.opened import OpenedEpisode

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

    def add(self, values: NDArray[np.float32]) -> None:
        """Add rows [N, C]."""
        low, high = values.min(axis=0).astype(np.float64), values.max(axis=0).astype(np.float64)
        self.low = low if self.low is None else np.minimum(self.low, low)
        self.high = high if self.high is None else np.maximum(self.high, high)


@dataclass
class Inspection:
    """The findings. `left_out` holds the entries of the index and of opened episodes; `texts` counts instructions."""

    index: SourceIndex
    opened: int = 0
    lengths: list[int] = field(default_factory=list)
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
    source: Source, index: SourceIndex, episodes: int | None, progress: Callable[[], None] = lambda: None
) -> Inspection:
    """Open episodes and inspect them.

    Args:
        episodes: number of episodes, spread evenly over the dataset; None: all.
        progress: called after each episode.
    """
    found = Inspection(index, views={view: ViewFacts() for view in index.views}, left_out=list(index.left_out))
    chosen = spread(index.refs, episodes)
    shown = {ref.id for ref in spread(chosen, SHEET_ROWS)}
    for ref in chosen:
        found.opened += 1
        try:
            with source.open(ref) as episode:
                _look(episode, ref, found, ref.id in shown)
        except EpisodeError as error:
            found.left_out.append(LedgerEntry(ref.id, ref.split, "inspect", error.reason, error.detail))
        progress()
    return found


def spread(entries: Sequence[T], count: int | None) -> list[T]:
    """`count` entries at equal distances, with the first and the last."""
    if count is None or count >= len(entries):
        return list(entries)
    return [entries[i] for i in np.unique(np.linspace(0, len(entries) - 1, count).round().astype(int))]


def _look(episode: Episode, ref: EpisodeRef, found: Inspection, image: bool) -> None:
    last = episode.num_frames - 1
    text = "(test: no text)" if ref.split == "test" else episode.instruction(0)
    shown = [(view, at, episode.frames(view, [at])[0]) for view in found.index.views for at in (0, last // 2, last)]
    for view in found.index.views:
        _look_at_view(episode, view, next(frame for name, _, frame in shown if name == view), found.views[view])
    states = [state for i in range(episode.num_frames) if (state := episode.state(i)) is not None]
    if states:
        found.state.add(np.stack(states))
    actions = episode.actions(0, episode.num_frames)
    if actions is not None:
        found.action.add(actions)
    found.lengths.append(episode.num_frames)
    found.texts[text] += 1
    if image:
        found.strips.append(Strip(ref.id, text, shown))


def _look_at_view(episode: Episode, view: str, frame: NDArray[np.uint8], facts: ViewFacts) -> None:
    facts.sizes[f"{frame.shape[1]}x{frame.shape[0]}"] += 1
    if not isinstance(episode, OpenedEpisode):
        return
    reader = episode.frame_readers[view]
    facts.codecs[reader.codec] += 1
    steps = np.diff(reader.timestamps(range(reader.num_frames)))
    if len(steps):
        facts.fps.append(float(1 / steps.mean()))
        facts.uneven += int(np.abs(steps - steps.mean()).max() > UNEVEN * steps.mean())
