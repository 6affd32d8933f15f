"""Rule L7: the reason of every line of the ledger is tried again. What can be read has to be in the build.

"Undecodable" is the easiest way to leave out what a producer does not like. A reason that holds for the raw data is
found again by the audit's own readers; one that came from the run (a reader that hung or died, a file that changed
while it was read) cannot be tried, and is counted as such.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np

from pipeline.audit.files import LEDGER
from pipeline.audit.finding import Report
from pipeline.audit.raw.base import RawEpisode, RawError, RawSource
from pipeline.audit.selection.episode_filter import FILTERED
from pipeline.audit.selection.idle import IdleRule
from pipeline.audit.selection.windows import WindowRule

DAMAGE = frozenset(
    {
        *("undecodable", "missing-file", "bad-entry", "bad-table", "bad-record", "bad-rotation", "bad-clock"),
        *("length-mismatch", "not-finite", "out-of-range", "duplicate-id", "too-short", "no-instruction"),
    }
)
"""Reasons that may stand for an episode that the audit's readers cannot read, or not to its end."""

OWN = frozenset(
    {"blank-camera", "no-instruction", "not-wanted", "test-clip", "too-short", "length-mismatch", "all-idle"}
)
"""Reasons that are tried by what they say."""

OF_THE_RUN = frozenset({"timed-out", "kills-reader", "changed-file"})
"""Reasons that came from the run or the cluster and leave nothing behind that could be tried."""

DROPPED = "drop"
"""Stage of what was taken out of a finished build, with a reason of its own."""

_BLANK = 4
"""Grey levels between the darkest and the brightest value below which an image shows nothing."""


@dataclass(frozen=True)
class LeftOut:
    """A line of the ledger."""

    episode: str
    stage: str
    reason: str


@dataclass
class _Seen:
    """What reading an episode again showed. holds: reasons that are true of it; frames: of each view."""

    holds: set[str] = field(default_factory=set)
    frames: dict[str, int] = field(default_factory=dict)
    damage: str = ""


Refute = Callable[[Iterable[LeftOut]], Iterator[str]]
"""Of each line, in order, what `ReasonTrial.refuted` says."""


def check_left_out(entries: Iterable[LeftOut], refute: Refute, report: Report) -> dict[str, int]:
    """Try every line. Returns the coverage: how many were tried, and how many could not be."""
    counted: Counter[str] = Counter()
    tried: list[LeftOut] = []
    for entry in entries:
        kind = _kind(entry, report)
        counted[kind] += 1
        if kind == "ledger_reasons_tried":
            tried.append(entry)
    for entry, found in zip(tried, refute(tried), strict=True):
        report.check("L7")
        if found:
            detail = f"episode {entry.episode} was left out as {entry.reason!r}, and the raw data shows {found}"
            report.found("L7", LEDGER, detail)
    return dict(counted)


def _kind(entry: LeftOut, report: Report) -> str:
    if entry.stage == FILTERED:
        return "ledger_episodes_left_out_by_a_filter"
    if entry.stage == DROPPED:
        return "ledger_episodes_dropped_by_their_users"
    if entry.reason in OF_THE_RUN:
        return "ledger_reasons_of_the_run_not_repeatable"
    if entry.reason not in DAMAGE | OWN:
        report.found("L7", LEDGER, f"episode {entry.episode} was left out as {entry.reason!r}, no known reason")
    return "ledger_reasons_tried"


class ReasonTrial:
    """Tries reasons on the raw data."""

    def __init__(self, raw: RawSource, views: tuple[str, ...], rule: WindowRule, idle: IdleRule) -> None:
        self._raw, self._views, self._rule, self._idle = raw, views, rule, idle

    def refuted(self, entry: LeftOut) -> str:
        """What speaks against a reason; "" when it holds."""
        for episode in self._raw.meant_by(entry.episode):
            seen = self._look(episode, entry.reason)
            if entry.reason not in seen.holds:
                frames = ", ".join(f"{count} frames of {view}" for view, count in seen.frames.items())
                why = ", ".join(sorted(seen.holds))
                return seen.damage or f"{frames or 'no frames'}, " + (f"which are {why}" if why else "all in order")
        return ""

    def _look(self, episode: str, reason: str) -> _Seen:
        """Read an episode until the reason is seen to hold."""
        seen = _Seen()
        self._listing(episode, seen)
        if reason not in seen.holds:
            self._content(episode, seen)
        return seen

    def _listing(self, episode: str, seen: _Seen) -> None:
        """What the metadata says."""
        if self._raw.is_repeated(episode):
            seen.holds.add("duplicate-id")
        if self._raw.split_of(episode) == "test":
            seen.holds.add("test-clip")
        if self._raw.problem_of(episode):
            seen.holds |= {"bad-entry", "bad-clock"}

    def _content(self, episode: str, seen: _Seen) -> None:
        """What its files hold."""
        try:
            opened = self._raw.open(episode)
            if not opened.instructions:
                seen.holds.add("no-instruction")
            if not opened.wanted:
                seen.holds.add("not-wanted")
            for view in self._views:
                levels = [int(np.ptp(frame)) for _, frame in opened.frames(view)]
                seen.frames[view] = len(levels)
                if levels and max(levels[0], levels[(len(levels) - 1) // 2], levels[-1]) < _BLANK:
                    seen.holds.add("blank-camera")
        except RawError as error:
            seen.holds |= DAMAGE
            seen.damage = str(error)
            return
        seen.holds |= set(self._of_frames(opened, seen.frames, self._raw.length_of(episode)))

    def _of_frames(self, episode: RawEpisode, frames: dict[str, int], length: int | None) -> Iterator[str]:
        counts = {*frames.values(), *([] if length is None else [length])}
        counts |= {len(rows) for rows in (episode.state, episode.actions) if rows is not None}
        if len(counts) > 1:
            yield "length-mismatch"
        nows = self._rule.nows(min(counts, default=0))
        if not nows:
            yield "too-short"
        if any(episode.instruction(now) is None for now in nows or [0]):
            yield "no-instruction"
        if nows and not self._idle.difference(nows, [], episode.state, episode.state_ties is not None):
            yield "all-idle"
