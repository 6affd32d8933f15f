"""A time limit on reading an episode in the caller's own process, for the few that are looked into before a build."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

from pipeline.errors import EpisodeError

SAMPLE_LIMIT_S = 60.0
"""Seconds for one episode that a plan looks into; one that takes longer is passed over."""

_T = TypeVar("_T")


def within(seconds: float, episode: str, work: Callable[[], _T]) -> _T:
    """The result of `work`, run in a daemon thread, which is abandoned after the time limit.

    A reader that hangs with the interpreter locked is beyond this; the workers of a run are watched from outside.

    Raises:
        EpisodeError: "timed-out"; besides what `work` raises.
    """
    found: list[_T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            found.append(work())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    if errors:
        raise errors[0]
    if not found:
        raise EpisodeError("timed-out", f"episode {episode} was not read within {seconds:g} seconds")
    return found[0]
