"""Metrics of a run: a progress bar, TensorBoard, and metrics.jsonl with one object a step."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from types import ModuleType, TracebackType
from typing import TYPE_CHECKING, Any, Self

from jobs.progress import progress_bar
from pipeline.shards import write_atomic

if TYPE_CHECKING:
    from jobs.training import HeldOut


def open_tensorboard(folder: Path, purge_step: int | None) -> Any:
    """A `SummaryWriter`, without TensorFlow.

    TensorBoard loads TensorFlow wherever it is installed, and TensorFlow takes hold of every GPU; the module `notf` is
    TensorBoard's own way to be told not to.
    """
    sys.modules.setdefault("tensorboard.compat.notf", ModuleType("tensorboard.compat.notf"))
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(folder), purge_step=purge_step)


class MetricsLog:
    """Use as a context manager. Rows of steps after `first` that an interrupted run left behind are dropped.

    Args:
        out: the run's folder.
        first: the step the run continues from.
        steps: the step it will end at.
        every: steps between rows and TensorBoard points.
    """

    def __init__(self, out: Path, first: int, steps: int, every: int) -> None:
        self._path = out / "metrics.jsonl"
        self._first = first
        self._steps = steps
        self._every = every
        self._folder = out / "tensorboard"

    def __enter__(self) -> Self:
        kept = [line for line in _lines(self._path) if json.loads(line)["step"] <= self._first]
        self._evaluated = {row["step"] for row in map(json.loads, kept) if "held_out" in row}
        write_atomic(self._path, "".join(line + "\n" for line in kept).encode())
        self._file = open(self._path, "a")
        self._writer = open_tensorboard(self._folder, self._first + 1 if self._first else None)
        self._bar = progress_bar(total=self._steps, initial=self._first, unit="step", desc="train", smoothing=0.05)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.close()
        self._writer.close()
        self._file.close()

    def step(self, step: int, numbers: Mapping[str, float]) -> None:
        """Record the numbers of one step."""
        self._bar.update(1)
        if step % self._every and step != self._steps:
            return
        self._bar.set_postfix(
            loss=f"{numbers['loss']:.4f}",
            samples_s=f"{numbers['samples_per_s']:.1f}",
            wait=f"{numbers['data_wait_share']:.1%}",
        )
        self._write({"step": step, **numbers})
        for name, value in numbers.items():
            self._writer.add_scalar(f"train/{name}", value, step)

    def held_out(self, step: int, results: Mapping[str, HeldOut]) -> None:
        """Record held-out numbers by build, once a step."""
        if step in self._evaluated:
            return
        content: dict[str, Any] = {name: asdict(result) for name, result in results.items()}
        self._write({"step": step, "held_out": content})
        for name, result in results.items():
            for field in ("model", "nothing_changes", "shuffled", "action"):
                value = getattr(result, field)
                if value is not None:
                    self._writer.add_scalar(f"held_out/{name}/{field}", value, step)

    def _write(self, row: Mapping[str, Any]) -> None:
        self._file.write(json.dumps(row, allow_nan=False) + "\n")
        self._file.flush()


def _lines(path: Path) -> list[str]:
    """Whole lines of a file; a line torn by a sudden end is dropped."""
    if not path.exists():
        return []
    return [line for line in path.read_text().split("\n")[:-1] if line]
