"""Progress of long work on standard error: a moving bar on a terminal, one line now and then in a log."""

from __future__ import annotations

import sys
from typing import Any

from tqdm import tqdm

SECONDS_BETWEEN_LOG_LINES = 10.0


def progress_bar(**options: Any) -> tqdm:
    """A tqdm bar with rate and ETA; in a log it writes a line every ten seconds."""
    if sys.stderr.isatty():
        return tqdm(**options)
    return tqdm(**options, mininterval=SECONDS_BETWEEN_LOG_LINES, maxinterval=SECONDS_BETWEEN_LOG_LINES, ascii=True)
