"""Checkpoints of a run, written while training goes on, and which of them are kept."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Self

from safetensors import SafetensorError

from jobs.training.loop.ranks import Ranks
from jobs.training.loop.settings import TrainerSettings
from jobs.training.loop.step.optimiser import Optimiser
from model.checkpoint.checkpoint import (
    checkpoint_tensors,
    copy_tensors,
    finish_checkpoint,
    prune_checkpoints,
    remove_unfinished,
    temporary_checkpoint,
    write_checkpoint,
)
from model.checkpoint.sharded_checkpoint import start_sharded
from model.checkpoint.sharding import is_sharded
from model.vla_jepa import VLAJEPA
from pipeline.errors import RunError


class CheckpointWriter:
    """Use as a context manager: at its end everything has been written.

    Args:
        folder: of the checkpoints; the same for all ranks.
        settings: `keep` and `keep_every`, see `model.checkpoint.prune_checkpoints`; with `async_save` a checkpoint is
            written in a thread, from a copy in the host's memory.
    """

    def __init__(self, folder: Path, ranks: Ranks, settings: TrainerSettings) -> None:
        self._folder, self._ranks, self._settings = folder, ranks, settings
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="save")
        self._under_way: Future[None] | None = None

    def __enter__(self) -> Self:
        if self._ranks.main:  # what a run that was killed while it saved did not come to
            prune_checkpoints(self._folder, self._settings.keep, self._settings.keep_every)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with self._pool, contextlib.suppress(*([RunError] if kind else [])):
            self.wait()

    def save(self, step: int, model: VLAJEPA, optimiser: Optimiser, state: Mapping[str, Any]) -> None:
        """Take a copy of everything, then write it. Called on all ranks.

        Raises:
            RunError: this checkpoint, or with `async_save` the one before, could not be written.
        """
        self.wait()
        if is_sharded(model):
            work = self._start_sharded(step, model, optimiser, state)
        elif self._ranks.main:
            tensors = copy_tensors(model, optimiser.masters, optimiser.adamw, optimiser.averages.tensors)
            work = partial(self._write_whole, step, tensors, dict(state))
        else:
            return
        self._under_way = self._pool.submit(_explained, work, self._folder)
        if not self._settings.async_save:
            self.wait()

    def wait(self) -> None:
        """Return when the last checkpoint has been written.

        Raises:
            RunError: it could not be.
        """
        pending, self._under_way = self._under_way, None
        if pending is not None:
            pending.result()

    def _write_whole(self, step: int, tensors: Any, state: Mapping[str, Any]) -> None:
        write_checkpoint(self._folder, step, tensors, state)
        prune_checkpoints(self._folder, self._settings.keep, self._settings.keep_every)

    def _start_sharded(
        self, step: int, model: VLAJEPA, optimiser: Optimiser, state: Mapping[str, Any]
    ) -> Callable[[], None]:
        temporary = temporary_checkpoint(self._folder, step)
        if self._ranks.main:
            remove_unfinished(self._folder)
            temporary.mkdir(parents=True)
        self._ranks.barrier()
        tensors = checkpoint_tensors(model, optimiser.masters, optimiser.adamw, optimiser.averages.tensors)
        wait = start_sharded(temporary, tensors, self._ranks.save_group)

        def work() -> None:
            wait()
            if self._ranks.main:
                finish_checkpoint(temporary, self._folder, step, state)
                prune_checkpoints(self._folder, self._settings.keep, self._settings.keep_every)

        return work


def _explained(work: Callable[[], None], folder: Path) -> None:
    try:
        work()
    except (OSError, SafetensorError) as error:
        raise RunError(f"a checkpoint could not be written to {folder}: {error}; the one before is whole") from error
