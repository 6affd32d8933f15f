"""One driver a build folder: the second is refused, a dead one is not waited for."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from jobs.common.driver_lock import LOCK_FILE, DriverLock, Owner, read_owner
from pipeline.errors import BuildError, RunError
from pipeline.storage.store import open_store

HELD = """
import sys, time
from jobs.common.driver_lock import DriverLock
from pipeline.storage.store import open_store
with DriverLock(open_store(sys.argv[1]), beat_s=0.05):
    print("held", flush=True)
    time.sleep(60)
"""


def holder(folder: Path) -> subprocess.Popen[str]:
    """A process that holds the lock."""
    process = subprocess.Popen([sys.executable, "-c", HELD, str(folder)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_a_second_driver_is_refused_until_the_first_ends(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    with DriverLock(store), pytest.raises(RunError, match=r"another driver \(process \d+ on .*remove .*driver\.json"):
        DriverLock(store).__enter__()
    with DriverLock(store):
        assert read_owner(store) is not None
    assert list(tmp_path.iterdir()) == []


def test_the_lock_of_a_killed_process_is_taken_at_once(tmp_path: Path) -> None:
    process = holder(tmp_path)
    with pytest.raises(RunError, match=rf"process {process.pid} "):
        DriverLock(open_store(tmp_path)).__enter__()
    process.kill()
    process.wait()
    started = time.monotonic()
    with DriverLock(open_store(tmp_path), beat_s=5.0):
        assert time.monotonic() - started < 5.0


def another_machine(store_path: Path, beats: int = 0) -> Owner:
    other = Owner("elsewhere", 1, 1, "another boot", "token", "yesterday", beats)
    (store_path / LOCK_FILE).parent.mkdir(exist_ok=True)
    (store_path / LOCK_FILE).write_text(json.dumps(asdict(other)))
    return other


def test_a_silent_owner_on_another_machine_is_taken_over(tmp_path: Path) -> None:
    another_machine(tmp_path)
    with DriverLock(open_store(tmp_path), beat_s=0.05):
        owner = read_owner(open_store(tmp_path))
        assert owner is not None
        assert owner.host != "elsewhere"


def test_a_living_owner_on_another_machine_is_not(tmp_path: Path) -> None:
    store, other = open_store(tmp_path), another_machine(tmp_path)
    over = threading.Event()

    def beat() -> None:
        beats = 0
        while not over.wait(0.05):
            beats += 1
            store.write(LOCK_FILE, json.dumps(asdict(replace(other, beats=beats))).encode())

    thread = threading.Thread(target=beat)
    thread.start()
    try:
        with pytest.raises(RunError, match="process 1 on elsewhere"):
            DriverLock(store, beat_s=0.1).__enter__()
    finally:
        over.set()
        thread.join()


def test_a_driver_notices_that_another_has_taken_over(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    with DriverLock(store, beat_s=0.02) as lock:
        lock.check()
        another_machine(tmp_path)
        deadline = time.monotonic() + 10
        while lock.lost is None and time.monotonic() < deadline:
            time.sleep(0.02)
        with pytest.raises(RunError, match="taken over by another driver"):
            lock.check()
    assert (tmp_path / LOCK_FILE).exists()  # that of the other


def test_of_many_that_start_at_once_one_works(tmp_path: Path) -> None:
    store, barrier = open_store(tmp_path), threading.Barrier(12)
    inside: list[int] = []
    most: list[int] = []

    def drive() -> None:
        barrier.wait()
        try:
            with DriverLock(store, beat_s=10.0):
                inside.append(1)
                most.append(len(inside))
                time.sleep(0.3)
                inside.pop()
        except RunError:
            most.append(0)

    threads = [threading.Thread(target=drive) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(most)[-2:] == [0, 1]


def test_a_lock_file_that_is_none_is_named(tmp_path: Path) -> None:
    (tmp_path / "lock").mkdir()
    (tmp_path / LOCK_FILE).write_text("{}")
    with pytest.raises(BuildError, match=r"driver\.json cannot be read"):
        DriverLock(open_store(tmp_path)).__enter__()
