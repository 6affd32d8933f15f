"""One episode of a shard: opened, retried where an error may pass, left out with the reason.

A reader may also hang or kill its whole process. An `EpisodeWatch` outside the process is therefore notified of the
episode in work; the next attempt of the task leaves out the episodes it blames.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Protocol, TypeVar

from pipeline.errors import EpisodeError, RunError
from pipeline.format.episode import Episode
from pipeline.planning.recipe import Recipe
from pipeline.samples.windows import count_windows
from pipeline.sources.base import EpisodeRef, LedgerEntry, Source
from pipeline.sources.files import file_identities
from pipeline.storage.full_disk import naming_folder
from pipeline.storage.store import Store

MAY_PASS = ("missing-file", "undecodable", "bad-table", "bad-record", "changed-file")
"""Reasons that a temporary fault of a file system also gives, or (the last) a new mode or hard link of a file; such an
episode is read again before it is left out."""

PAUSES = (0.1, 1.0)
"""Seconds before the second and the third attempt."""

_T = TypeVar("_T")


class EpisodeWatch(Protocol):
    """Knows which episode a task is at, wherever the task runs."""

    def blamed(self) -> Mapping[str, tuple[str, str]]:
        """Episodes that earlier attempts of this task did not survive: id -> (reason, detail)."""
        ...

    def reading(self, episode: str) -> AbstractContextManager[None]:
        """Around the work on one episode."""
        ...


class _Unwatched:
    def blamed(self) -> Mapping[str, tuple[str, str]]:
        return {}

    def reading(self, episode: str) -> AbstractContextManager[None]:
        return contextlib.nullcontext()


UNWATCHED: EpisodeWatch = _Unwatched()
"""For tasks that run in the caller's own process."""


class EpisodeLog:
    """Works through the episodes of a task and keeps what had to be left out, in `left_out`.

    Args:
        stage: "inputs" or "targets".
    """

    def __init__(self, recipe: Recipe, stage: str, watch: EpisodeWatch) -> None:
        self.left_out: list[LedgerEntry] = []
        self._recipe, self._stage, self._watch = recipe, stage, watch
        self._blamed = watch.blamed()

    def attempt(self, ref: EpisodeRef, work: Callable[[], _T]) -> _T | None:
        """The result of `work`, or None when the episode has to be left out.

        Raises:
            RunError: an error that is not the episode's; the message names the episode.
        """
        if ref.id in self._blamed:
            self._leave_out(ref, EpisodeError(*self._blamed[ref.id]))
            return None
        for pause in (*PAUSES, None):
            try:
                with self._watch.reading(ref.id):
                    return work()
            except EpisodeError as error:
                if pause is None or error.reason not in MAY_PASS:
                    self._leave_out(ref, error)
                    return None
                time.sleep(pause)
            except RunError:
                raise
            except Exception as error:
                name = type(error).__name__
                raise RunError(f"{self._stage} job, episode {ref.id}: unexpected {name}: {error}") from error
        return None

    def _leave_out(self, ref: EpisodeRef, error: EpisodeError) -> None:
        recipe, lost = self._recipe, None
        if ref.num_frames is not None and not recipe.window.skip_idle:
            lost = count_windows(ref.num_frames, recipe.window, recipe.sizes.action > 0)
        self.left_out.append(LedgerEntry(ref.id, ref.split, self._stage, error.reason, error.detail, lost))


@contextlib.contextmanager
def opened(source: Source, ref: EpisodeRef) -> Iterator[Episode]:
    """An open episode whose files must be the same at the end as at the start.

    Raises:
        EpisodeError: it cannot be opened, or "changed-file".
    """
    before = file_identities(source.root, ref) if ref.files else ()
    with source.open(ref) as episode:
        yield episode
    if ref.files and file_identities(source.root, ref) != before:
        names = ", ".join(path for path, _ in ref.files)
        raise EpisodeError("changed-file", f"{names} of {source.root} changed while it was read")


def storing(store: Store) -> AbstractContextManager[None]:
    """Around the writing of a shard: a store that cannot be written is no fault of an episode. Raises RunError."""
    fix = "free space there (or repair the folder), then run the same command again: what is finished is kept"
    return naming_folder(store.where, fix, errors=None)
