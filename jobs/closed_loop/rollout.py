"""Episodes of one task, several simulators at a time.

The simulators step together: all that wait for actions are answered by one batch. When a simulator dies, its episode
starts again in a new process.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jobs.closed_loop.actors import Actor, EnvironmentState
from jobs.closed_loop.outcomes import Outcome
from jobs.closed_loop.process import Simulator, SimulatorDied
from pipeline.errors import RunError

MOST_CRASHES = 3
"""Of the simulator in one episode; then an evaluation stops, and an attempt at a demonstration counts as failed."""


@dataclass(frozen=True)
class TaskRun:
    """A task and how its episodes are run.

    instruction  that the policy gets; None: the environment's own
    limit        simulator steps
    opening      arguments of the simulator's request "open"
    seed         of the policy's noise
    videos       start states whose episodes are recorded as video
    """

    suite: str
    task: int
    instruction: str | None
    limit: int
    opening: Mapping[str, Any]
    seed: int
    videos: frozenset[int] = frozenset()


@dataclass
class _Episode:
    start: int
    begun: float
    queries: int = 0
    video: list[NDArray[np.uint8]] = field(default_factory=list)


class SimulatorSlot:
    """A simulator that is started when it is needed, and again after it died."""

    def __init__(self, start: Callable[[], Simulator]) -> None:
        self._start = start
        self._simulator: Simulator | None = None
        self._open: Mapping[str, Any] | None = None

    def running(self) -> Simulator:
        """The simulator, with the environment that was opened last."""
        if self._simulator is None:
            self._simulator, self._open = self._start(), None
        return self._simulator

    def simulator(self, opening: Mapping[str, Any]) -> Simulator:
        """The running simulator with the task's environment open."""
        simulator = self.running()
        if self._open != opening:
            simulator.ask("open", **opening)
            self._open = opening
        return simulator

    def close(self) -> None:
        """End the process."""
        if self._simulator is not None:
            self._simulator.close()
            self._simulator = None


@contextmanager
def simulator_slots(out: Path, count: int, start: Callable[[Path], Simulator]) -> Iterator[list[SimulatorSlot]]:
    """Slots whose simulators print to `out`/logs/simulator-N.txt; they are closed with the context."""
    (out / "logs").mkdir(parents=True, exist_ok=True)
    slots = [SimulatorSlot(partial(start, out / "logs" / f"simulator-{i}.txt")) for i in range(count)]
    with ExitStack() as stack:
        for slot in slots:
            stack.callback(slot.close)
        yield slots


class TaskRunner:
    """Runs the episodes of one task in E slots; `finished` is called with every outcome and its video (an image of the
    first camera for each action, or none)."""

    def __init__(
        self,
        run: TaskRun,
        slots: Sequence[SimulatorSlot],
        actor: Actor,
        finished: Callable[[Outcome, Sequence[NDArray[np.uint8]]], None],
    ) -> None:
        self._run, self._slots, self._actor, self._finished = run, slots, actor, finished
        self._crashes: dict[int, int] = {}

    def play(self, starts: Sequence[int]) -> None:
        """Run these start states, in order. Raises RunError if an episode's simulator died too often, or refuses a
        request."""
        waiting = deque(starts)
        running: list[_Episode | None] = [None] * len(self._slots)
        envs: list[EnvironmentState | None] = [None] * len(self._slots)
        with ThreadPoolExecutor(len(self._slots)) as pool:
            while waiting or any(running):
                for i, episode in enumerate(running):
                    if episode is None and waiting:
                        running[i] = _Episode(waiting.popleft(), time.monotonic())
                actions = self._actor.act(envs) if any(m is not None for m in envs) else [None] * len(envs)
                steps = [
                    None if episode is None else pool.submit(self._advance, slot, episode, chunk)
                    for slot, episode, chunk in zip(self._slots, running, actions, strict=True)
                ]
                for i, (step, episode) in enumerate(zip(steps, running, strict=True)):
                    envs[i] = None
                    if step is None or episode is None:
                        continue
                    try:
                        envs[i] = step.result()
                    except SimulatorDied as error:
                        self._died(self._slots[i], episode, error)
                        waiting.appendleft(episode.start)
                    if envs[i] is None:
                        running[i] = None

    def _advance(
        self, slot: SimulatorSlot, episode: _Episode, chunk: NDArray[np.float32] | None
    ) -> EnvironmentState | None:
        """Begin an episode, or continue it; None when it is over."""
        simulator = slot.simulator(self._run.opening)
        if chunk is None:
            answer = simulator.ask("reset", start=episode.start, limit=self._run.limit)
        else:
            record_video = episode.start in self._run.videos
            answer = simulator.ask("act", actions=np.asarray(chunk, np.float32), record_video=record_video)
            episode.video.extend(answer["video"])
            if answer["over"]:
                self._end(episode, answer)
                return None
        episode.queries += 1
        numbers = [self._run.seed, self._run.task, episode.start, episode.queries]
        seed = int(np.random.SeedSequence(numbers).generate_state(1)[0])
        instruction = self._run.instruction or answer["instruction"]
        seen = answer["images"], answer["state"], instruction
        return EnvironmentState(*seen, seed, simulator, episode.queries == 1, answer.get("actions"))

    def _end(self, episode: _Episode, answer: Mapping[str, Any]) -> None:
        outcome = Outcome(
            task=self._run.task,
            start=episode.start,
            success=bool(answer["success"]),
            steps=int(answer["steps"]),
            queries=episode.queries,
            crashes=self._crashes.get(episode.start, 0),
            seconds=round(time.monotonic() - episode.begun, 3),
            swapped_instruction_success=answer["swapped_instruction_success"],
        )
        self._finished(outcome, episode.video)

    def _died(self, slot: SimulatorSlot, episode: _Episode, error: SimulatorDied) -> None:
        slot.close()
        count = self._crashes[episode.start] = self._crashes.get(episode.start, 0) + 1
        if count >= MOST_CRASHES:
            raise RunError(
                f"{self._run.suite}, task {self._run.task}, start {episode.start}: the simulator died {count} times; "
                f"{error}"
            ) from error
