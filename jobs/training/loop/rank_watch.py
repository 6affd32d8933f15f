"""Which rank hangs: each tells where it is, and when none comes further, the one that is behind is named and all end.

A rank can hang where Python runs nothing more (a mount that does not answer, a stopped process), so threads of all
ranks watch, and speak through the store that PyTorch's process group has. A rank whose thread is silent is a stopped
process or a lost machine; else the rank that came least far is the one that the others wait for.
"""

from __future__ import annotations

import contextlib
import faulthandler
import json
import os
import platform
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeVar

import torch.distributed as dist

from jobs.training.loop.ranks import Ranks

_T = TypeVar("_T")

EXIT_CODE = 2
"""As of every run that could not be done."""

PATIENCE = 5.0
"""Seconds that the store, and the folder of the run, have to answer."""


@dataclass(frozen=True)
class Beat:
    """What a rank tells of itself.

    position, place  how far it is, in marks that all ranks pass in the same order, and what the last one says
    idle_s           seconds since that mark by its own clock, without those in which it was stopped
    beats            how often its thread has told
    where            its machine and process
    """

    position: int
    place: str
    idle_s: float
    beats: int
    where: str


def verdict(before: Sequence[Beat | None], now: Sequence[Beat | None], seconds: float) -> str | None:
    """Who hangs, by two looks at all ranks; None if one has come further meanwhile.

    Args:
        before: by rank; None: it has never told. `now`: the same, after every living rank has told again.
        seconds: for which the rank that asks has come no further.
    """
    silent = [
        i for i, (a, b) in enumerate(zip(before, now, strict=True)) if a is None or b is None or a.beats == b.beats
    ]
    if any(a and b and a.position != b.position for a, b in zip(before, now, strict=True)):
        return None
    if any(beat and i not in silent and beat.idle_s < seconds for i, beat in enumerate(now)):
        return None
    told = [(i, beat) for i, beat in enumerate(now) if beat is not None]
    least = min((beat.position for _, beat in told), default=0)
    behind = [i for i, beat in told if beat.position == least]
    if silent:
        named = "; ".join(f"{_name(i, now[i])} gives no sign of life" for i in silent)
    elif len(behind) < len(now):
        named = "; ".join(f"{_name(i, now[i])} hangs" for i in behind)
    else:
        named = f"all ranks hang at the same place ({told[0][1].place}): a device, or the network between them"
    return (
        f"{named}. No rank has come further for trainer.rank_timeout_s={seconds:g} seconds, so the run ends; the same "
        "command goes on from the last checkpoint"
    )


def _name(rank: int, beat: Beat | None) -> str:
    return f"rank {rank}" if beat is None else f"rank {rank} ({beat.where}; {beat.place})"


class IdleClock:
    """For how long a position has stood. Time in which this process was stopped (SIGSTOP, a suspended job) is left out.

    Args:
        poll: seconds between two looks.
        now: a clock that goes on while the process is stopped.
    """

    def __init__(self, poll: float, now: Callable[[], float] = time.monotonic) -> None:
        self._poll, self._now = poll, now
        self._position, self._looked = -1, now()
        self.seconds = 0.0

    def look(self, position: int) -> None:
        """Called every `poll` seconds."""
        passed, self._looked = self._now() - self._looked, self._now()
        stopped = passed > 3 * self._poll + PATIENCE
        self.seconds = 0.0 if position != self._position or stopped else self.seconds + passed
        self._position = position

    def rest(self) -> None:
        """Called after what took longer than `poll`: this process was at work."""
        passed, self._looked = self._now() - self._looked, self._now()
        self.seconds += passed


class RankWatch:
    """Threads that tell where this rank is, and end it when all wait for one. Use as a context manager.

    Args:
        store: of the process group.
        seconds: for which no rank may come further.
        out: folder of the run, whose log.txt gets a line.
    """

    def __init__(self, ranks: Ranks, store: dist.Store, seconds: float, out: Path) -> None:
        self._ranks, self._seconds, self._out = ranks, seconds, out
        self._poll = min(5.0, max(0.5, seconds / 20))
        # A client each: one that waits for an answer holds the others up.
        self._told, self._asked = store.clone(), store.clone()  # type: ignore[attr-defined]  # the stubs lack it
        self._idle = IdleClock(self._poll)
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=work, daemon=True) for work in (self._tell, self._watch)]

    def __enter__(self) -> None:
        for thread in self._threads:
            thread.start()

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join(PATIENCE)

    def _tell(self) -> None:
        where, beats = f"{platform.node()}, process {os.getpid()}", 0
        while True:
            position, place = self._ranks.position.now
            beat = Beat(position, place, self._idle.seconds, beats, where)
            with contextlib.suppress(RuntimeError):  # the store has gone, with a rank that has ended, or for a moment
                self._told.set(_key(self._ranks.rank), json.dumps(asdict(beat)))
            beats += 1
            if self._ended.wait(self._poll):
                return

    def _watch(self) -> None:
        while not self._ended.wait(self._poll):
            position, _ = self._ranks.position.now
            self._idle.look(position)
            if self._idle.seconds > self._seconds:
                self._end_if_hung(position)
                self._idle.rest()

    def _end_if_hung(self, position: int) -> None:
        limit = 6 * self._poll + PATIENCE
        lost = (
            f"rank 0 gives no sign of life: what it keeps for all ranks, or torchrun on its machine, is silent for "
            f"{limit:g} seconds, so the run ends; the same command goes on from the last checkpoint"
        )
        nobody: tuple[str, bool] | None = (lost, True)
        found = within(limit, self._judged, nobody)
        if found is None or self._ended.is_set() or self._ranks.position.now[0] != position:
            return
        text, first = found
        if first:
            within(PATIENCE, lambda: _append(self._out / "log.txt", text), None)
        stream = sys.__stderr__ or sys.stderr
        print(f"vlajepa: {text}", file=stream, flush=True)
        faulthandler.dump_traceback(stream)  # of the rank that hangs it says where
        os._exit(EXIT_CODE)

    def _judged(self) -> tuple[str, bool] | None:
        """The verdict, the first one that any rank has come to, and whether this rank has."""
        before = self._beats()
        time.sleep(4 * self._poll)
        text = verdict(before, self._beats(), self._seconds)
        if text is None:
            return None
        # Ranks that have ended give no sign of life, and whoever judges later must not name them.
        own = f"{self._ranks.rank} {text}"
        author, _, agreed = self._asked.compare_set("watch/verdict", "", own).decode().partition(" ")
        return agreed, author == str(self._ranks.rank)

    def _beats(self) -> list[Beat | None]:
        keys = [_key(rank) for rank in range(self._ranks.world)]
        if self._asked.check(keys):
            texts = self._asked.multi_get(keys)  # one request, however many ranks there are
        else:
            texts = [self._asked.get(key) if self._asked.check([key]) else None for key in keys]
        return [None if text is None else Beat(**json.loads(text)) for text in texts]


@contextlib.contextmanager
def watched(ranks: Ranks, seconds: float, out: Path) -> Iterator[None]:
    """While open, a rank that hangs is named and ends all; see `TrainerSettings.rank_timeout_s`. Open on all ranks."""
    if ranks.world == 1:
        yield
        return
    with RankWatch(ranks, dist.distributed_c10d._get_default_store(), seconds, out):
        yield


def within(seconds: float, function: Callable[[], _T], otherwise: _T) -> _T:
    """The result of a function; `otherwise` if it takes longer, or the store or a file cannot be reached."""
    found = [otherwise]

    def work() -> None:
        with contextlib.suppress(RuntimeError, OSError):
            found[0] = function()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(seconds)
    return found[0]


def _key(rank: int) -> str:
    return f"watch/{rank}"


def _append(path: Path, line: str) -> None:
    with open(path, "a") as file:
        file.write(line + "\n")
