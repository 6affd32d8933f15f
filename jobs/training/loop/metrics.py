"""Metrics of a run: a progress bar, TensorBoard, metrics.jsonl with an object a step, Weights & Biases if asked."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import sys
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Self

from jobs.common.json_lines import append_rows, keep_rows, recover_rows
from jobs.common.progress import progress_bar
from jobs.training.loop.settings import TrainerSettings
from pipeline.errors import SettingsError

if TYPE_CHECKING:
    from jobs.training.held_out.result import HeldOut


def open_tensorboard(folder: Path, purge_step: int | None) -> Any:
    """A `SummaryWriter`, without TensorFlow.

    TensorBoard loads TensorFlow wherever it is installed, and TensorFlow takes hold of every GPU; the module `notf` is
    TensorBoard's own switch against that.
    """
    sys.modules.setdefault("tensorboard.compat.notf", ModuleType("tensorboard.compat.notf"))
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(folder), purge_step=purge_step)


class MetricsLog:
    """Use as a context manager. Rows of steps after `first` that an interrupted run left behind are dropped.

    Args:
        out: the run's folder.
        first: the step the run continues from.
        settings: `last_step`, `log_every` and `wandb` are used.
        state: configuration of the run for Weights & Biases.
        main: whether this rank is the one that writes; the others note nothing.
    """

    def __init__(
        self, out: Path, first: int, settings: TrainerSettings, state: Mapping[str, Any], main: bool = True
    ) -> None:
        self._out, self._first, self._settings, self._state, self._main = out, first, settings, state, main
        self._path = out / "metrics.jsonl"
        self._wandb: Any = None
        self._open = contextlib.ExitStack()

    def __enter__(self) -> Self:
        if not self._main:
            return self
        kept = [row for row in recover_rows(self._path) if row["step"] <= self._first]
        self._evaluated = {row["step"] for row in kept if "held_out" in row}
        keep_rows(self._path, kept)
        with contextlib.ExitStack() as stack:
            purge_step = self._first + 1 if self._first else None
            self._writer = stack.enter_context(open_tensorboard(self._out / "tensorboard", purge_step))
            if self._settings.wandb is not None:
                self._wandb = open_wandb(self._settings.wandb, self._out, self._state)
                stack.push(lambda kind, *_: self._wandb.finish(exit_code=0 if kind is None else 1))
            total = self._settings.last_step
            bar = progress_bar(total=total, initial=self._first, unit="step", desc="train", smoothing=0.05)
            self._bar = stack.enter_context(bar)
            self._open = stack.pop_all()
        return self

    def __exit__(self, *error: Any) -> None:
        self._open.__exit__(*error)

    def step(self, step: int, numbers: Mapping[str, float]) -> None:
        """Record the numbers of one step."""
        if not self._main:
            return
        self._bar.update(1)
        if step % self._settings.log_every and step != self._settings.last_step:
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
        values = {f"held_out/{name}/{key}": value for name, r in results.items() for key, value in r.scalars().items()}
        self._scalars(values, step)

    def _scalars(self, values: Mapping[str, float], step: int) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)
        if self._wandb is not None:
            self._wandb.log(dict(values), step=step)


def import_wandb(project: str) -> Any:
    """The package. Raises SettingsError if it is not installed."""
    try:
        return importlib.import_module("wandb")
    except ImportError as error:
        raise SettingsError(
            f"trainer.wandb={project} needs the package wandb, which is not installed: pip install wandb"
        ) from error


def open_wandb(project: str, out: Path, settings: Mapping[str, Any]) -> Any:
    """A run of Weights & Biases that the same folder continues.

    Raises:
        SettingsError: the package is not installed.
    """
    wandb = import_wandb(project)
    name = out.resolve().name
    identity = hashlib.sha256(str(out.resolve()).encode()).hexdigest()[:16]
    return wandb.init(project=project, name=name, id=identity, resume="allow", dir=str(out), config=dict(settings))
