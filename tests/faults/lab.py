"""What trials share: the sample world, an undisturbed build of it, a cluster, and the course of a trial."""

from __future__ import annotations

import contextlib
import random
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

from pipeline.sample_world.ssv2 import write_ssv2
from tests.faults.cluster import RayCluster
from tests.faults.driver import Driver, Run, parts_of
from tests.faults.judge import Outcome, judge
from tests.faults.watcher import Watcher
from tests.jobs.runs import build_hashes

ATTEMPTS = 8
"""Runs of the command after which a trial has failed."""

Inject = Callable[["Lab", Driver, random.Random], str | None]
"""Brings the fault about while the driver runs. What it did, in words; None if it came too late."""


@dataclass
class Lab:
    """Use as a context manager. folder: for everything that is written; clips: of the sample world."""

    folder: Path
    clips: int = 60
    workers: int = 3
    cluster: RayCluster = field(init=False)
    reference: Path = field(init=False)
    hashes: dict[str, str] = field(init=False)
    shimmed: dict[str, str] = field(init=False)
    files: int = 0
    _stack: ExitStack = field(default_factory=ExitStack)
    _drivers: list[Driver] = field(default_factory=list)
    _trials: int = 0

    def __enter__(self) -> Lab:
        write_ssv2(self.root, clips=self.clips, seed=0, size=64)
        for name in ("rules", "logs"):
            (self.folder / name).mkdir()
        self.shimmed = {"LD_PRELOAD": str(_build_shim(self.folder)), "FAULTS_RULES": str(self.folder / "rules")}
        self.cluster = self._stack.enter_context(RayCluster(workers=self.workers, environment=self.shimmed))
        self.reference = self.folder / "reference"
        driver = self.start(self.run(self.reference))
        if driver.wait() != 0:
            self.__exit__()
            raise RuntimeError(f"the undisturbed run failed: {driver.output}")
        self.hashes = build_hashes(self.reference)
        self.files = sum(name.startswith(("train/", "val/")) for name in self.hashes)
        return self

    def __exit__(self, *_: object) -> None:
        for driver in self._drivers:
            driver.kill()
        self._stack.close()

    @property
    def root(self) -> Path:
        """The human clips."""
        return self.folder / "ssv2"

    def new_out(self) -> Path:
        self._trials += 1
        return self.folder / f"trial-{self._trials:03d}"

    def own_clips(self) -> Path:
        """A copy of the clips that a trial may change."""
        copy = self.folder / f"clips-{self._trials:03d}"
        shutil.copytree(self.root, copy)
        return copy

    @contextlib.contextmanager
    def rules(self, rules: Mapping[str, str]) -> Iterator[None]:
        """Rules of `shim.c`, by name of file, that hold in all processes of the cluster until the block ends."""
        folder = self.folder / "rules"
        for name, rule in rules.items():
            (folder / name).write_text(rule)
        try:
            yield
        finally:
            for path in folder.iterdir():
                path.unlink()

    def run(
        self,
        out: Path,
        *settings: str,
        root: Path | None = None,
        node: str | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> Run:
        """On the cluster as it is now."""
        return Run(out, root or self.root, self.cluster.address, settings, environment or {}, node)

    def start(self, run: Run, command: str = "preprocess") -> Driver:
        """A driver; none outlives the lab."""
        self._drivers = [driver for driver in self._drivers if driver.running]
        self._drivers.append(Driver(run, self.folder / "logs", command))
        return self._drivers[-1]

    def disturbed(self, rng: random.Random, inject: Inject, *settings: str, node: str | None = None) -> Outcome:
        """One trial: a run that the fault strikes, runs again until the build is finished, and what came of it."""
        for _ in range(4):
            self.cluster.heal()
            out, outcome, started = self.new_out(), Outcome(), time.monotonic()
            where = rng.choice(self.cluster.nodes) if node == "any" else node
            with Watcher(out, self.hashes) as watcher:
                driver = self.start(self.run(out, *settings, node=where))
                what = inject(self, driver, rng)
                if what is None:
                    driver.wait()
                    continue
                outcome.notes.append(what)
                finish(self, driver, outcome)
            outcome.half_written += sorted(watcher.problems)
            if (out / "build.json").exists():
                judge(out, outcome, self.reference)
            outcome.seconds = time.monotonic() - started
            return outcome
        raise RuntimeError("the run was over before the fault, four times; lower the moments it strikes at")


def _build_shim(folder: Path) -> Path:
    """The preloaded library; needs gcc."""
    made = folder / "shim.so"
    source = Path(__file__).with_name("shim.c")
    subprocess.run(["gcc", "-shared", "-fPIC", "-O1", "-o", str(made), str(source), "-ldl"], check=True)
    return made


def finish(lab: Lab, driver: Driver, outcome: Outcome) -> None:
    """Wait for the driver; as long as it failed, mend the cluster and run the command again."""
    code = driver.wait()
    while code != 0:
        outcome.notes.append(f"exit code {code} after {parts_of(driver.run.out)} files: {driver.last_line[:300]}")
        if code == 999:
            outcome.problems.append("the driver did not end by itself")
        if outcome.restarts >= ATTEMPTS:
            outcome.problems.append(f"not finished after {ATTEMPTS} runs")
            return
        lab.cluster.heal()
        outcome.restarts += 1
        driver = lab.start(replace(driver.run, address=lab.cluster.address, node=None))
        code = driver.wait()
