"""Demonstrations of several tasks, recorded by several simulators at a time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from jobs.closed_loop.collect.attempts import Attempt, TaskAttempts
from jobs.closed_loop.collect.guided import Guide
from jobs.closed_loop.collect.recording import Recording, write_recording
from jobs.closed_loop.collect.settings import CollectConfig
from jobs.closed_loop.process import Simulator, SimulatorDied
from jobs.closed_loop.rollout import SimulatorSlot
from jobs.common.json_lines import JsonLines
from jobs.common.progress import progress_bar
from pipeline.errors import BuildError, RunError
from pipeline.format.text.differences import first_difference


@dataclass(frozen=True)
class Suite:
    """What the simulator reports. tasks: index -> name, instruction, number of start states; limit: simulator steps."""

    tasks: Mapping[int, Mapping[str, Any]]
    limit: int
    versions: Mapping[str, str]


def episode_path(out: Path, task: str, seed: int) -> Path:
    """Path of an episode, by the name of its task."""
    return out / "episodes" / task / f"{seed:06d}.npz"


class Collection:
    """Several simulators that record what the tasks still need, each in a thread. `attempts`, of each task, grow;
    `guide` acts in the script's place."""

    def __init__(
        self,
        settings: CollectConfig,
        suite: Suite,
        attempts: Mapping[int, TaskAttempts],
        log: JsonLines[Attempt],
        guide: Guide | None = None,
    ) -> None:
        self._settings, self._suite, self._attempts, self._log, self._guide = settings, suite, attempts, log, guide
        self._changed = threading.Condition()
        self._stopping = False
        self._task_of: dict[SimulatorSlot, int] = {}

    def record(self, slots: Sequence[SimulatorSlot]) -> None:
        """Return when every task has its demonstrations. Raises RunError if too many attempts failed, or a task or a
        simulator cannot be opened; BuildError if a simulator has other versions than in the first run."""
        for task in self._attempts:
            self._judge(task)
        total = self._settings.episodes * len(self._attempts)
        done = self._count()
        if done == total:
            return
        with (
            progress_bar(total=total, initial=done, unit="episode", desc=self._settings.suite) as bar,
            ThreadPoolExecutor(len(slots)) as pool,
        ):
            work = [pool.submit(self._work, slot, lambda: bar.update(self._count() - bar.n)) for slot in slots]
            try:
                for each in as_completed(work):
                    each.result()
            except BaseException:
                self._stop(slots)
                raise

    def _count(self) -> int:
        return sum(len(own.accepted) for own in self._attempts.values())

    def _stop(self, slots: Sequence[SimulatorSlot]) -> None:
        """Abandon the running attempts; they are not recorded."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        with ThreadPoolExecutor(len(slots)) as closing:
            list(closing.map(lambda slot: slot.close(), slots))

    def _work(self, slot: SimulatorSlot, on_progress: Callable[[], object]) -> None:
        while (job := self._next(slot)) is not None:
            one = self._play(slot, *job)
            with self._changed:
                if self._stopping:
                    return
                self._log.add(one)
                self._attempts[one.task].record(one)
                self._changed.notify_all()
                on_progress()
                self._judge(one.task)

    def _next(self, slot: SimulatorSlot) -> tuple[int, int] | None:
        """Task and seed for a simulator, or None when all is done. Opening a task is slow, so it stays with its own."""
        with self._changed:
            while not self._stopping and not all(own.finished for own in self._attempts.values()):
                open_tasks = [task for task, own in self._attempts.items() if own.next() is not None]
                others = [task for other, task in self._task_of.items() if other is not slot]
                open_tasks.sort(key=lambda task: (task != self._task_of.get(slot), others.count(task), task))
                if open_tasks:
                    self._task_of[slot] = open_tasks[0]
                    seed = self._attempts[open_tasks[0]].take()
                    assert seed is not None
                    return open_tasks[0], seed
                self._changed.wait()
        return None

    def _play(self, slot: SimulatorSlot, task: int, seed: int) -> Attempt:
        """One attempt. A success is on disk when this returns."""
        begun = time.monotonic()
        simulator = slot.running()
        difference = first_difference(self._suite.versions, simulator.about["versions"])
        if difference:
            raise BuildError(
                f"{self._settings.out} holds episodes of another simulator: {difference}; choose another out="
            )
        s = self._settings
        opening = {"suite": s.suite, "task": task, "pixels": s.pixels, "shadows": s.shadows, "hold": s.hold}

        def attempt(outcome: str, frames: int = 0, detail: str = "") -> Attempt:
            return Attempt(task, seed, outcome, frames, round(time.monotonic() - begun, 3), detail)

        try:
            simulator = slot.simulator(opening)
            try:
                recording, success = self._demonstrate(simulator, task, seed)
            except SimulatorDied:
                raise
            except RunError as error:
                return attempt("refused", detail=str(error))
        except SimulatorDied as error:
            slot.close()
            return attempt("crash", detail=str(error))
        if success:
            write_recording(episode_path(s.out, recording.task, seed), recording)
        return attempt("success" if success else "failure", len(recording.actions))

    def _demonstrate(self, simulator: Simulator, task: int, seed: int) -> tuple[Recording, bool]:
        request: dict[str, Any] = {
            "start": self._settings.start_of(seed),
            "seed": seed,
            "limit": self._suite.limit,
            "disturbance": asdict(self._settings.disturbance),
        }
        if self._guide is None:
            answer = simulator.ask("demonstrate", **request)
        else:
            answer = self._guide.demonstrate(simulator, self._settings.hold, **request)
        about = self._suite.tasks[task]
        return Recording.of(answer, about["instruction"], about["name"], seed), bool(answer["success"])

    def _judge(self, task: int) -> None:
        found = self._attempts[task].too_many_failures(self._settings.max_failures)
        if found is not None:
            detail = self._attempts[task].last_detail
            last = f" (last: {detail})" if detail else ""
            raise RunError(
                f"{self._settings.suite}, task {task} ({self._suite.tasks[task]['name']}): {found[0]} of "
                f"{found[1]} attempts failed, more than max_failures={self._settings.max_failures:g}{last}; see "
                f"{self._log.path}. Lower disturbance.*, raise limit= or max_failures=, or leave the task out"
            )
