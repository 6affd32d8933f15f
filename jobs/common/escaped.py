"""What comes from builds, datasets and checkpoints of unknown origin, as text for people: a name cannot forge a line of
an error, nor do anything to the terminal."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import Any, TextIO

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


@contextlib.contextmanager
def escaped_output() -> Iterator[None]:
    """Around a command: of what is printed on standard output, all but plain text and line breaks is escaped, wherever
    it comes from."""
    with contextlib.redirect_stdout(_Escaped(sys.stdout)):
        yield


class _Escaped:
    """A stream that writes escaped text to another one, and is like it in all else."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        return self._stream.write(printable(text, keep="\n\t"))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
