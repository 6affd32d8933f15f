"""`vlajepa preprocess` as a process of its own, on the sample world in shards of about twelve samples."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults.cluster import kill_process_tree, plain_environment

REPOSITORY = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Run:
    """A build to be made.

    out, root    its folder, and that of the human clips
    address      of a cluster; None: the driver starts a Ray of its own
    settings     further words of the command
    environment  of the driver, besides this process's own
    node         name of the node that the driver is to run on; None: the head, or its own Ray
    """

    out: Path
    root: Path
    address: str | None
    settings: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    node: str | None = None

    def words(self, command: str = "preprocess") -> list[str]:
        where = [f"cluster.address={self.address}"] if self.address else ["cluster.num_cpus=2"]
        start = ["-m", "jobs.cli"] if self.node is None else ["-m", "tests.faults.on_node", self.node]
        source = ["source=ssv2", f"source.root={self.root}", f"out={self.out}"]
        sizes = "window.interval=2 window.every=0 window.per_episode=4 encoder=tiny inputs.image_size=64"
        shards = "shards.samples=12 shards.group_samples=6 max_bad_share=0.5"
        ray = "cluster.encoders=2 cluster.encoder_cpus=0.5 cluster.object_store_mb=128 cluster.patience_s=600"
        words = [*source, *sizes.split(), *shards.split(), *ray.split()]
        return [sys.executable, *start, command, *words, *where, *self.settings]


class Driver:
    """A running driver, in a session of its own; its output goes to a file in `logs`."""

    def __init__(self, run: Run, logs: Path, command: str = "preprocess") -> None:
        self.run = run
        self._log = logs / f"driver-{uuid.uuid4().hex}.log"
        with open(self._log, "wb") as log:
            self.process = subprocess.Popen(
                run.words(command),
                cwd=REPOSITORY,
                env=plain_environment(**run.environment),
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def wait(self, seconds: float = 300) -> int:
        """Exit code; a driver that does not end is killed and counts as one: 999."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            return 999

    def kill(self) -> None:
        """SIGKILL it, and its own Ray if it has one."""
        kill_process_tree(self.process)

    def send(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.process.pid, number)

    @property
    def running(self) -> bool:
        return self.process.poll() is None

    @property
    def output(self) -> str:
        return self._log.read_text(errors="replace")

    @property
    def last_line(self) -> str:
        lines = [line for line in self.output.splitlines() if line.strip()]
        return lines[-1] if lines else ""


def parts_of(out: Path) -> int:
    """Files that are finished."""
    return sum(not path.name.startswith(".") for path in out.glob("work/*.arrow"))


@dataclass(frozen=True)
class Moment:
    """When a fault strikes: once so many files are finished, and a little later. files -1: seconds after the start."""

    files: int
    later_s: float

    @classmethod
    def draw(cls, rng: random.Random, files: Sequence[int], startup_s: float = 0.0) -> Moment:
        """One of `files`; with `startup_s`, one in seven strikes at any time of the start."""
        if startup_s and rng.random() < 1 / 7:
            return cls(-1, rng.uniform(0, startup_s))
        return cls(rng.choice(files), rng.uniform(0, 0.3))

    def wait(self, driver: Driver) -> bool:
        """Whether the driver still ran when it came."""
        while driver.running and parts_of(driver.run.out) < self.files:
            if (driver.run.out / "build.json").exists():
                return False
            time.sleep(0.005)
        time.sleep(self.later_s)
        return driver.running
