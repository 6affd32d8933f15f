"""Where a step's time goes: phases by a clock, and by events that a device passes later."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from jobs.training.loop.ranks import Ranks
from jobs.training.loop.step.micro_batches import micro_batches
from jobs.training.loop.step.phases import PREFIX, Phase, StepPhases
from jobs.training.loop.throughput import Throughput
from jobs.training.run import train
from pipeline.format.build import Build
from tests.jobs.runs import train_config

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


class Event:
    """Of a stream: recorded at `host`, passed by the device up to `device`; both are milliseconds."""

    host = device = 0.0
    reads = 0

    def __init__(self, enable_timing: bool) -> None:
        assert enable_timing

    def record(self) -> None:
        self._at = Event.host

    def query(self) -> bool:
        return Event.device >= self._at

    def synchronize(self) -> None:
        raise AssertionError("nothing waits for an event")

    def elapsed_time(self, other: Event) -> float:
        assert self.query()  # else CUDA raises an error
        assert other.query()
        Event.reads += 1
        return other._at - self._at


def by_clock(monkeypatch: pytest.MonkeyPatch, *seconds: float) -> None:
    stamps = map(float, seconds)
    monkeypatch.setattr(time, "perf_counter", lambda: next(stamps))


def test_phases_add_up_to_the_step_and_are_means_since_they_were_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    by_clock(monkeypatch, 0, 1, 3, 6, 10, 11, 12, *(20, 23, 24, 26, 28, 31, 31), *(40, 41, 42))
    phases = StepPhases(CPU, alone=False)
    assert phases.numbers() == {}
    for _ in range(2):
        phases.begin()
        for phase in (Phase.DATA, Phase.FORWARD, Phase.BACKWARD, Phase.FORWARD, Phase.OPTIMISER):
            phases.end(phase)
        phases.end_step()
    found = phases.numbers()
    assert list(found) == ["ms_data", "ms_forward", "ms_backward", "ms_optimiser", "ms_other"]
    assert found == {
        "ms_data": 2000,
        "ms_forward": (2 + 4 + 1 + 2) * 500,
        "ms_backward": (3 + 2) * 500,
        "ms_optimiser": (1 + 3) * 500,
        "ms_other": (1 + 0) * 500,
    }
    assert sum(found.values()) == (12 + 11) * 500
    phases.begin()
    phases.end(Phase.DATA)
    phases.end_step()
    assert phases.numbers() == {"ms_data": 1000, "ms_other": 1000}


def test_a_step_that_a_signal_ended_counts_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    by_clock(monkeypatch, 0, 5, 10, 11, 13)
    phases = StepPhases(CPU, alone=True)
    phases.begin()
    phases.end(Phase.DATA)
    phases.begin()
    phases.end(Phase.DATA)
    phases.end_step()
    assert phases.numbers() == {"ms_data": 1000, "ms_other": 2000}


@pytest.mark.parametrize("alone", [True, False])
def test_a_process_alone_waits_for_no_rank(alone: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    by_clock(monkeypatch, *([0, 3, 3] if alone else [0, 2, 3, 3]))
    phases = StepPhases(CPU, alone=alone)
    phases.begin()
    phases.end(Phase.RANKS)
    phases.end(Phase.OPTIMISER)
    phases.end_step()
    expected = {"ms_optimiser": 3000.0} if alone else {"ms_ranks": 2000.0, "ms_optimiser": 1000.0}
    assert phases.numbers() == {**expected, "ms_other": 0.0}


def test_on_a_device_a_step_is_read_when_it_has_been_passed_and_never_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "Event", Event)
    Event.host, Event.device, Event.reads = 0.0, -1.0, 0
    phases = StepPhases(CUDA, alone=True)
    for passed in (-1.0, 14.0, 100.0):  # how far the device is when the host has ended a step
        phases.begin()
        for phase, ms in ((Phase.DATA, 1.0), (Phase.PASSES, 8.0), (Phase.OPTIMISER, 4.0)):
            Event.host += ms
            phases.end(phase)
        Event.host += 1.0
        Event.device = passed
        phases.end_step()
        found = phases.numbers()
        if passed == -1.0:
            assert (found, Event.reads) == ({}, 0)
        else:
            assert found == {"ms_data": 1.0, "ms_passes": 8.0, "ms_optimiser": 4.0, "ms_other": 1.0}
    assert Event.reads == 3 * 4  # the second and third at once


def test_a_run_says_where_its_time_went(robot_build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def late(*args: Any) -> Iterator[Any]:
        for step in micro_batches(*args):
            time.sleep(0.05)
            yield step

    monkeypatch.setattr("jobs.training.loop.loop.micro_batches", late)
    config = train_config(tmp_path / "run", [robot_build], steps=5, log_every=2, accumulate=2)
    train(config)
    rows = rows_with_phases(config.out)
    assert [row["step"] for row in rows] == [2, 4, 5]
    for row in rows:
        names = [name.removeprefix(PREFIX) for name in row if name.startswith(PREFIX)]
        assert names == ["data", "forward", "backward", "optimiser", "other"]
        assert all(row[f"{PREFIX}{name}"] > 0 for name in names)
        assert row["ms_data"] >= 50
        step = 1e3 * config.trainer.batch_size / row["samples_per_s"]
        assert sum(row[f"{PREFIX}{name}"] for name in names) <= step * 1.001
        assert row["data_wait_share"] * step >= 50


def test_speed_is_that_of_all_steps_since_the_last_row() -> None:
    throughput = Throughput(Ranks(0, 1, 1, CPU), samples=8)
    throughput.add(1.0, 0.5)
    throughput.add(3.0, 0.5)
    assert {**throughput.numbers(), "seconds": 0, "memory_gib": 0} == {
        "samples_per_s": 4.0,
        "data_wait_share": 0.25,
        "seconds": 0,
        "memory_gib": 0,
    }
    throughput.add(2.0, 0.0)
    assert throughput.numbers()["samples_per_s"] == 4.0


def rows_with_phases(out: Path) -> Sequence[dict[str, Any]]:
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [row for row in rows if "loss" in row]
