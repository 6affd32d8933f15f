"""Commands of a demonstration that are recorded, in place of being run."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

from jobs.demos.command_runner import Command
from pipeline.errors import RunError


class RecordedCommands:
    """Stands for `run_commands`: records the commands in order, and writes the result of each.

    Args:
        content: of a command's result, as JSON.
        stop_at: name of a command that is stopped.
    """

    def __init__(self, content: Callable[[Command], object], stop_at: str = "") -> None:
        self.ran: list[Command] = []
        self._content, self._stop_at = content, stop_at

    def run(
        self, wanted: Sequence[Command], out: Path, at_a_time: int, ended: Callable[[Command, float], None]
    ) -> None:
        for command in wanted:
            if (out / command.result).exists():
                continue
            if command.name == self._stop_at:
                raise RunError(f"{command.text} was stopped before its end")
            assert all((out / need).exists() for need in command.needs)
            self.ran.append(command)
            path = out / command.result
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(self._content(command)))
            (out / "logs").mkdir(exist_ok=True)
            (out / "logs" / f"{command.name}.ended").touch()
            ended(command, 2.5)

    @property
    def names(self) -> list[str]:
        return [command.name for command in self.ran]
