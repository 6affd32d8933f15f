"""`torchrun` itself, but for how its agent starts the ranks: as forks, which need not import everything again.

The agent, its rendezvous, who ends whom and the sessions of the processes are torchrun's own.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from typing import Any

from torch.distributed import run
from torch.distributed.elastic.multiprocessing.subprocess_handler.subprocess_handler import SubprocessHandler

from tests.faults.stops.forked import run_words

PROGRAM = "jobs.cli"
"""What torchrun is told to start; the words after it say what is forked."""


def launch(ranks: str, *words: str) -> None:
    """`torchrun --standalone --nproc-per-node RANKS -m PROGRAM WORDS`."""
    SubprocessHandler._popen = _start  # type: ignore[method-assign]
    run.main(["--standalone", "--nproc-per-node", ranks, "-m", PROGRAM, *words])


class Forked:
    """What torchrun uses of Popen."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """Exit code, None while it runs."""
        if self.returncode is None:
            found, status = os.waitpid(self.pid, os.WNOHANG)
            self.returncode = os.waitstatus_to_exitcode(status) if found else None
        return self.returncode

    def wait(self, timeout: float) -> int:
        """Exit code.

        Raises:
            TimeoutExpired: it runs for more than `timeout` seconds.
        """
        until = time.monotonic() + timeout
        while (code := self.poll()) is None:
            if time.monotonic() > until:
                raise subprocess.TimeoutExpired(PROGRAM, timeout)
            time.sleep(0.01)
        return code


def _start(self: SubprocessHandler, args: tuple[str, ...], env: dict[str, str]) -> Any:
    """A rank, in a session of its own, without files and signal handlers of the agent."""
    pid = os.fork()
    if pid:
        return Forked(pid)
    code = 70
    try:
        os.setsid()
        os.closerange(3, 4096)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
            signal.signal(number, signal.SIG_DFL)
        os.environ.clear()
        os.environ.update(env)
        code = run_words(args[args.index(PROGRAM) + 1 :])
    finally:
        os._exit(code)
