"""One driver for each folder (of a build, a run, an evaluation): a second one, started by mistake, is refused; one that
died is not waited for.

Each owner has a number, and a file in a folder of that number below `lock/`. It is made by the only step that is atomic
everywhere (see `Store.create`), so a number has one owner. Who takes over from a dead owner takes the next number, and
keeps it only if then no other number is new and the dead owner's file is as it was: whoever was slower finds one of the
two wrong, and begins again. Nothing is removed that another may own.

The owner writes a rising count into its file every few seconds. Clocks, which differ between machines, do not decide
whether another owner lives: on this machine its process is looked up; on another one the count is polled for a while.

Bytes of a build do not depend on the lock: files are the same from any driver, and appear whole or not at all. There
it avoids duplicate work. Files of a run or an evaluation grow, and two writers would spoil them.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Self

from pipeline.errors import BuildError, RunError
from pipeline.format.file_names import LOCK_FOLDER
from pipeline.format.json.strict_json import parse
from pipeline.format.json.typed_json import from_json
from pipeline.format.text.printable import printable
from pipeline.storage.store import Store

_FILE = "driver.json"
BEAT_S = 5.0
"""Seconds between two signs of life."""

MISSED_BEATS = 6
"""So many without a sign of life, and an owner on another machine counts as dead."""

_LOOKS, _LOOK_S = 3, 0.2
"""A driver that lost a race for the next number removes it at once; who sees it looks again, after so many seconds."""


@dataclass(frozen=True)
class Owner:
    """Who holds the lock.

    started    of the process, in clock ticks since boot;  processes  which table of processes `pid` belongs to
    beats      how often it has given a sign of life;  since  when it took the lock, by its own clock
    """

    host: str
    pid: int
    started: int
    processes: str
    token: str
    since: str
    beats: int = 0

    def describe(self) -> str:
        return f"process {self.pid} on {self.host}, since {self.since}"


class DriverLock:
    """Use as a context manager around the work on a folder.

    Args:
        beat_s: seconds between signs of life.

    Attributes:
        on_beat: called with every sign of life, in the lock's thread.

    Raises:
        RunError: on entering, another driver is at work; from `check`, another has taken over.
    """

    def __init__(self, store: Store, beat_s: float = BEAT_S) -> None:
        self._store, self._beat_s = store, beat_s
        self.on_beat: Callable[[], None] = lambda: None
        self._me, self._number = _myself(), 0
        self._over = threading.Event()
        self._lost: RunError | None = None
        self._confirmed = time.monotonic()
        self._thread = threading.Thread(target=self._beat, daemon=True)

    def __enter__(self) -> Self:
        while not self._take():
            pass
        self._confirmed = time.monotonic()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        if self._mine():  # after a lost lock another driver may have begun again at this number
            self._store.remove(_folder(self._number))

    def check(self) -> None:
        """Call before whatever another driver must not see done twice: a save, a record, a commit.

        Raises:
            RunError: another driver has taken the lock over, or it was removed.
        """
        for _ in range(_LOOKS):
            if not self._mine():
                break
            if self._number + 1 not in _numbers(self._store):
                return
            time.sleep(_LOOK_S)
        other = read_owner(self._store)
        who = "its lock was removed" if other is None else f"it was taken over by another driver ({other.describe()})"
        raise RunError(f"{self._store.where}: {who}; this one stops")

    def look(self) -> None:
        """Call before what happens many times a second, such as a line of a log. Reads nothing, unless the last sign of
        life is so old that this process was stopped.

        Raises:
            RunError: as `check`, up to a beat later.
        """
        if self._lost is not None:
            raise self._lost
        if time.monotonic() - self._confirmed > 2 * self._beat_s:
            self.check()

    def _mine(self) -> bool:
        owner = _read(self._store, self._number)
        return owner is not None and owner.token == self._me.token

    def _take(self) -> bool:
        """One attempt. False: another one moved at the same time."""
        before = _numbers(self._store)
        last = before[-1] if before else 0
        other = _read(self._store, last) if before else None  # None: it has just ended
        if other is not None and self._lives(last, other):
            raise RunError(
                f"{self._store.where} is being written by another driver ({other.describe()}); wait for it or stop "
                f"it. If it is certainly dead, remove {self._store.where}/{LOCK_FOLDER}"
            )
        number = last + 1
        if not self._store.create(_file(number), _content(self._me)):
            return False
        *lower, highest = _numbers(self._store) or [0]
        if highest != number or not set(lower) <= set(before) or (before and _read(self._store, last) != other):
            self._store.remove(_folder(number))
            return False
        for old in lower:
            self._store.remove(_folder(old))
        self._number = number
        return True

    def _beat(self) -> None:
        while not self._over.wait(self._beat_s):
            try:
                self.check()
                self._me = replace(self._me, beats=self._me.beats + 1)
                self._store.write(_file(self._number), _content(self._me))
                self._confirmed = time.monotonic()
                self.on_beat()
            except (OSError, BuildError):
                continue  # a full disk or a store out of reach: the work itself will fail of it
            except RunError as error:
                self._lost = error
                return  # no more signs of life; the work will find it

    def _lives(self, number: int, other: Owner) -> bool:
        me = self._me
        if (other.host, other.processes) == (me.host, me.processes):
            return _started(other.pid) == other.started
        deadline = time.monotonic() + MISSED_BEATS * self._beat_s
        while time.monotonic() < deadline:
            time.sleep(self._beat_s / 2)
            if (now := _read(self._store, number)) != other:
                return now is not None
        return False


def read_owner(store: Store) -> Owner | None:
    """Who holds the lock of a folder; None if nobody does. Raises BuildError if what is there is no lock."""
    numbers = _numbers(store)
    return _read(store, numbers[-1]) if numbers else None


def _numbers(store: Store) -> list[int]:
    """The numbers there are, rising. Raises BuildError if the folder holds something else."""
    names = store.names(LOCK_FOLDER)
    if strange := [name for name in names if not name.isdecimal()]:
        where = f"{store.where}/{LOCK_FOLDER}"
        raise BuildError(f"{where} holds {strange[0]}, which is no driver's; if no driver is at work, remove {where}")
    return sorted(map(int, names))


def _read(store: Store, number: int) -> Owner | None:
    try:
        return from_json(Owner, parse(store.read(_file(number))))
    except FileNotFoundError:
        return None
    except ValueError as error:
        fix = f"if no driver is at work, remove {store.where}/{LOCK_FOLDER}"
        raise BuildError(f"{store.where}/{_file(number)} cannot be read: {printable(error)}; {fix}") from error


def _folder(number: int) -> str:
    return f"{LOCK_FOLDER}/{number}"


def _file(number: int) -> str:
    return f"{_folder(number)}/{_FILE}"


def _myself() -> Owner:
    pid = os.getpid()
    since = time.strftime("%Y-%m-%d %H:%M:%S %z")
    # Containers on one machine have their own tables of processes, and every boot begins a new one.
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    processes = f"{boot} {os.readlink('/proc/self/ns/pid')}"
    return Owner(socket.gethostname(), pid, _started(pid), processes, uuid.uuid4().hex, since)


def _started(pid: int) -> int:
    """Start of a process in clock ticks since boot (field 22 of /proc/PID/stat); -1 if there is no such process, or it
    is dead and its parent has not asked for its exit code."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return -1 if fields[0] in "ZX" else int(fields[19])
    except (OSError, ValueError, IndexError):
        return -1


def _content(owner: Owner) -> bytes:
    return (json.dumps(asdict(owner)) + "\n").encode()
