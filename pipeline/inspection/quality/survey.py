"""Runs the checks on the episodes that are opened. What is kept of each is a few hundred numbers.

N frames, S and A channels of state and action.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from pipeline.inspection.cameras import exposure, frame_rate, still
from pipeline.inspection.channels import clipping, gripper, jumps, units
from pipeline.inspection.channels import still as still_channels
from pipeline.inspection.channels.summary import ChannelSummary
from pipeline.inspection.episodes.duplicates import Signature, duplicates, numbers_of
from pipeline.inspection.episodes.idle import idle
from pipeline.inspection.episodes.lengths import outliers
from pipeline.inspection.episodes.texts import check_texts
from pipeline.inspection.flag import Flag
from pipeline.inspection.quality.reading import EpisodeContent
from pipeline.inspection.timing.action_lag import ActionLag, ActionLagSums, slipped
from pipeline.inspection.timing.camera_lag import CameraLag, CameraLags, apart
from pipeline.sources.base import EpisodeRef

GRIPPER = "gripper"
"""In the name of a channel."""


@dataclass(frozen=True)
class ChannelFacts:
    """What a manifest says of the channels of state or action, where there is one: their names and units."""

    names: tuple[str, ...] = ()
    units: tuple[str, ...] = ()

    def fitted(self, width: int) -> ChannelFacts:
        """For `width` channels: numbers for names and no units, unless it has as many."""
        if len(self.names) == width == len(self.units):
            return self
        return ChannelFacts(tuple(map(str, range(width))), ("",) * width)


@dataclass
class _Kind:
    """State or actions over the episodes."""

    facts: ChannelFacts
    found: dict[str, ChannelSummary] = field(default_factory=dict)

    def flags(self, kind: str) -> Iterator[Flag]:
        if not self.found:
            return
        facts = self.facts.fitted(len(next(iter(self.found.values())).low))
        low = np.min([summary.low for summary in self.found.values()], axis=0)
        high = np.max([summary.high for summary in self.found.values()], axis=0)
        yield from still_channels.constant(kind, facts.names, self.found)
        yield from still_channels.stuck(kind, facts.names, self.found)
        yield from jumps.jumps(kind, facts.names, self.found)
        yield from clipping.clipped(kind, facts.names, self.found)
        yield from units.misfits(kind, facts.names, facts.units, low, high)
        for channel, name in enumerate(facts.names):
            if GRIPPER in name.lower():
                yield from gripper.idle_grippers(f"{kind} {name}", channel, self.found)


class Survey:
    """Takes one episode after the other, then says what is wrong.

    Args:
        views: cameras that are looked at.
        state, action: of the manifest.
    """

    def __init__(
        self, views: Sequence[str], state: ChannelFacts = ChannelFacts(), action: ChannelFacts = ChannelFacts()
    ) -> None:
        self._views = tuple(views)
        self._kinds = {"state": _Kind(state), "action": _Kind(action)}
        self._flags: list[Flag] = []
        self._signatures: list[Signature] = []
        self._texts: dict[str, str] = {}
        self._rates: dict[str, dict[str, float]] = {view: {} for view in views}
        self._action_lag = ActionLagSums()
        self._camera_lags = {view: CameraLags(view) for view in views}
        self._seconds: list[float] = []
        self.frames = 0
        self.splits: dict[str, str] = {}

    def take(self, ref: EpisodeRef, content: EpisodeContent) -> None:
        """Check an episode from what was read of it."""
        self.splits[ref.id] = ref.split
        self.frames += sum(len(shown.look.frames) for shown in content.views.values())
        rates = {view: _rate(shown.seconds) for view, shown in content.views.items()}
        rate = float(np.median(list(rates.values()))) if rates else 1.0
        looks = {view: shown.look for view, shown in content.views.items()}
        found = [*_of_cameras(content, rate), *idle(content.state, looks, content.frames, rate)]
        self._flags += [replace(flag, episode=ref.id) for flag in found]
        for view, value in rates.items():
            self._rates[view][ref.id] = value
        self._seconds.append(1 / rate)
        self._collect(ref, content)

    def _collect(self, ref: EpisodeRef, content: EpisodeContent) -> None:
        state, actions = content.state, content.actions
        for kind, values in (("state", state), ("action", actions)):
            if values is not None and len(values) > 1 and values.shape[1]:
                self._kinds[kind].found[ref.id] = ChannelSummary.of(values)
        if state is not None and actions is not None:
            self._action_lag.add(state[: len(actions)], actions[: len(state)])
        for view, shown in content.views.items():
            if state is not None:
                self._camera_lags[view].add(shown.look, state)
        if content.text is not None:
            self._texts[ref.id] = content.text
        first = next(iter(content.views.values()), None)
        if first is not None:
            numbers = numbers_of(state, actions)
            self._signatures.append(Signature(ref.id, content.frames, numbers, first.look.keys))

    def channel_names(self, kind: str) -> tuple[str, ...]:
        """Of "state" or "action", as flags name them."""
        own = self._kinds[kind]
        return own.facts.fitted(len(next(iter(own.found.values())).low)).names if own.found else ()

    @property
    def action_lag(self) -> ActionLag | None:
        """Which action moves the state."""
        return self._action_lag.result()

    @property
    def camera_lags(self) -> list[CameraLag]:
        """Of each camera where enough episodes move."""
        return [lag for lags in self._camera_lags.values() if (lag := lags.result()) is not None]

    def flags(self, lengths: Mapping[str, int]) -> list[Flag]:
        """All that was found, the worst first and notes last.

        Args:
            lengths: frames of every episode whose length is known, opened or not.
        """
        found = list(self._flags)
        for kind, own in self._kinds.items():
            found += own.flags(kind)
        for view, rates in self._rates.items():
            found += frame_rate.between(view, rates)
        found += [*outliers(lengths), *check_texts(self._texts), *duplicates(self._signatures)]
        names = {kind: list(self.channel_names(kind)) for kind in self._kinds}
        rate = 1 / float(np.median(self._seconds)) if self._seconds else 1.0
        late = slipped(self.action_lag, names["state"], names["action"])
        found += [flag for flag in (late, *(apart(lag, rate) for lag in self.camera_lags)) if flag is not None]
        return sorted(found, key=lambda flag: (flag.note, -flag.score, flag.check, flag.episode, flag.where))


def _of_cameras(content: EpisodeContent, rate: float) -> Iterator[Flag]:
    for view, shown in content.views.items():
        look = shown.look
        found = still.frozen(view, look, content.state, rate), still.repeated(view, look), exposure.jumps(view, look)
        yield from filter(None, found)
        yield from exposure.blank(view, look)
        yield from frame_rate.within(view, shown.seconds)


def _rate(seconds: NDArray[np.float64]) -> float:
    """Mean frames a second; 1 where the clock stands."""
    return (
        (len(seconds) - 1) / float(seconds[-1] - seconds[0]) if len(seconds) > 1 and seconds[-1] > seconds[0] else 1.0
    )
