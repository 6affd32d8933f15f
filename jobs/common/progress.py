"""Progress of long work on standard error: a moving bar on a terminal, one line now and then in a log."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

from tqdm import tqdm

SECONDS_BETWEEN_LOG_LINES = 10.0
SILENT_S = 3.0
"""Work that takes no longer is not announced."""

SECONDS_BETWEEN_SIGNS = 4.0
"""Between two lines of work of which nobody knows how far it is."""


def progress_bar(**options: Any) -> tqdm:
    """A tqdm bar with rate and ETA; in a log it writes a line every ten seconds."""
    if sys.stderr.isatty():
        return tqdm(**options)
    return tqdm(**options, mininterval=SECONDS_BETWEEN_LOG_LINES, maxinterval=SECONDS_BETWEEN_LOG_LINES, ascii=True)


@contextlib.contextmanager
def phase(what: str) -> Iterator[None]:
    """Around work of which nobody knows how far it is: after some seconds a line on standard error says what is done,
    and another one every four seconds for how long."""
    started, ended = time.monotonic(), threading.Event()

    def tell() -> None:
        if ended.wait(SILENT_S):
            return
        sys.stderr.write(f"{what} …\n")
        while not ended.wait(SECONDS_BETWEEN_SIGNS):
            sys.stderr.write(f"{what} … ({time.monotonic() - started:.0f} s)\n")

    teller = threading.Thread(target=tell, daemon=True, name="phase")
    teller.start()
    try:
        yield
    finally:
        ended.set()
        teller.join()
