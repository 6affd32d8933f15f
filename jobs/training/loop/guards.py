"""What stops a run early: a loss that is not finite or diverges, too many corrupt samples, a signal."""

from __future__ import annotations

import contextlib
import json
import math
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from jobs.common.json_lines import append_rows, keep_rows, recover_rows
from jobs.common.processes.signals import handled
from jobs.training.loop.ranks import Ranks
from jobs.training.loop.step.micro_batches import MicroBatch
from pipeline.errors import BuildError, RunError
from pipeline.format.json.typed_json import from_json
from pipeline.format.text.printable import printable
from pipeline.storage.atomic import write_atomic

SMOOTHING = 0.98
"""Of the running mean of the loss: about the last fifty steps."""

Dump = Callable[[Mapping[str, float]], str]
"""Saves what a step was made of, beside its numbers; returns where, for the message."""

SIGNALS = (signal.SIGTERM, signal.SIGUSR1)
"""What schedulers send ahead of a preemption (Slurm: `--signal=USR1`)."""


class LossGuard:
    """Checks the loss of every step.

    Args:
        factor: of the running mean at which a loss has diverged; None: any finite loss will do.

    Attributes:
        loss_mean: the running mean, None before the first step. Part of a checkpoint.
    """

    def __init__(self, factor: float | None) -> None:
        self._factor = factor
        self.loss_mean: float | None = None

    def require_finite(self, numbers: Mapping[str, float], dump: Dump) -> None:
        """Raise RunError unless loss and gradients are finite; gradients that are not have moved no weight."""
        for name, value in (("loss", numbers["loss"]), ("gradient norm", numbers["grad_norm"])):
            if not math.isfinite(value):
                raise RunError(f"the {name} is {value} {dump(numbers)}")

    def require_converging(self, numbers: Mapping[str, float], dump: Dump) -> None:
        """Raise RunError if the loss is far above its running mean, else add it to that.

        A loss below zero has no such limit: there is none among ours.
        """
        loss, mean = numbers["loss"], self.loss_mean
        if mean is not None and self._factor is not None and loss > self._factor * mean:
            raise RunError(
                f"the loss is {loss:.4g}, more than trainer.divergence={self._factor:g} times its running mean of "
                f"{mean:.4g} {dump(numbers)}"
            )
        self.loss_mean = loss if mean is None else SMOOTHING * mean + (1 - SMOOTHING) * loss


class SkippedSamples:
    """Counts the samples that were left out as corrupt, and writes them to skipped.jsonl.

    Raises:
        BuildError: in `add`, when they are more than `limit` of the samples seen.
    """

    def __init__(self, out: Path, limit: float) -> None:
        self._path, self._limit = out / "skipped.jsonl", limit
        self._seen = self._count = 0

    def restore(self, seen: int, skipped: int, main: bool) -> None:
        """Continue from a checkpoint, or from nothing: later lines of the file will be written again."""
        self._seen, self._count = seen, skipped
        if main and self._path.exists():
            keep_rows(self._path, recover_rows(self._path)[:skipped])

    def add(self, step: int, batches: Sequence[MicroBatch], ranks: Ranks, anywhere: bool) -> None:
        """Count the samples of a step. `anywhere`: whether a rank has skipped some; then collective."""
        self._seen += sum(len(micro.batch.keys) for micro in batches) * ranks.world
        if not anywhere:
            return
        found = [(micro.build.name, s.key, s.reason) for micro in batches for s in micro.batch.skipped]
        everything = sorted(entry for rank in ranks.gather(found) for entry in rank)
        if ranks.main:
            rows = [{"step": step, "build": build, "key": key, "reason": reason} for build, key, reason in everything]
            append_rows(self._path, rows)
        self._count += len(everything)
        if self._count > max(1, self._limit * self._seen):
            raise BuildError(
                f"{self._count} of {self._seen} samples are corrupt, more than trainer.max_skipped_share="
                f"{self._limit:g}; {self._path} lists them. The last: {everything[-1][2]}"
            )

    def numbers(self) -> dict[str, float]:
        """For the metrics: how many so far, if any."""
        return {"skipped": self._count} if self._count else {}

    def progress(self) -> dict[str, int]:
        """For a checkpoint."""
        return {"samples_seen": self._seen, "samples_skipped": self._count}


@dataclass(frozen=True)
class Progress:
    """What a checkpoint says of the run besides its weights."""

    loss_mean: float | None
    samples_seen: int
    samples_skipped: int


def progress_of(value: object, checkpoint: Path) -> Progress:
    """The progress in a checkpoint's state. Raises BuildError: no run wrote it, as one that was imported."""
    try:
        found = from_json(Progress, value, "progress")
        if not 0 <= found.samples_skipped <= found.samples_seen:
            raise ValueError(f"progress has {found.samples_skipped} of {found.samples_seen} samples skipped")
    except ValueError as error:
        raise BuildError(
            f"{checkpoint} was not written by vlajepa train ({printable(error)}): start from it by init_from=, and "
            "move it out of this folder"
        ) from error
    return found


class StopSignal:
    """Notes SIGTERM and SIGUSR1 instead of dying of them, while `noted` is open. `name`: of the one that came."""

    name = ""

    def noted(self) -> contextlib.AbstractContextManager[None]:
        # Ray runs the loop in a thread, where Python takes no handlers: there Ray itself ends the workers.
        return handled(SIGNALS, self._note)

    def _note(self, number: int, _: FrameType | None) -> None:
        self.name = signal.Signals(number).name


def dump_keys(out: Path, step: int, batches: Sequence[MicroBatch], ranks: Ranks, numbers: Mapping[str, float]) -> str:
    """Write the keys of all ranks' samples of a step to stopped_batch.json. Called on all ranks; text for the error."""
    own: dict[str, list[str]] = {}
    for micro in batches:
        own.setdefault(micro.build.name, []).extend(micro.batch.keys)
    keys = ranks.gather(own)
    path = out / "stopped_batch.json"
    if ranks.main:
        shown = {name: value if math.isfinite(value) else str(value) for name, value in numbers.items()}
        content = {"step": step, "keys_by_rank": keys, "numbers": shown}
        write_atomic(path, (json.dumps(content, indent=2) + "\n").encode())
    everything = [key for rank in keys for names in rank.values() for key in names]
    listed = ", ".join(everything[:8]) + (f" and {len(everything) - 8} more" if len(everything) > 8 else "")
    return f"at step {step}; samples of the batch: {listed}; all are in {path}"
