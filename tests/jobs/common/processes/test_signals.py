"""SIGTERM and SIGHUP as interruptions, unless they are set to be ignored."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from jobs.common.processes.signals import ended_like_interrupted

BOTH = pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])


@pytest.fixture(autouse=True)
def _handlers() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@BOTH
def test_a_signal_interrupts_while_it_is_open(number: signal.Signals) -> None:
    signal.signal(number, signal.SIG_DFL)
    with pytest.raises(KeyboardInterrupt), ended_like_interrupted():
        os.kill(os.getpid(), number)
    assert signal.getsignal(number) is signal.SIG_DFL


@BOTH
def test_a_signal_that_is_ignored_stays_so(number: signal.Signals) -> None:
    """As `nohup` has it."""
    signal.signal(number, signal.SIG_IGN)
    with ended_like_interrupted():
        os.kill(os.getpid(), number)
    assert signal.getsignal(number) is signal.SIG_IGN
