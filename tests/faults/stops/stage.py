"""Where commands are stopped: the preloaded library, and the process that forks them."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.faults.cluster import plain_environment
from tests.faults.stops.forked import MODULES, RUNS

REPOSITORY = Path(__file__).resolve().parents[3]
HANGS_AFTER_S, HANGS = 240.0, 999
"""A command that takes longer is killed, and has this exit code."""


@dataclass(frozen=True)
class Stop:
    """Which call below a folder ends its process; at 0: none, calls are counted alone. writes: those count as well."""

    below: Path
    at: int = 0
    writes: bool = False


@dataclass(frozen=True)
class Started:
    """A command that runs, or has run and was not waited for. calls: the log of the calls that were counted."""

    pid: int
    log: Path
    calls: Path

    def kill(self) -> None:
        """SIGKILL to it and what it started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)

    @property
    def output(self) -> str:
        return self.log.read_text(errors="replace")

    def counted(self) -> list[str]:
        """The calls in order, each with its file."""
        lines = self.calls.read_text(errors="replace").splitlines() if self.calls.exists() else []
        return [" ".join(line.split()) for line in lines]


@dataclass
class Stage:
    """Use as a context manager. Needs gcc. folder: for the library and logs; modules: imported at the start."""

    folder: Path
    modules: Sequence[str] = MODULES
    _process: subprocess.Popen[str] = field(init=False)
    library: Path = field(init=False)

    def __enter__(self) -> Stage:
        (self.folder / "logs").mkdir(parents=True)
        self.library = build_library(self.folder)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.stops.forked", *self.modules],
            cwd=REPOSITORY,
            env=plain_environment(LD_PRELOAD=str(self.library), CUDA_VISIBLE_DEVICES=""),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()

    def start(self, words: Sequence[str], stop: Stop | None = None, **environment: str) -> Started:
        """Start `vlajepa WORDS`."""
        name = uuid.uuid4().hex
        log, calls = self.folder / "logs" / f"{name}.txt", self.folder / "logs" / f"{name}.calls"
        if stop is not None:
            environment |= stop_variables(stop, calls)
        request = {"words": [*words], "environment": environment, "log": str(log)}
        return Started(self._ask(request), log, calls)

    def wait(self, *runs: Started, seconds: float = HANGS_AFTER_S) -> list[int]:
        """Exit codes; negative for a signal. As soon as one failed, or after so many seconds (999), the others are
        killed."""
        codes: dict[int, int] = {}
        until = time.monotonic() + seconds
        while len(codes) < len(runs):
            for run in runs:
                if run.pid not in codes and (code := self._ask({"ended": run.pid})) != RUNS:
                    codes[run.pid] = code
            late = time.monotonic() > until
            if late or any(codes.values()):
                for run in runs:
                    if run.pid not in codes:
                        run.kill()
                        codes[run.pid] = self._reap(run, HANGS if late else 0)
            time.sleep(0.05)
        return [codes[run.pid] for run in runs]

    def _reap(self, run: Started, code: int) -> int:
        while self._ask({"ended": run.pid}) == RUNS:
            time.sleep(0.01)
        return code

    def run(self, words: Sequence[str], stop: Stop | None = None, **environment: str) -> tuple[int, Started]:
        """Start and wait."""
        started = self.start(words, stop, **environment)
        return self.wait(started)[0], started

    def _ask(self, request: Mapping[str, Any]) -> int:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())


def stop_variables(stop: Stop, calls: Path) -> dict[str, str]:
    """The library's settings."""
    found = {"STOP_BELOW": os.path.realpath(stop.below), "STOP_LOG": str(calls), "STOP_AT": str(stop.at)}
    return found | ({"STOP_WRITES": "1"} if stop.writes else {})


def build_library(folder: Path) -> Path:
    """Compile `stop.c`."""
    made = folder / "stop.so"
    source = Path(__file__).with_name("stop.c")
    subprocess.run(["gcc", "-shared", "-fPIC", "-O1", "-o", str(made), str(source), "-ldl"], check=True)
    return made
