"""Inputs of the raw data that show the future: channels of the state (L3, L8) and cameras (L1), over all episodes."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.audit.finding import Report
from pipeline.audit.lookahead.camera_order import CameraOrder, CameraSums, camera_sums
from pipeline.audit.lookahead.channel_names import ChannelNames
from pipeline.audit.lookahead.episode_lengths import EpisodeLengths
from pipeline.audit.lookahead.filtered import ALONE, Filtered, FilterSums
from pipeline.audit.lookahead.lags import LONG, Moments, References, Shifted, references_of
from pipeline.audit.lookahead.state_endings import StateEndings
from pipeline.audit.raw.base import RawEpisode

RAW = "the raw data"


@dataclass(frozen=True)
class EpisodeLookahead:
    """What one episode says. numbers: None without a state."""

    numbers: EpisodeNumbers | None
    cameras: CameraSums


@dataclass(frozen=True)
class EpisodeNumbers:
    """What state and references of an episode say. state: [N, S]; alone: findings of the episode alone."""

    references: References
    state: NDArray[np.float32]
    moments: Moments
    filters: FilterSums
    alone: tuple[Shifted | Filtered, ...]


def examine(
    episode: RawEpisode, thumbnails: Mapping[str, NDArray[np.uint8]], views: Collection[str] | None = None
) -> EpisodeLookahead:
    """Compare state, actions and cameras of an episode.

    Args:
        thumbnails: uint8 [F, S, S] by camera.
        views: cameras that are inputs; the others are there to be compared with. None: all.
    """
    cameras, references = camera_sums(thumbnails, views), references_of(episode)
    if references is None or episode.state is None:
        return EpisodeLookahead(None, cameras)
    channels = episode.state.shape[1]
    moments, filters = Moments.of(references, channels), FilterSums.of(references, channels)
    alone: list[Shifted | Filtered] = list(moments.shifted()) if len(episode.state) >= LONG else []
    alone += filters.filtered() if filters.frames >= ALONE else ()
    return EpisodeLookahead(EpisodeNumbers(references, episode.state, moments, filters, tuple(alone)), cameras)


class LookaheadSearch:
    """Collects the episodes of a build."""

    def __init__(self) -> None:
        self._cameras, self._endings, self._lengths = CameraOrder(), StateEndings(), EpisodeLengths()
        self._moments: dict[tuple[str, ...], Moments] = {}
        self._filters: dict[tuple[str, ...], FilterSums] = {}
        self._alone: dict[int, tuple[str, Shifted | Filtered]] = {}
        self._episodes = self._states = 0

    def add(self, episode: str, found: EpisodeLookahead) -> None:
        """Add an episode."""
        self._episodes += 1
        self._cameras.add(found.cameras, episode)
        numbers = found.numbers
        if numbers is None:
            return
        self._states += 1
        self._endings.add(numbers.references, numbers.state.shape[1])
        self._lengths.add(numbers.state)
        self._add_sums(numbers.moments, numbers.filters)
        for shifted in numbers.alone:
            self._alone.setdefault(shifted.channel, (episode, shifted))

    def merge(self, other: LookaheadSearch) -> None:
        """Add the episodes of another part of the build."""
        self._episodes += other._episodes
        self._states += other._states
        self._cameras.merge(other._cameras)
        self._endings.merge(other._endings)
        self._lengths.merge(other._lengths)
        for names, moments in other._moments.items():
            self._add_sums(moments, other._filters[names])
        for channel, found in other._alone.items():
            self._alone.setdefault(channel, found)

    def _add_sums(self, moments: Moments, filters: FilterSums) -> None:
        names = moments.names
        if names in self._moments:
            self._moments[names].add(moments)
            self._filters[names].add(filters)
        else:
            self._moments[names], self._filters[names] = moments, filters

    def report(self, report: Report, names: ChannelNames) -> None:
        """Count the checks and record what was found, once for each camera and channel, these by their names."""
        report.check("L1", self._episodes)
        report.check("L8", self._states)
        for detail in self._cameras.findings():
            report.found("L1", RAW, detail)
        named: dict[int, tuple[str, str]] = {}
        for references, moments in self._moments.items():
            found: list[Shifted | Filtered] = [*moments.shifted(), *self._filters[references].filtered()]
            for shifted in found:
                named.setdefault(shifted.channel, (shifted.rule, f"{shifted}, over all episodes"))
        for channel, (episode, shifted) in self._alone.items():
            named.setdefault(channel, (shifted.rule, f"{shifted}, in episode {episode}"))
        for _, (rule, detail) in sorted(named.items()):
            report.found(rule, RAW, names.named(detail))
        for detail in (*self._endings.findings(), *self._lengths.findings()):
            report.found("L8", RAW, names.named(detail))
