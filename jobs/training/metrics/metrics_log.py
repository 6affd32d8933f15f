"""Metrics of a run: a progress bar, metrics.jsonl with an object a step, and what `sinks` names."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from jobs.common.json_lines import append_rows, keep_rows, recover_rows
from jobs.common.progress import progress_bar
from jobs.training.metrics.sink_settings import SinkSettings
from jobs.training.metrics.sinks import open_sinks

if TYPE_CHECKING:
    from jobs.training.held_out.result import HeldOut


class MetricsLog:
    """Use as a context manager. Rows of steps after `first` that an interrupted run left behind are dropped.

    Args:
        out: the run's folder.
        first: the step the run continues from.
        steps: the step that the run ends at, and steps between two rows.
        sinks: where the numbers go besides.
        state: configuration of the run for the sinks.
        main: whether this rank is the one that writes; the others note nothing.
    """

    def __init__(
        self,
        out: Path,
        first: int,
        steps: tuple[int, int],
        sinks: SinkSettings,
        state: Mapping[str, Any],
        main: bool = True,
    ) -> None:
        self._out, self._first, self._state, self._main = out, first, state, main
        (self._last, self._every), self._settings = steps, sinks
        self._path = out / "metrics.jsonl"
        self._open = contextlib.ExitStack()

    def __enter__(self) -> Self:
        if not self._main:
            return self
        kept = [row for row in recover_rows(self._path) if row["step"] <= self._first]
        self._evaluated = {row["step"] for row in kept if "held_out" in row}
        keep_rows(self._path, kept)
        with contextlib.ExitStack() as stack:
            self._sinks = stack.enter_context(open_sinks(self._settings, self._out, self._first, self._state))
            bar = progress_bar(total=self._last, initial=self._first, unit="step", desc="train", smoothing=0.05)
            self._bar = stack.enter_context(bar)
            self._open = stack.pop_all()
        return self

    def __exit__(self, *error: Any) -> None:
        self._open.__exit__(*error)

    def due(self, step: int) -> bool:
        """Whether a step has a row."""
        return step % self._every == 0 or step == self._last

    def step(self, step: int, numbers: Mapping[str, float]) -> None:
        """A step is done. Record its numbers, if it has a row."""
        if not self._main:
            return
        self._bar.update(1)
        if not self.due(step):
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
        for sink in self._sinks:
            sink.scalars(values, step)
