"""Errors about builds of unknown origin: one line, in which a name cannot forge another."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from pipeline.errors import RunError
from pipeline.format.text.printable import printable


@contextlib.contextmanager
def escaped_errors() -> Iterator[None]:
    """Around what reads a build: what its names would do to a terminal or to the lines of a log is escaped."""
    try:
        yield
    except RunError as error:
        shown = printable(error)
        if shown == str(error):
            raise
        raise type(error)(shown) from error
