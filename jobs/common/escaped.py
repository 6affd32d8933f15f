"""What comes from builds, datasets and checkpoints of unknown origin, as text for people: a name cannot forge a line of
an error, nor do anything to the terminal."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any, TextIO, cast

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
def escaped_output() -> Iterator[Output]:
    """Around a command: of what is printed on standard output, all but plain text and line breaks is escaped, wherever
    it comes from. What cannot be printed does not end the command: its result is in files."""
    output = Output(sys.stdout)
    with contextlib.redirect_stdout(cast(TextIO, output)):
        yield output
        output.flush()


class Output:
    """A stream that writes to another one as long as that takes it, and is like it in all else.

    Args:
        escaped: all but plain text and line breaks is escaped.

    Attributes:
        error: why nothing is written any more; None as long as it is. A pipe whose reader has ended is no error.
    """

    def __init__(self, stream: TextIO, escaped: bool = True) -> None:
        self._stream, self._escaped = stream, escaped
        self._ended = False
        self.error: OSError | None = None

    def write(self, text: str) -> int:
        shown = printable(text, keep="\n\t") if self._escaped else text
        self._try(lambda: self._stream.write(shown))
        return len(text)

    def flush(self) -> None:
        self._try(self._stream.flush)

    def _try(self, action: Callable[[], object]) -> None:
        if self._ended:
            return
        try:
            action()
        except OSError as error:
            self._ended = True
            self.error = None if isinstance(error, BrokenPipeError) else error
            _drop_buffered(self._stream)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def open_standard_streams() -> None:
    """Where one of the three was closed, as by `2>&-`, what is printed goes nowhere. Else the next file that is opened,
    of a build perhaps, would take its number, and get what libraries print."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            null = os.open(os.devnull, os.O_RDWR)
            if null != number:
                os.dup2(null, number)
                os.close(null)
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, "w" if number else "r", closefd=False))  # noqa: SIM115


def _drop_buffered(stream: TextIO) -> None:
    """What Python has not written yet goes nowhere: at its end it would fail again, and change the exit code."""
    with contextlib.suppress(OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)
