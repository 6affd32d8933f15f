"""Python's garbage collector at chosen steps, the same on all ranks, rather than whenever enough objects were made.

A collection walks through every object of the process, which for a large model takes as long as a step, and ranks that
collect at different times wait for each other each time.
"""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Callable, Iterator

YOUNG, WHOLE_EVERY = 1, 10
"""Generations 0 and 1, and at each tenth time all: what older collections have seen is rarely garbage."""


@contextlib.contextmanager
def collected_at_steps(every: int) -> Iterator[Callable[[int], None]]:
    """While open, objects are collected only by calling what this yields with the number of a step.

    Args:
        every: so many steps; 0: Python collects as it likes.
    """
    if not every or not gc.isenabled():
        yield lambda step: None
        return

    def collect(step: int) -> None:
        if step % (WHOLE_EVERY * every) == 0:
            gc.collect()  # what was frozen is not walked through
        elif step % every == 0:
            gc.collect(YOUNG)

    gc.collect()
    gc.freeze()  # model, builds and modules stay to the end
    gc.disable()
    try:
        yield collect
    finally:
        gc.enable()
        gc.unfreeze()
