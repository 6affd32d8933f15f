"""Signals as a command wants them answered, for a while."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from types import FrameType


@contextlib.contextmanager
def handled(signals: Iterable[signal.Signals], handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """While it is open the handler answers these signals. Outside the main thread nothing changes."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {one: signal.signal(one, handler) for one in signals}
    try:
        yield
    finally:
        for one, earlier in before.items():
            with contextlib.suppress(TypeError):  # one that was not set from Python
                signal.signal(one, earlier)


def ended_like_interrupted() -> contextlib.AbstractContextManager[None]:
    """SIGTERM (of schedulers) and SIGHUP (of a lost terminal) do what Ctrl-C does: KeyboardInterrupt, for a clean end.

    Ignored ones (`nohup`) stay so.
    """
    heard = [one for one in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(one) is not signal.SIG_IGN]
    return handled(heard, signal.default_int_handler)
