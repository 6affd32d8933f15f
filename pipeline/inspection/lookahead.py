"""Looks for inputs that show the future in a sample of a dataset's episodes, before anything is built of it.

Converters make honest mistakes: a state of the frame after, a second action column in the state, a camera whose file is
ahead of the others. The names are in order, and a model trained on it does well until it meets a robot. `plan` refuses
such a dataset, `inspect` reports it, and the audit at level `source` looks at every episode with code of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from pipeline.errors import EpisodeError
from pipeline.format.episode import Episode
from pipeline.inspection.camera_order import MAX_FRAMES, CameraOrder, Thumbnails, thumbnails
from pipeline.inspection.checks import spread
from pipeline.inspection.endings import Endings
from pipeline.inspection.lags import LagSums, Match, Values
from pipeline.sources.base import EpisodeRef, Source
from pipeline.sources.episode.time_limit import SAMPLE_LIMIT_S, within
from pipeline.sources.episode.vectors import VectorField, VectorSettings

SAMPLED_EPISODES = 24
"""Episodes whose vectors are read, evenly spread over the dataset."""

SAMPLED_FILMS = 6
"""Those of them whose cameras are decoded too."""

_DECODED = 32
"""Frames that are decoded at a time."""


@dataclass(frozen=True)
class Lookahead:
    """An input that shows the future. rule: "L1" a camera, "L3" or "L8" a channel of the state."""

    rule: str
    detail: str


@dataclass(frozen=True)
class LookaheadResult:
    """What was found in `episodes` episodes, of `films` of which the cameras were compared."""

    findings: tuple[Lookahead, ...]
    episodes: int
    films: int


def find_lookahead(source: Source, refs: Sequence[EpisodeRef]) -> LookaheadResult:
    """Compare state, actions and cameras of some episodes; one that cannot be read, or not in time, is passed over."""
    chosen = spread(refs, SAMPLED_EPISODES)
    films = {ref.id for ref in spread(chosen, SAMPLED_FILMS)}
    search = _Search(source)
    for ref in chosen:
        with suppress(EpisodeError):
            within(SAMPLE_LIMIT_S, ref.id, partial(search.look, ref, ref.id in films))
    return LookaheadResult(tuple(search.findings()), search.episodes, search.films)


class _Search:
    def __init__(self, source: Source) -> None:
        self._source, self._raw = source, _with_raw_actions(source)
        self._cameras, self._endings = CameraOrder(), Endings()
        self._sums: LagSums | None = None
        self._names: list[str] = []
        self._channels = self.episodes = self.films = 0

    def look(self, ref: EpisodeRef, film: bool) -> None:
        """Read an episode. Raises EpisodeError."""
        with self._source.open(ref) as episode:
            state, actions = _vectors(episode)
            if film:
                self._look_at_cameras(episode)
        self.episodes += 1
        if state is None:
            return
        parts = [(f"action channel {i}", column) for i, column in enumerate(() if actions is None else actions.T)]
        parts += self._raw_parts(ref, len(state))
        commands = np.stack([column for _, column in parts], axis=1) if parts else np.zeros((len(state), 0))
        if self._sums is None:
            own = [f"state channel {i}" for i in range(state.shape[1])]
            self._channels, self._names = len(own), [*own, *(name for name, _ in parts)]
            self._sums = LagSums(len(own), np.arange(len(self._names)) >= len(own))
        references = np.concatenate([state, commands], axis=1)
        if references.shape[1] == len(self._names):
            self._sums.add(state, references)
            self._endings.add(state)

    def findings(self) -> Iterator[Lookahead]:
        """What the episodes read so far show."""
        for detail in self._cameras.findings():
            yield Lookahead("L1", detail)
        matches = self._sums.matches() if self._sums is not None else []
        for match in matches:
            yield Lookahead("L3" if match.lag == 0 else "L8", self._describe(match))
        named = {match.channel for match in matches}
        for channel, reference in self._endings.matches():
            last = "how many follow" if reference == self._channels else f"{self._names[reference]} of the last"
            if channel not in named:
                yield Lookahead("L8", f"{self._names[channel]} of the first frame of an episode gives {last}")

    def _describe(self, match: Match) -> str:
        later = f"frame n+{match.lag}" if match.lag else "frame n, which is the target"
        left = f"{match.unexplained:.2g} of the variance is left"
        return f"{self._names[match.channel]} of frame n equals {self._names[match.reference]} of {later} ({left})"

    def _look_at_cameras(self, episode: Episode) -> None:
        views = getattr(episode, "frame_readers", {})
        stride = -(-episode.num_frames // MAX_FRAMES)
        frames = range(0, episode.num_frames, stride)
        made: dict[str, Thumbnails] = {}
        for view in views:
            pieces = [frames[at : at + _DECODED] for at in range(0, len(frames), _DECODED)]
            made[view] = np.concatenate([thumbnails(episode.frames(view, piece)) for piece in pieces])
        self._cameras.add(made, stride)
        self.films += 1

    def _raw_parts(self, ref: EpisodeRef, frames: int) -> list[tuple[str, Values]]:
        """The fields that the actions are made of, as they are stored; none where they cannot be read."""
        parts = []
        for name, source in self._raw:
            with suppress(EpisodeError), source.open(ref) as episode:
                _, values = _vectors(episode)
                if values is not None and len(values) >= frames:
                    parts += [(f"{name}[{i}]", column[:frames]) for i, column in enumerate(values.T)]
        return parts


def _with_raw_actions(source: Source) -> list[tuple[str, Source]]:
    """For each field of the action that is converted or taken in part, the source with it alone for its action."""
    if not isinstance(source, VectorSettings):
        return []
    changed = [field for field in source.action if field != VectorField(field=field.field)]
    names = dict.fromkeys(name for field in changed for name in (field.field, field.base) if name is not None)
    read_by_state = {field.field for field in source.state}
    return [
        (name, replace(source, action=(VectorField(field=name),), state=()))
        for name in names
        if name not in read_by_state
    ]


def _vectors(episode: Episode) -> tuple[Values | None, Values | None]:
    """State [N, S] and actions [N, A] of all frames."""
    states = [row for frame in range(episode.num_frames) if (row := episode.state(frame)) is not None]
    actions = episode.actions(0, episode.num_frames)
    state = np.stack(states).astype(np.float64) if states else None
    return state, None if actions is None else actions.astype(np.float64)
