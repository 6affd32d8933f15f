"""What a training left in its folder, read when it is asked for: not every rank sees the files at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from jobs.training.held_out.result import HeldOut
from model.checkpoint.folders import list_checkpoints
from pipeline.errors import RunError
from pipeline.format.json.strict_json import parse
from pipeline.format.json.typed_json import from_json

HELD_OUT_FILE, ENDED_FILE = "held_out.json", "ended.json"
"""What the end of a run writes; a run that goes on has neither."""


@dataclass(frozen=True)
class TrainedRun:
    """A run that has ended. What is read raises RunError if its file is missing or is not what a training writes."""

    out: Path

    @property
    def reason(self) -> str:
        """Why it ended: "finished", "stop_after", or the signal that stopped it."""
        return str(self._ended["reason"])

    @property
    def step(self) -> int:
        """The last one."""
        return int(self._ended["step"])

    @cached_property
    def held_out(self) -> Mapping[str, HeldOut]:
        """Numbers on the validation split of each build that has one, by its name."""
        path = self.out / HELD_OUT_FILE
        try:
            return {name: from_json(HeldOut, numbers, name) for name, numbers in _object(path).items()}
        except ValueError as error:
            raise RunError(f"{path} is not what a training writes: {error}") from error

    @property
    def checkpoint(self) -> Path:
        """Folder of the newest checkpoint."""
        found = list_checkpoints(self.out / "checkpoints")
        if not found:
            raise RunError(f"{self.out} holds no checkpoint; the same vlajepa train goes on with the run")
        return found[-1]

    @cached_property
    def _ended(self) -> dict[str, Any]:
        path = self.out / ENDED_FILE
        content = _object(path)
        if not isinstance(content.get("reason"), str) or type(content.get("step")) is not int:
            raise RunError(f"{path} is not what a training writes: it needs a reason and a step")
        return content


def _object(path: Path) -> dict[str, Any]:
    try:
        content = parse(path.read_bytes())
    except (OSError, ValueError) as error:
        raise RunError(f"{path} cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise RunError(f"{path} cannot be read: it holds no JSON object")
    return content
