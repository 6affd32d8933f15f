"""Faults by SIGKILL: processes, nodes, the driver, everything."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time

from tests.faults.driver import Driver, Moment, parts_of
from tests.faults.judge import Outcome
from tests.faults.lab import Lab

STARTUP_S = 8.0
"""A start takes about so long: plan, Ray, encoders."""


def kill_process(lab: Lab, rng: random.Random, *titles: str) -> Outcome:
    """One process of the cluster with one of these titles."""

    def inject(lab: Lab, driver: Driver, rng: random.Random) -> str | None:
        moment = Moment.draw(rng, range(lab.files - 4))
        if not moment.wait(driver):
            return None
        pid = _victim(lab, driver, rng, titles)
        return None if pid is None else f"{titles[0]} killed after {parts_of(driver.run.out)} files"

    return lab.disturbed(rng, inject)


def kill_node(lab: Lab, rng: random.Random) -> Outcome:
    """A whole worker node; the others stay."""

    def inject(lab: Lab, driver: Driver, rng: random.Random) -> str | None:
        if not Moment.draw(rng, range(lab.files - 2), STARTUP_S).wait(driver):
            return None
        name = rng.choice(lab.cluster.nodes)
        lab.cluster.kill_node(name)
        return f"{name} killed after {parts_of(driver.run.out)} files"

    return lab.disturbed(rng, inject)


def kill_driver(lab: Lab, rng: random.Random) -> Outcome:
    """The driver, from its start to the commit."""

    def inject(lab: Lab, driver: Driver, rng: random.Random) -> str | None:
        if not Moment.draw(rng, range(lab.files + 1), STARTUP_S).wait(driver):
            return None
        driver.kill()
        return f"driver killed after {parts_of(driver.run.out)} files"

    return lab.disturbed(rng, inject)


def kill_driver_often(lab: Lab, rng: random.Random) -> Outcome:
    """The driver of one build, five times or until the build is finished, from a start to the commit each time."""

    def inject(lab: Lab, driver: Driver, rng: random.Random) -> str | None:
        after: list[str] = []
        while len(after) < 5:
            driver = driver if driver.running else lab.start(driver.run)
            done = parts_of(driver.run.out)
            if done > lab.files // 2 and rng.random() < 1 / 4:
                came = _commit_began(driver, rng)
            else:
                later = range(done, min(done + lab.files // 4, lab.files) + 1)
                came = Moment.draw(rng, later, STARTUP_S).wait(driver)
            if not came:
                driver.wait()
                break
            driver.kill()
            after.append(f"{parts_of(driver.run.out)}")
        return f"driver killed {len(after)} times, after {', '.join(after)} files" if after else None

    return lab.disturbed(rng, inject)


def kill_driver_at_commit(lab: Lab, rng: random.Random) -> Outcome:
    """The driver, as soon as one of the files of the commit is there, or a little later."""

    def inject(lab: Lab, driver: Driver, rng: random.Random) -> str | None:
        if not _commit_began(driver, rng):
            return None
        driver.kill()
        made = sorted(path.name for path in driver.run.out.iterdir())
        return f"driver killed with {', '.join(made)}"

    return lab.disturbed(rng, inject)


def _commit_began(driver: Driver, rng: random.Random) -> bool:
    """Wait for one of its files, and a little longer; whether the driver still runs."""
    first = driver.run.out / rng.choice(("samples.parquet", "ledger.jsonl", "stats.json", "build.json"))
    while driver.running and not first.exists():
        time.sleep(0.0005)
    time.sleep(rng.uniform(0, 0.02))
    return driver.running


def kill_driver_and_node(lab: Lab, rng: random.Random) -> Outcome:
    """The driver and the worker node it runs on, at once."""

    def inject(lab: Lab, driver: Driver, rng: random.Random) -> str | None:
        if not Moment.draw(rng, range(lab.files - 2), STARTUP_S).wait(driver):
            return None
        assert driver.run.node is not None
        driver.process.kill()
        lab.cluster.kill_node(driver.run.node)
        return f"driver and {driver.run.node} killed after {parts_of(driver.run.out)} files"

    return lab.disturbed(rng, inject, node="any")


def kill_node_of_driver(lab: Lab, rng: random.Random) -> Outcome:
    """The worker node that the driver runs on; the driver itself is left alone."""

    def inject(lab: Lab, driver: Driver, rng: random.Random) -> str | None:
        if not Moment.draw(rng, range(lab.files - 2)).wait(driver):
            return None
        assert driver.run.node is not None
        lab.cluster.kill_node(driver.run.node)
        return f"{driver.run.node} killed after {parts_of(driver.run.out)} files"

    return lab.disturbed(rng, inject, node="any")


def kill_head(lab: Lab, rng: random.Random) -> Outcome:
    """The head, and all nodes with it; the next run finds a new cluster."""

    def inject(lab: Lab, driver: Driver, rng: random.Random) -> str | None:
        if not Moment.draw(rng, range(lab.files - 2), STARTUP_S).wait(driver):
            return None
        lab.cluster.kill_all()
        return f"all nodes killed after {parts_of(driver.run.out)} files"

    return lab.disturbed(rng, inject)


def kill_all_workers(lab: Lab, rng: random.Random) -> Outcome:
    """All worker nodes at once; new ones come ten seconds later. The driver waits."""

    def inject(lab: Lab, driver: Driver, rng: random.Random) -> str | None:
        if not Moment.draw(rng, range(lab.files - 2)).wait(driver):
            return None
        for name in lab.cluster.nodes:
            lab.cluster.kill_node(name)
        after = parts_of(driver.run.out)
        time.sleep(10)
        lab.cluster.heal()
        return f"all worker nodes killed after {after} files"

    return lab.disturbed(rng, inject)


def storm(lab: Lab, rng: random.Random) -> Outcome:
    """Something is killed every one to two seconds for 15 s; lost nodes are added again."""

    def inject(lab: Lab, driver: Driver, rng: random.Random) -> str | None:
        if not Moment.draw(rng, range(4)).wait(driver):
            return None
        killed, until = [], time.monotonic() + 15
        while driver.running and time.monotonic() < until:
            what = rng.choice(("node", "node", "ray::_decode_task", "ray::_inputs_task", "ray::_EncoderActor"))
            if what == "node" and lab.cluster.nodes:
                lab.cluster.kill_node(rng.choice(lab.cluster.nodes))
                killed.append("node")
            elif what != "node" and _victim(lab, driver, rng, (what,), wait_s=0.5):
                killed.append(what.removeprefix("ray::"))
            if len(lab.cluster.nodes) < lab.workers and rng.random() < 0.6:
                lab.cluster.add_node()
            time.sleep(rng.uniform(0.5, 1.5))
        lab.cluster.heal()
        return f"killed {', '.join(killed)}" if killed else None

    return lab.disturbed(rng, inject)


def encoder_storm(lab: Lab, rng: random.Random) -> Outcome:
    """An encoder is killed up to eight times while it waits for decoding: its decoders die with it, blameless."""

    def inject(lab: Lab, driver: Driver, rng: random.Random) -> str | None:
        killed, until = 0, time.monotonic() + 120
        while driver.running and killed < 8 and time.monotonic() < until:
            if lab.cluster.pids("ray::_decode_task") and _victim(lab, driver, rng, ("ray::_EncoderActor",), 0.5):
                killed += 1
                time.sleep(rng.uniform(0, 1))
            time.sleep(0.002)
        return f"{killed} encoders killed" if killed >= 3 else None

    return lab.disturbed(rng, inject)


def add_node(lab: Lab, rng: random.Random) -> Outcome:
    """One of two nodes dies, so that one encoder has no place; a node that is added must get it, and work."""
    full = ("cluster.encoder_cpus=1", "cluster.task_cpus=1", f"cluster.encoders={2 * lab.workers - 1}")
    added: list[str] = []

    def inject(lab: Lab, driver: Driver, rng: random.Random) -> str | None:
        if not Moment.draw(rng, range(2)).wait(driver):
            return None
        lab.cluster.kill_node(rng.choice(lab.cluster.nodes))
        added.append(lab.cluster.add_node())
        until = time.monotonic() + 60
        while driver.running and time.monotonic() < until:
            if lab.cluster.pids_of(added[-1], "ray::_EncoderActor"):
                return f"{added[-1]} added; an encoder started there with {parts_of(driver.run.out)} files finished"
            time.sleep(0.05)
        return None

    return lab.disturbed(rng, inject, *full)


def _victim(lab: Lab, driver: Driver, rng: random.Random, titles: tuple[str, ...], wait_s: float = 20) -> int | None:
    """Kill one process with one of these titles as soon as there is one; its id."""
    until = time.monotonic() + wait_s
    while driver.running and time.monotonic() < until:
        pids = [pid for title in titles for pid in lab.cluster.pids(title)]
        if pids:
            pid = rng.choice(pids)
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                return pid
        time.sleep(0.002)
    return None
