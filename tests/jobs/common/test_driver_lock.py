"""One driver a build folder: the second is refused, a dead one is not waited for."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from jobs.common.driver_lock import DriverLock, Owner, read_owner
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
    with DriverLock(store), pytest.raises(RunError, match=r"another driver \(process \d+ on .*remove .*lock$"):
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
    numbers = open_store(store_path).names("lock")
    file = store_path / f"lock/{max(map(int, numbers), default=0) + 1}/driver.json"
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps(asdict(other)))
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
            store.write("lock/1/driver.json", json.dumps(asdict(replace(other, beats=beats))).encode())

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
    with DriverLock(store) as lock:
        lock.check()
        another_machine(tmp_path)
        with pytest.raises(RunError, match="taken over by another driver"):
            lock.check()
    owner = read_owner(store)
    assert owner is not None
    assert owner.host == "elsewhere"


def test_a_driver_that_lost_its_lock_leaves_a_later_one_of_its_number(tmp_path: Path) -> None:
    """Taken over while it was paused; the other ended, and a third began at number 1 again."""
    store = open_store(tmp_path)
    with DriverLock(store) as lock:
        store.remove("lock")
        another_machine(tmp_path)
        with pytest.raises(RunError, match="taken over by another driver"):
            lock.check()
    assert store.names("lock") == ["1"]


def look_for(lock: DriverLock, seconds: float) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        lock.look()


def test_a_look_finds_a_lost_lock_within_a_beat(tmp_path: Path) -> None:
    with DriverLock(open_store(tmp_path), beat_s=0.02) as lock:
        lock.look()
        shutil.rmtree(tmp_path / "lock")
        with pytest.raises(RunError, match="its lock was removed; this one stops"):
            look_for(lock, 20.0)


def test_a_driver_that_was_stopped_asks_before_it_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with DriverLock(open_store(tmp_path), beat_s=50.0) as lock:
        shutil.rmtree(tmp_path / "lock")
        lock.look()  # the next sign of life is far away
        now = time.monotonic()
        with monkeypatch.context() as patch:
            patch.setattr(time, "monotonic", lambda: now + 101.0)
            with pytest.raises(RunError, match="its lock was removed; this one stops"):
                lock.look()


def test_a_driver_notices_that_its_lock_was_removed(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    with DriverLock(store, beat_s=0.01) as lock:
        store.remove("lock")
        with pytest.raises(RunError, match="its lock was removed"):
            lock.check()
        time.sleep(0.1)
        assert store.names("lock") == []  # and gives no more signs of life


def test_a_zombie_is_dead(tmp_path: Path) -> None:
    """Killed, and its parent has not asked for its exit code."""
    process = holder(tmp_path)
    process.kill()
    while "Z" not in Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2]:
        time.sleep(0.01)
    with DriverLock(open_store(tmp_path)):
        pass
    process.wait()


def test_what_a_killed_release_left_is_taken(tmp_path: Path) -> None:
    (tmp_path / "lock/3").mkdir(parents=True)  # the file is gone, its folder is not
    with DriverLock(open_store(tmp_path)):
        assert open_store(tmp_path).names("lock") == ["4"]


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


@pytest.mark.parametrize("content", ["{}", "", "null", "[1]", '{"host": 1}'])
def test_a_lock_file_that_is_none_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "lock/1").mkdir(parents=True)
    (tmp_path / "lock/1/driver.json").write_text(content)
    with pytest.raises(BuildError, match=r"driver\.json cannot be read.*if no driver is at work, remove .*/lock$"):
        DriverLock(open_store(tmp_path)).__enter__()


def test_something_else_in_its_place_is_named(tmp_path: Path) -> None:
    (tmp_path / "lock").mkdir()
    (tmp_path / "lock/mine.txt").write_text("")
    with pytest.raises(BuildError, match=r"lock holds mine\.txt, which is no driver's"):
        DriverLock(open_store(tmp_path)).__enter__()


TAKERS = """
import os, sys, time
from pathlib import Path
from jobs.common.driver_lock import DriverLock
from pipeline.errors import RunError
from pipeline.storage.store import open_store
for line in sys.stdin:
    folder = Path(line.strip())
    result = "refused"
    try:
        with DriverLock(open_store(folder / "out")) as lock:
            os.close(os.open(folder / "inside", os.O_CREAT | os.O_EXCL))
            time.sleep(0.002)
            result = "LOST"
            try:
                lock.check()
                result = "held"
            finally:
                os.unlink(folder / "inside")
    except FileExistsError:
        result = "PAIR"
    except RunError:
        pass
    print(result, flush=True)
"""


def rounds_of_takers(folder: Path, rounds: int, processes: int = 8) -> list[list[str]]:
    """What came of processes that find the lock of a dead owner at the same time, round by round."""
    dead = _content_of_a_dead_process(folder)
    takers = [
        subprocess.Popen([sys.executable, "-c", TAKERS], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(processes)
    ]
    results = []
    for number in range(rounds):
        place = folder / str(number)
        (place / "out/lock/7").mkdir(parents=True)
        (place / "out/lock/7/driver.json").write_text(dead)
        for taker in takers:
            assert taker.stdin is not None
            taker.stdin.write(f"{place}\n")
            taker.stdin.flush()
        results.append([taker.stdout.readline().strip() for taker in takers if taker.stdout is not None])
        assert not (place / "out/lock").exists()
    for taker in takers:
        taker.communicate()
    return results


def _content_of_a_dead_process(folder: Path) -> str:
    process = holder(folder / "dead")
    content = (folder / "dead/lock/1/driver.json").read_text()
    process.kill()
    process.wait()
    return content


def test_no_two_take_over_from_a_dead_owner(tmp_path: Path) -> None:
    results = rounds_of_takers(tmp_path, 20)
    assert not any("PAIR" in of_round or "LOST" in of_round for of_round in results)
    assert all("held" in of_round for of_round in results)


@pytest.mark.slow
def test_no_two_take_over_in_two_hundred_rounds(tmp_path: Path) -> None:
    results = rounds_of_takers(tmp_path, 200)
    assert not any("PAIR" in of_round or "LOST" in of_round for of_round in results)
    assert all("held" in of_round for of_round in results)
