"""Commands that need each other's results, several at a time, each in a separate process with its own log."""

from __future__ import annotations

import os
import shlex
import subprocess
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from jobs.common.processes.child import PROGRAM, Child
from jobs.common.text import duration_text
from pipeline.errors import RunError

POLL_S = 0.2
REPORT_S = 30.0
"""Seconds between two lines about what is running."""

TAIL_LINES = 15
"""Of a failed command's log in its error."""


@dataclass(frozen=True)
class Command:
    """A command without `vlajepa`, the file that it writes last, and such files of other commands that it needs.

    name    of its log
    """

    name: str
    words: tuple[str, ...]
    result: str
    needs: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """As a user would type it."""
        return shlex.join(("vlajepa", *self.words))


def command_words(template: str, **values: object) -> tuple[str, ...]:
    """The words of a template with its {values}, which may hold blanks themselves."""
    return tuple(word.format(**values) for word in template.split())


@dataclass(frozen=True)
class _Running:
    """A command in a process, and where it writes: `log` from byte `begin` on."""

    command: Command
    child: Child
    log: Path
    begin: int
    started: float

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.started


def run_commands(
    commands: Sequence[Command],
    out: Path,
    at_a_time: int,
    ended: Callable[[Command, float], None],
    program: Sequence[str] = PROGRAM,
) -> None:
    """Run the commands that are not complete, in order, each as soon as the results that it needs are complete.

    Each writes to `out/logs/NAME.txt`, and is complete when it ended with exit code 0 and its result exists:
    `out/logs/NAME.ended` marks this. The processor cores are divided among those at a time.

    Args:
        ended: called with each command that completed, and its seconds.
        program: takes the words.

    Raises:
        ValueError: commands need what none makes, or wait for each other.
        RunError: one failed, or was stopped. The others are stopped first (SIGTERM), as they are at Ctrl-C.
    """
    results = {command.result for command in commands if is_complete(command, out)}
    waiting = [command for command in commands if command.result not in results]
    running: list[_Running] = []
    next_report = time.monotonic() + REPORT_S
    try:
        while waiting or running:
            for each in [each for each in running if each.child.process.poll() is not None]:
                running.remove(each)
                _check(each, out)
                results.add(each.command.result)
                ended(each.command, each.seconds)
            startable = [command for command in waiting if results.issuperset(command.needs)]
            for command in startable[: at_a_time - len(running)]:
                waiting.remove(command)
                running.append(_start(command, out, at_a_time, program))
            if waiting and not running:
                raise ValueError(f"no command makes what these need: {', '.join(each.name for each in waiting)}")
            if time.monotonic() > next_report:
                next_report += REPORT_S
                _report(running, f"{len(commands) - len(waiting) - len(running)} of {len(commands)} ended")
            time.sleep(POLL_S)
    finally:
        for each in running:
            each.child.process.terminate()
        for each in running:
            each.child.wait()


def is_complete(command: Command, out: Path) -> bool:
    """Whether it ended, and its result is there."""
    return _mark(command, out).exists() and (out / command.result).exists()


def _report(running: Collection[_Running], done: str) -> None:
    for each in running:
        newest = (_lines(each) or [""])[-1]
        print(f"[{done}] {each.command.name}, {duration_text(each.seconds)}: {newest}", flush=True)


def _mark(command: Command, out: Path) -> Path:
    return out / "logs" / f"{command.name}.ended"


def _start(command: Command, out: Path, at_a_time: int, program: Sequence[str]) -> _Running:
    print(f"\n$ {command.text}", flush=True)
    log = out / "logs" / f"{command.name}.txt"
    log.parent.mkdir(parents=True, exist_ok=True)
    _mark(command, out).unlink(missing_ok=True)
    threads = max(1, len(os.sched_getaffinity(0)) // at_a_time)
    with open(log, "ab") as file:
        begin = file.tell()
        # In a separate group: Ctrl-C reaches this process alone, which sends SIGTERM.
        child = Child(
            command.words,
            program,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            env={"OMP_NUM_THREADS": str(threads), **os.environ},
            process_group=0,
        )
    return _Running(command, child, log, begin, time.monotonic())


def _check(ended: _Running, out: Path) -> None:
    """Mark a command as complete, or raise RunError."""
    code = ended.child.wait()
    if code:
        tail = "\n".join(_lines(ended)[-TAIL_LINES:]) or "(it printed nothing)"
        raise RunError(f"{ended.command.text} ended with exit code {code}; its log {ended.log} ends with:\n{tail}")
    if not (out / ended.command.result).exists():
        raise RunError(f"{ended.command.text} was stopped before its end; the same command continues")
    _mark(ended.command, out).touch()
    print(f"ended after {duration_text(ended.seconds)}: {ended.command.name}", flush=True)


def _lines(running: _Running) -> list[str]:
    """Lines that a command wrote, of a progress bar its newest state; from the last 64 KiB."""
    with open(running.log, "rb") as file:
        file.seek(max(running.begin, file.seek(0, os.SEEK_END) - (1 << 16)))
        text = file.read().decode(errors="replace")
    lines = [line.rstrip().rsplit("\r", 1)[-1] for line in text.split("\n")]
    return [line for line in lines if line.strip()]
