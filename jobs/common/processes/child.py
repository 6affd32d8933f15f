"""Commands that a command starts: they end when it does, however it ends.

The parent keeps one end of a pipe, which closes with it, also when it is killed. The child then gets SIGTERM, and ends
what it started itself.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from typing import Any

_VARIABLE = "VLAJEPA_PARENT_PIPE"
PROGRAM = (sys.executable, "-m", "jobs.cli")


class Child:
    """A command of this program in a process. Give its words, `program` in place of `vlajepa`, and options of Popen."""

    def __init__(self, words: Sequence[str], program: Sequence[str] = PROGRAM, **options: Any) -> None:
        read, self._kept = os.pipe()
        environment = {**options.pop("env", os.environ), _VARIABLE: str(read)}
        try:
            self.process = subprocess.Popen([*program, *words], env=environment, pass_fds=(read,), **options)
        finally:
            os.close(read)

    def wait(self) -> int:
        """Its exit code. If this is interrupted, it is ended first."""
        try:
            return self.process.wait()
        except BaseException:
            self.process.terminate()
            raise
        finally:
            self.process.wait()
            self.close()

    def close(self) -> None:
        """After its end."""
        if self._kept >= 0:
            os.close(self._kept)
            self._kept = -1


def end_with_parent() -> None:
    """In a child: SIGTERM to this process when its parent is gone. Nothing in a process that was not started so."""
    pipe = os.environ.pop(_VARIABLE, "")
    if not pipe:
        return

    def watch() -> None:
        os.read(int(pipe), 1)
        os.kill(os.getpid(), signal.SIGTERM)

    os.set_inheritable(int(pipe), False)
    threading.Thread(target=watch, daemon=True, name="parent").start()
