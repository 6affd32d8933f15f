"""SIGTERM, with which clusters' schedulers end a job, as an interruption that a command can clean up after."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator


@contextlib.contextmanager
def ended_like_interrupted() -> Iterator[None]:
    """While it is open SIGTERM does what Ctrl-C does: KeyboardInterrupt. Outside the main thread nothing changes."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
