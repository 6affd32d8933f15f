"""Whether a run's folder is still this run's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Ownership:
    """Both raise RunError when another process has taken the folder over.

    check  on all ranks at once; before a save
    look   on the rank that writes, without a word to the others; before each step's lines in the logs
    """

    check: Callable[[], None]
    look: Callable[[], None]
