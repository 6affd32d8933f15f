"""Metrics of a run: a progress bar, TensorBoard, metrics.jsonl with an object a step, Weights & Biases if asked."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from types import ModuleType, TracebackType
from typing import TYPE_CHECKING, Any, Self

from jobs.common.json_lines import append_rows, keep_rows, read_rows
from jobs.common.progress import progress_bar
from pipeline.errors import SettingsError

if TYPE_CHECKING:
    from jobs.training.loop.held_out import HeldOut


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
        main: whether this rank is the one that writes; the others note nothing.
        wandb: project of Weights & Biases, None: none.
        settings: what Weights & Biases is told of the run.
    """

    def __init__(
        self,
        out: Path,
        first: int,
        steps: int,
        every: int,
        main: bool = True,
        wandb: str | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        self._out, self._main, self._project, self._settings = out, main, wandb, settings
        self._wandb: Any = None
        self._path = out / "metrics.jsonl"
        self._first = first
        self._steps = steps
        self._every = every
        self._folder = out / "tensorboard"

    def __enter__(self) -> Self:
        if not self._main:
            return self
        rows = [row for whole, row in read_rows(self._path) if whole and row is not None]
        kept = [row for row in rows if row["step"] <= self._first]
        self._evaluated = {row["step"] for row in kept if "held_out" in row}
        keep_rows(self._path, kept)
        self._writer = open_tensorboard(self._folder, self._first + 1 if self._first else None)
        if self._project is not None:
            self._wandb = open_wandb(self._project, self._out, self._settings or {})
        self._bar = progress_bar(total=self._steps, initial=self._first, unit="step", desc="train", smoothing=0.05)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._main:
            self._bar.close()
            self._writer.close()
        if self._wandb is not None:
            self._wandb.finish(exit_code=0 if kind is None else 1)

    def step(self, step: int, numbers: Mapping[str, float]) -> None:
        """Record the numbers of one step."""
        if not self._main:
            return
        self._bar.update(1)
        if step % self._every and step != self._steps:
            return
        self._bar.set_postfix(
            loss=f"{numbers['loss']:.4f}",
            samples_s=f"{numbers['samples_per_s']:.1f}",
            wait=f"{numbers['data_wait_share']:.1%}",
        )
        append_rows(self._path, [{"step": step, **numbers}])
        self._scalars({f"train/{name}": value for name, value in numbers.items()}, step)

    def held_out(self, step: int, results: Mapping[str, HeldOut]) -> None:
        """Record held-out numbers by build, once a step; those of single episodes go to held_out.json alone."""
        if not self._main or step in self._evaluated:
            return
        content = {name: asdict(replace(result, by_episode={})) for name, result in results.items()}
        for numbers in content.values():
            del numbers["by_episode"]
        append_rows(self._path, [{"step": step, "held_out": content}])
        shown = ("model", "nothing_changes", "shuffled", "reliance", "action", "action_shuffled", "sight")
        values = {f"held_out/{n}/{field}": getattr(result, field) for n, result in results.items() for field in shown}
        self._scalars({name: value for name, value in values.items() if value is not None}, step)

    def _scalars(self, values: Mapping[str, float], step: int) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)
        if self._wandb is not None:
            self._wandb.log(dict(values), step=step)


def open_wandb(project: str, out: Path, settings: Mapping[str, Any]) -> Any:
    """A run of Weights & Biases that the same folder continues.

    Raises:
        SettingsError: the package is not installed.
    """
    try:
        import wandb
    except ImportError as error:
        raise SettingsError(
            f"trainer.wandb={project} needs the package wandb, which is not installed: pip install wandb"
        ) from error
    name = out.resolve().name
    identity = hashlib.sha256(str(out.resolve()).encode()).hexdigest()[:16]
    return wandb.init(project=project, name=name, id=identity, resume="allow", dir=str(out), config=dict(settings))
