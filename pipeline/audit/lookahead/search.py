"""Inputs of the raw data that show the future: channels of the state (L3, L8) and cameras (L1), over all episodes."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.audit.finding import Report
from pipeline.audit.lookahead.cameras.camera_motion import CameraMotion, MotionSums, motion_sums
from pipeline.audit.lookahead.cameras.camera_order import CameraOrder, CameraSums, camera_sums
from pipeline.audit.lookahead.cameras.film_order import FilmOrder, OrderSums, order_sums
from pipeline.audit.lookahead.channel_names import ChannelNames
from pipeline.audit.lookahead.numbers.episode_groups import EpisodeGroups
from pipeline.audit.lookahead.numbers.episode_lengths import EpisodeLengths
from pipeline.audit.lookahead.numbers.field_numbers import MOST_CHANNELS, FieldNumbers, Found
from pipeline.audit.lookahead.numbers.lags import Commands, Shifted
from pipeline.audit.lookahead.numbers.references import fields_of
from pipeline.audit.lookahead.numbers.state_endings import StateEndings
from pipeline.audit.raw.base import RawEpisode

RAW = "the raw data"


@dataclass(frozen=True)
class EpisodeLookahead:
    """What one episode says. numbers, motion: None without a state."""

    numbers: EpisodeNumbers | None
    motion: MotionSums | None
    cameras: CameraSums
    order: OrderSums


@dataclass(frozen=True)
class EpisodeNumbers:
    """What state [N, S] and fields of an episode say. alone: findings of the episode alone."""

    state: NDArray[np.float32]
    fields: tuple[FieldNumbers, ...]
    alone: tuple[Found, ...]


def examine(
    episode: RawEpisode, thumbnails: Mapping[str, NDArray[np.uint8]], views: Collection[str] | None = None
) -> EpisodeLookahead:
    """Compare state, actions and cameras of an episode.

    Args:
        thumbnails: uint8 [F, S, S] by camera.
        views: cameras that are inputs; the others are there to be compared with. None: all.
    """
    cameras, order, values = camera_sums(thumbnails, views), order_sums(thumbnails, views), fields_of(episode)
    if not values or episode.state is None:
        return EpisodeLookahead(None, None, cameras, order)
    state = values[0].values
    fields = tuple(FieldNumbers.of(state, field) for field in values)
    commands = Commands.of([field.moments for field in fields], state.shape[1])
    alone = tuple(found for field in fields for found in field.found_alone(len(state), commands))
    actions = None if episode.actions is None else episode.actions.astype(np.float64)
    inputs = {view: films for view, films in thumbnails.items() if views is None or view in views}
    motion = motion_sums(episode.id, inputs, state, actions)
    return EpisodeLookahead(EpisodeNumbers(episode.state, fields, alone), motion, cameras, order)


class LookaheadSearch:
    """Collects the episodes of a build. Memory does not grow with their number, whatever fields each of them has."""

    def __init__(self) -> None:
        self._cameras, self._order, self._motion = CameraOrder(), FilmOrder(), CameraMotion()
        self._endings, self._lengths = StateEndings(), EpisodeLengths()
        self._fields = EpisodeGroups()
        self._alone: dict[int, tuple[str, Found]] = {}
        self._episodes = self._states = self._channels = 0

    def add(self, episode: str, found: EpisodeLookahead) -> None:
        """Add an episode."""
        self._episodes += 1
        self._cameras.add(found.cameras, episode)
        self._order.add(found.order)
        if found.motion is not None:
            self._motion.add(found.motion)
        numbers = found.numbers
        if numbers is None:
            return
        self._states += 1
        self._channels = numbers.state.shape[1]
        self._endings.add(numbers.state.astype(np.float64))
        self._lengths.add(numbers.state)
        self._fields.add(episode, numbers.fields)
        self._name_alone((shifted.channel, (episode, shifted)) for shifted in _best(numbers.alone))

    def merge(self, other: LookaheadSearch) -> None:
        """Add the episodes of another part of the build."""
        self._episodes += other._episodes
        self._states += other._states
        self._channels = max(self._channels, other._channels)
        self._cameras.merge(other._cameras)
        self._order.merge(other._order)
        self._motion.merge(other._motion)
        self._endings.merge(other._endings)
        self._lengths.merge(other._lengths)
        self._fields.merge(other._fields)
        self._name_alone(other._alone.items())

    def _name_alone(self, found: Iterable[tuple[int, tuple[str, Found]]]) -> None:
        """Of each channel the first episode by its name, in whatever order parts come."""
        for channel, named in found:
            self._alone[channel] = min(named, self._alone.get(channel, named), key=lambda other: other[0])

    @property
    def claims(self) -> tuple[str, ...]:
        """What was not compared, as sentences."""
        left_out = self._fields.together().left_out
        if not left_out:
            return ()
        left = f"{left_out} fields of numbers, counted in each episode, were not compared with the state"
        return (f"{left}: more than {MOST_CHANNELS} channels besides state and actions",)

    def report(self, report: Report, names: ChannelNames, rate: float | None = None) -> None:
        """Count the checks and record what was found, once for each camera and channel, these by their names.

        Args:
            rate: frames a second, where it is known.
        """
        report.check("L1", self._episodes)
        report.check("L8", self._states)
        for detail in (*self._cameras.findings(), *self._order.findings(), *self._motion.findings(rate)):
            report.found("L1", RAW, detail)
        where = {one.found: one.where for one in self._fields.found(self._channels)}
        named: dict[int, tuple[str, str]] = {}
        for shifted in _best(where):
            named[shifted.channel] = shifted.rule, f"{shifted}, {where[shifted]}"
        for channel, (episode, shifted) in self._alone.items():
            named.setdefault(channel, (shifted.rule, f"{shifted}, in episode {episode}"))
        for _, (rule, detail) in sorted(named.items()):
            report.found(rule, RAW, names.named(detail))
        for detail in (*self._endings.findings(self._fields.endings()), *self._lengths.findings()):
            report.found("L8", RAW, names.named(detail))


def _best(found: Iterable[Found]) -> Iterator[Found]:
    """Of each channel the finding that leaves least; of those that are equal a copy, of an action."""
    best: dict[int, Found] = {}
    for one in sorted(found, key=_order):
        best.setdefault(one.channel, one)
    return iter(best.values())


def _order(found: Found) -> tuple[bool, float, bool]:
    copy = isinstance(found, Shifted)
    return not copy, max(found.left, 1e-9), not (isinstance(found, Shifted) and found.action)
