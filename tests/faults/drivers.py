"""Two drivers on one folder, a driver that stands still, and drivers that are asked to end."""

from __future__ import annotations

import random
import signal
import time

from tests.faults.driver import Driver, Moment, parts_of
from tests.faults.judge import Outcome
from tests.faults.lab import Lab

REFUSAL = "is being written by another driver"


def second_driver(lab: Lab, rng: random.Random) -> Outcome:
    """A second driver is started while the first one works: it must be refused, the first must not notice."""

    def inject(lab: Lab, driver: Driver, rng: random.Random) -> str | None:
        wait_for_lock(driver)
        time.sleep(rng.uniform(0, 2))
        second = lab.start(driver.run)
        return refused(second) if second.wait() or driver.running else None

    return lab.disturbed(rng, inject)


def two_at_once(lab: Lab, rng: random.Random) -> Outcome:
    """Two drivers start at the same moment: one works, the other is refused."""

    def inject(lab: Lab, driver: Driver, rng: random.Random) -> str | None:
        second = lab.start(driver.run)
        codes = sorted((driver.wait(), second.wait()))
        loser = driver if driver.process.returncode else second
        if codes != [0, 2]:
            raise AssertionError(f"exit codes {codes}: {driver.last_line} / {second.last_line}")
        return refused(loser)

    return lab.disturbed(rng, inject)


def standing_driver(lab: Lab, rng: random.Random) -> Outcome:
    """A stopped driver (SIGSTOP) still owns the folder; once it is killed, the next run takes its place at once."""

    def inject(lab: Lab, driver: Driver, rng: random.Random) -> str | None:
        if not Moment.draw(rng, range(1, lab.files - 4)).wait(driver):
            return None
        driver.send(signal.SIGSTOP)
        second = lab.start(driver.run)
        second.wait()
        what = refused(second)
        driver.kill()
        if not (driver.run.out / "lock").exists():
            raise AssertionError("a killed driver left no lock, so the next run proves nothing")
        return f"{what} after {parts_of(driver.run.out)} files"

    return lab.disturbed(rng, inject)


def terminated(lab: Lab, rng: random.Random) -> Outcome:
    """SIGTERM to the driver: it ends by itself, and gives the folder back."""
    return _asked_to_end(lab, rng, signal.SIGTERM, 130)


def interrupted(lab: Lab, rng: random.Random) -> Outcome:
    """Ctrl-C (SIGINT) to the driver: exit code 130."""
    return _asked_to_end(lab, rng, signal.SIGINT, 130)


def _asked_to_end(lab: Lab, rng: random.Random, number: signal.Signals, expected: int | None) -> Outcome:
    def inject(lab: Lab, driver: Driver, rng: random.Random) -> str | None:
        if not Moment.draw(rng, range(1, lab.files - 4)).wait(driver):
            return None
        driver.send(number)
        code = driver.wait(90)
        if code in (0, 999) or (expected is not None and code != expected):
            raise AssertionError(f"exit code {code} after {number.name}: {driver.last_line}")
        if (driver.run.out / "lock").exists():
            raise AssertionError(f"the lock stayed after {number.name}, exit code {code}: {driver.last_line}")
        return f"{number.name} after {parts_of(driver.run.out)} files"

    return lab.disturbed(rng, inject)


def wait_for_lock(driver: Driver) -> None:
    """Return once the driver holds the folder, or has ended."""
    while driver.running and not (driver.run.out / "lock").exists():
        time.sleep(0.01)


def refused(driver: Driver) -> str:
    """Says so; raises AssertionError when an ended driver was not refused."""
    if driver.process.returncode != 2 or REFUSAL not in driver.output:
        raise AssertionError(f"exit code {driver.process.returncode}, not refused: {driver.last_line}")
    return "the second was refused"
