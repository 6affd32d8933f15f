"""Commands that need each other's results, several at a time, each in a process and with a log of its own."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from jobs.common.signals import ended_like_interrupted
from jobs.common.text import duration_text
from pipeline.errors import RunError

POLL_S = 0.2
NEWS_S = 30.0
"""Seconds between two lines about what is running."""

PROGRAM = (sys.executable, "-m", "jobs.cli")

TAIL_LINES = 15
"""Of a failed command's log in its error."""


@dataclass(frozen=True)
class Command:
    """A command and what says that it came to its end.

    name    of its log
    words   without `vlajepa`
    result  file below the common folder, written last
    needs   results of other commands that it reads
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
    """A process, and where it writes: `log` from byte `begin` on."""

    command: Command
    process: subprocess.Popen[bytes]
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
    """Run what has not come to its end yet, earlier ones first, as soon as what makes the results it needs has.

    Each writes to `out/logs/NAME.txt`, and has come to its end when it ended with exit code 0 and its result is there:
    `out/logs/NAME.ended` says so. The processor cores are divided among those at a time.

    Args:
        ended: called with each command that came to its end, and its seconds.
        program: takes the words.

    Raises:
        ValueError: a command needs what no command makes, or what waits for itself.
        RunError: one failed, or was stopped. The others are asked to end first (SIGTERM), as they are at Ctrl-C.
    """
    _check_needs(commands)
    ready = {command.result for command in commands if _has_ended(command, out)}
    waiting = [command for command in commands if command.result not in ready]
    running: list[_Running] = []
    news = _News()
    with ended_like_interrupted():
        try:
            while waiting or running:
                for each in [each for each in running if each.process.poll() is not None]:
                    running.remove(each)
                    _check(each, out)
                    _mark(each.command, out).touch()
                    ready.add(each.command.result)
                    print(f"ended after {duration_text(each.seconds)}: {each.command.name}", flush=True)
                    ended(each.command, each.seconds)
                for command in _startable(waiting, ready, at_a_time - len(running)):
                    waiting.remove(command)
                    running.append(_start(command, out, at_a_time, program))
                if waiting and not running:
                    raise ValueError(f"these wait for each other: {', '.join(each.name for each in waiting)}")
                news.tell(running, f"{len(commands) - len(waiting) - len(running)} of {len(commands)} ended")
                time.sleep(POLL_S)
        finally:
            _end(running)


class _News:
    """Now and then a line about each running command."""

    def __init__(self) -> None:
        self._next = time.monotonic() + NEWS_S

    def tell(self, running: Collection[_Running], done: str) -> None:
        if time.monotonic() < self._next:
            return
        self._next += NEWS_S
        for each in running:
            newest = (_lines(each) or [""])[-1]
            print(f"[{done}] {each.command.name}, {duration_text(each.seconds)}: {newest}", flush=True)


def _check_needs(commands: Sequence[Command]) -> None:
    made = {command.result for command in commands}
    for command in commands:
        if not made.issuperset(command.needs):
            raise ValueError(f"{command.name} needs {sorted({*command.needs} - made)}, which no command makes")


def _startable(waiting: Sequence[Command], ready: Collection[str], room: int) -> list[Command]:
    return [command for command in waiting if all(need in ready for need in command.needs)][:room]


def _has_ended(command: Command, out: Path) -> bool:
    """A result alone does not say so: a command that failed, or was killed, may have more to do after it."""
    return _mark(command, out).exists() and (out / command.result).exists()


def _mark(command: Command, out: Path) -> Path:
    return out / "logs" / f"{command.name}.ended"


def _start(command: Command, out: Path, at_a_time: int, program: Sequence[str]) -> _Running:
    print(f"\n$ {command.text}", flush=True)
    log = out / "logs" / f"{command.name}.txt"
    log.parent.mkdir(parents=True, exist_ok=True)
    _mark(command, out).unlink(missing_ok=True)
    with open(log, "ab") as file:
        begin = file.tell()
        # In a group of its own: Ctrl-C comes to this process alone, which passes on SIGTERM.
        process = subprocess.Popen(
            [*program, *command.words],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            env=_environment(os.environ, at_a_time),
            process_group=0,
        )
    return _Running(command, process, log, begin, time.monotonic())


def _environment(environment: Mapping[str, str], at_a_time: int) -> dict[str, str]:
    """Neighbours that each take all cores would wait for each other."""
    threads = max(1, len(os.sched_getaffinity(0)) // at_a_time)
    return {"OMP_NUM_THREADS": str(threads), **environment}


def _check(ended: _Running, out: Path) -> None:
    code = ended.process.returncode
    if code:
        tail = "\n".join(_lines(ended)[-TAIL_LINES:]) or "(it said nothing)"
        raise RunError(f"{ended.command.text} ended with exit code {code}; its log {ended.log} ends with:\n{tail}")
    if not (out / ended.command.result).exists():
        raise RunError(f"{ended.command.text} was stopped before its end; the same command again goes on")


def _end(running: Collection[_Running]) -> None:
    for each in running:
        each.process.terminate()
    for each in running:
        each.process.wait()


def _lines(running: _Running) -> list[str]:
    """Lines that a command wrote, of a progress bar its newest state; from the last 64 KiB."""
    with open(running.log, "rb") as file:
        file.seek(max(running.begin, file.seek(0, os.SEEK_END) - (1 << 16)))
        text = file.read().decode(errors="replace")
    lines = [line.rstrip().rsplit("\r", 1)[-1] for line in text.split("\n")]
    return [line for line in lines if line.strip()]
