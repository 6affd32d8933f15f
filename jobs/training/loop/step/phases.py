"""Where the time of a step goes: one phase after another, which add up to the step.

On the CPU by the clock. On CUDA by events in the stream, which nobody waits for: a step's are read when the device has
passed them, which is one step later. So a phase there is what the device spends on it, idle or not: data that is read
while the device still computes costs nothing.
"""

from __future__ import annotations

import time
from collections import deque
from enum import StrEnum
from itertools import pairwise
from typing import cast

import torch

PREFIX = "ms_"
"""Of the metrics' names, before the phase's."""


class Phase(StrEnum):
    """A part of a step, by the order in which it comes.

    DATA       its batch has not been read yet
    FORWARD    the batch goes to the device, and through the model; FSDP gathers weights meanwhile
    BACKWARD   gradients; DDP and FSDP exchange them meanwhile
    PASSES     forward and backward in one: a CUDA graph does not tell them apart
    RANKS      of several: agreeing on the step, and summing its numbers
    OPTIMISER  norms, clipping, the update of weights and averages
    OTHER      the rest of the step
    """

    DATA = "data"
    FORWARD = "forward"
    BACKWARD = "backward"
    PASSES = "passes"
    RANKS = "ranks"
    OPTIMISER = "optimiser"
    OTHER = "other"


class StepPhases:
    """Means over the steps since they were asked for last. Each rank has its own.

    Args:
        alone: no other ranks: what would be RANKS is part of the phase after it.
    """

    def __init__(self, device: torch.device, alone: bool) -> None:
        self._cuda, self._alone = device.type == "cuda", alone
        self._stamps: list[float | torch.cuda.Event] = []
        self._phases: list[Phase] = []
        self._unread: deque[tuple[list[float | torch.cuda.Event], list[Phase]]] = deque()
        self._sums: dict[Phase, float] = {}
        self._steps = 0

    def begin(self) -> None:
        """A step begins; one that was not ended counts for nothing."""
        self._stamps, self._phases = [self._now()], []

    def end(self, phase: Phase) -> None:
        """What came since the last call of this or of `begin` was this phase. It may come several times in a step."""
        if not (self._alone and phase is Phase.RANKS):
            self._stamps.append(self._now())
            self._phases.append(phase)

    def end_step(self) -> None:
        """The step ends, with what no phase has ended."""
        self.end(Phase.OTHER)
        self._unread.append((self._stamps, self._phases))
        while self._unread and _passed(self._unread[0][0][-1]):
            stamps, phases = self._unread.popleft()
            self._steps += 1
            for phase, (start, stop) in zip(phases, pairwise(stamps), strict=True):
                self._sums[phase] = self._sums.get(phase, 0.0) + _milliseconds(start, stop)

    def numbers(self) -> dict[str, float]:
        """Metrics "ms_PHASE": mean milliseconds of a step, over those that were read since the last call. Empty if
        none was."""
        found = {f"{PREFIX}{phase}": self._sums[phase] / self._steps for phase in Phase if phase in self._sums}
        self._sums, self._steps = {}, 0
        return found

    def _now(self) -> float | torch.cuda.Event:
        if not self._cuda:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event


def _passed(stamp: float | torch.cuda.Event) -> bool:
    return isinstance(stamp, float) or bool(stamp.query())


def _milliseconds(start: float | torch.cuda.Event, stop: float | torch.cuda.Event) -> float:
    if isinstance(start, float) or isinstance(stop, float):
        return 1e3 * (cast(float, stop) - cast(float, start))  # all stamps are of one kind
    return float(start.elapsed_time(stop))
