"""SIGTERM (schedulers end a job with it) and SIGHUP (a lost terminal does) as interruptions that a command can clean up
after."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator

_SIGNALS = (signal.SIGTERM, signal.SIGHUP)


@contextlib.contextmanager
def ended_like_interrupted() -> Iterator[None]:
    """While it is open these do what Ctrl-C does: KeyboardInterrupt.

    Ignored ones (`nohup`) stay so, and outside the main thread nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    heard = [one for one in _SIGNALS if signal.getsignal(one) is not signal.SIG_IGN]
    before = {one: signal.signal(one, signal.default_int_handler) for one in heard}
    try:
        yield
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)
