"""One driver for each folder (of a build, a run, an evaluation): a second one, started by mistake, is refused; one that
died is not waited for.

The lock is a file in a separate folder, made by the only step that is atomic everywhere (see `Store.create`). Its owner
writes a rising number into it every few seconds. Clocks, which differ between machines, do not decide whether another
owner lives: on this machine its process is looked up; on another one the number is polled for a while.

Bytes of a build do not depend on the lock: files are the same from any driver, and appear whole or not at all. There
it avoids duplicate work. Files of a run or an evaluation grow, and two writers would spoil them.
"""

from __future__ import annotations

import contextlib
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
from pipeline.storage.store import Store

LOCK_FILE = f"{LOCK_FOLDER}/driver.json"
BEAT_S = 5.0
"""Seconds between two signs of life."""

MISSED_BEATS = 6
"""So many without a sign of life, and an owner on another machine counts as dead."""


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
    """Use as a context manager around the work on a build folder.

    Args:
        beat_s: seconds between signs of life.

    Attributes:
        on_beat: called with every sign of life, in the lock's thread.
        lost: who has taken over, if anybody.

    Raises:
        RunError: on entering, another driver is at work; from `check`, another has taken over.
    """

    def __init__(self, store: Store, beat_s: float = BEAT_S) -> None:
        self._store, self._beat_s = store, beat_s
        self.on_beat: Callable[[], None] = lambda: None
        self._me = _myself()
        self.lost: Owner | None = None
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)

    def __enter__(self) -> Self:
        while not self._store.create(LOCK_FILE, _content(self._me)):
            other = read_owner(self._store)
            if other is None:
                continue  # it has just ended
            if self._lives(other):
                raise RunError(
                    f"{self._store.where} is being written by another driver ({other.describe()}); wait for it or stop "
                    f"it. If it is certainly dead, remove {self._store.where}/{LOCK_FILE}"
                )
            self._store.remove(LOCK_FOLDER)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        owner = None
        with contextlib.suppress(BuildError):
            owner = read_owner(self._store)
        if owner is not None and owner.token == self._me.token:
            self._store.remove(LOCK_FOLDER)

    def check(self) -> None:
        """Raises RunError when another driver has taken the lock over."""
        if self.lost is not None:
            raise RunError(f"{self._store.where} was taken over by another driver ({self.lost.describe()})")

    def _beat(self) -> None:
        while not self._over.wait(self._beat_s):
            try:
                other = read_owner(self._store)
                if other is not None and other.token != self._me.token:
                    self.lost = other
                    return
                self._me = replace(self._me, beats=self._me.beats + 1)
                self._store.write(LOCK_FILE, _content(self._me))
                self.on_beat()
            except (OSError, BuildError):
                continue  # a full disk or a store out of reach: the work itself will fail of it

    def _lives(self, other: Owner) -> bool:
        me = self._me
        if (other.host, other.processes) == (me.host, me.processes):
            return _started(other.pid) == other.started
        deadline = time.monotonic() + MISSED_BEATS * self._beat_s
        while time.monotonic() < deadline:
            time.sleep(self._beat_s / 2)
            now = read_owner(self._store)
            if now is None:
                return False
            if (now.token, now.beats) != (other.token, other.beats):
                return True
        return False


def read_owner(store: Store) -> Owner | None:
    """Who holds the lock of a build folder; None if nobody does."""
    try:
        return Owner(**json.loads(store.read(LOCK_FILE)))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError) as error:
        raise BuildError(f"{store.where}/{LOCK_FILE} cannot be read: {error}; remove it") from error


def _myself() -> Owner:
    pid = os.getpid()
    since = time.strftime("%Y-%m-%d %H:%M:%S %z")
    # Containers on one machine have their own tables of processes, and every boot begins a new one.
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    processes = f"{boot} {os.readlink('/proc/self/ns/pid')}"
    return Owner(socket.gethostname(), pid, _started(pid), processes, uuid.uuid4().hex, since)


def _started(pid: int) -> int:
    """Start of a process in clock ticks since boot (field 22 of /proc/PID/stat); -1 if there is no such process."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return -1


def _content(owner: Owner) -> bytes:
    return (json.dumps(asdict(owner)) + "\n").encode()
