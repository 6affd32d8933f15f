"""What the server writes about clients: bounded, and without what a terminal or the reader of a log could mistake."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable

from websockets.exceptions import InvalidHandshake

from pipeline.format.text.printable import printable

LONGEST = 4000
"""Characters of an entry; a traceback has several lines."""

LONGEST_REQUEST = 200
"""Characters of what is wrong with a request, which may quote it."""


def bounded(log: Callable[[str], None]) -> Callable[[str], None]:
    """A log whose entries are escaped, but for line breaks, and cut."""
    return lambda text: log(printable(text, keep="\n")[:LONGEST])


def websockets_logger(log: Callable[[str], None]) -> logging.Logger:
    """For `websockets`, whose own would write tracebacks that quote what a stranger has sent."""
    logger = logging.Logger("websockets.server", logging.WARNING)
    logger.addHandler(_Entries(log))
    return logger


class _Entries(logging.Handler):
    def __init__(self, log: Callable[[str], None]) -> None:
        super().__init__()
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        if error is None:
            self._log(record.getMessage())
        elif isinstance(error, (InvalidHandshake, EOFError, OSError)):
            why = error.__cause__ or error
            text = printable(f"{error}: {why}" if why is not error else error)[:LONGEST_REQUEST]
            self._log(f"{record.getMessage()}: {text}")
        else:
            self._log("".join(traceback.format_exception(error)))
