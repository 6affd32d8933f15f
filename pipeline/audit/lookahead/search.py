"""Inputs of the raw data that show the future: channels of the state (L3, L8) and cameras (L1), over all episodes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.audit.finding import Report
from pipeline.audit.lookahead.camera_order import CameraOrder, CameraSums, camera_sums
from pipeline.audit.lookahead.channel_names import ChannelNames
from pipeline.audit.lookahead.lags import LONG, Moments, Shifted, references_of
from pipeline.audit.lookahead.state_endings import StateEndings
from pipeline.audit.raw.base import RawEpisode

RAW = "the raw data"


@dataclass(frozen=True)
class EpisodeLookahead:
    """What one episode says. moments and state [N, S]: None without a state; alone: findings of the episode alone."""

    moments: Moments | None
    state: NDArray[np.float32] | None
    alone: tuple[Shifted, ...]
    cameras: CameraSums


def examine(episode: RawEpisode, thumbnails: Mapping[str, NDArray[np.uint8]]) -> EpisodeLookahead:
    """Compare state, actions and cameras of an episode; thumbnails uint8 [F, S, S] by view."""
    cameras, references = camera_sums(thumbnails), references_of(episode)
    if references is None or episode.state is None:
        return EpisodeLookahead(None, None, (), cameras)
    moments = Moments.of(references, episode.state.shape[1])
    alone = tuple(moments.shifted()) if len(episode.state) >= LONG else ()
    return EpisodeLookahead(moments, episode.state, alone, cameras)


class LookaheadSearch:
    """Collects the episodes of a build."""

    def __init__(self) -> None:
        self._cameras, self._endings = CameraOrder(), StateEndings()
        self._moments: dict[tuple[str, ...], Moments] = {}
        self._alone: dict[int, tuple[str, Shifted]] = {}
        self._episodes = self._states = 0

    def add(self, episode: str, found: EpisodeLookahead) -> None:
        """Add an episode."""
        self._episodes += 1
        self._cameras.add(found.cameras, episode)
        if found.moments is None or found.state is None:
            return
        self._states += 1
        self._endings.add(found.state)
        self._add_moments(found.moments.names, found.moments)
        for shifted in found.alone:
            self._alone.setdefault(shifted.channel, (episode, shifted))

    def merge(self, other: LookaheadSearch) -> None:
        """Add the episodes of another part of the build."""
        self._episodes += other._episodes
        self._states += other._states
        self._cameras.merge(other._cameras)
        self._endings.merge(other._endings)
        for names, moments in other._moments.items():
            self._add_moments(names, moments)
        for channel, found in other._alone.items():
            self._alone.setdefault(channel, found)

    def _add_moments(self, names: tuple[str, ...], moments: Moments) -> None:
        known = self._moments.get(names)
        if known is None:
            self._moments[names] = moments
        else:
            known.add(moments)

    def report(self, report: Report, names: ChannelNames) -> None:
        """Count the checks and record what was found, once for each camera and channel, these by their names."""
        report.check("L1", self._episodes)
        report.check("L8", self._states)
        for detail in self._cameras.findings():
            report.found("L1", RAW, detail)
        named: dict[int, tuple[str, str]] = {}
        for moments in self._moments.values():
            for shifted in moments.shifted():
                named.setdefault(shifted.channel, (shifted.rule, f"{shifted}, over all episodes"))
        for channel, (episode, shifted) in self._alone.items():
            named.setdefault(channel, (shifted.rule, f"{shifted}, in episode {episode}"))
        for _, (rule, detail) in sorted(named.items()):
            report.found(rule, RAW, names.named(detail))
        for detail in self._endings.findings():
            report.found("L8", RAW, names.named(detail))
