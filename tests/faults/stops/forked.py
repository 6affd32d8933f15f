"""A process that has imported everything, and forks one child a command: `python -m tests.faults.stops.forked MODULE…`.

A command starts in a fraction of a second instead of ten. Requests come as JSON lines on standard input, answers go to
standard output: {"words", "environment", "log"} -> the child's id (words of `vlajepa`, or "call:module:function" and
its arguments); {"ended": id} -> its exit code, or 1000 while it runs.
"""

from __future__ import annotations

import importlib
import json
import os
import pkgutil
import sys
import traceback
from collections.abc import Sequence
from types import ModuleType
from typing import Any

MODULES = (
    "jobs.audit.audit",
    "jobs.cli",
    "jobs.preprocess.drop",
    "jobs.preprocess.extend",
    "jobs.preprocess.merge",
    "jobs.training.export_checkpoint",
    "jobs.training.import_checkpoint",
    "jobs.training.run",
    "jobs.training.settings",
    "jobs.training.train",
    "jobs.preprocess.settings",
    "jobs.training.workers",
    "ray.train.torch",
    "torch.distributed.run",
    "torch.utils.tensorboard",
)
"""What all commands import."""

RUNS = 1000
"""In place of the exit code of a child that has not ended."""


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a module prints when it is imported is no answer
    sys.modules.setdefault("tensorboard.compat.notf", ModuleType("tensorboard.compat.notf"))  # as the trainer does
    for name in sys.argv[1:]:
        importlib.import_module(name)
    for line in sys.stdin:
        request = json.loads(line)
        answers.write(f"{_ended(request) if 'ended' in request else _start(request)}\n")
        answers.flush()


def _start(request: dict[str, Any]) -> int:
    pid = os.fork()
    if pid:
        return pid
    code = 70
    try:
        os.setsid()
        log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.environ.update(request["environment"])
        code = run_words(request["words"])
    finally:
        os._exit(code)


def run_words(words: Sequence[str]) -> int:
    """Exit code of `vlajepa WORDS`, or of a function."""
    kind, _, place = words[0].partition(":")
    try:
        if kind == "call":
            pkgutil.resolve_name(place)(*words[1:])
        else:
            importlib.import_module("jobs.cli").main([*words])
        return 0
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 1 if end.code else 0
    except BaseException:
        traceback.print_exc()
        return 71
    finally:
        sys.stdout.flush()
        sys.stderr.flush()


def _ended(request: dict[str, Any]) -> int:
    found, status = os.waitpid(request["ended"], os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if found else RUNS


if __name__ == "__main__":
    main()
