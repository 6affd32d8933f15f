"""`vlajepa collect` with a fake simulator: which episodes are kept, crashes, interruptions, and what is written."""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from pydantic import TypeAdapter

import jobs.closed_loop.collect.collect
from jobs.closed_loop.collect.attempts import Attempt, TaskAttempts
from jobs.closed_loop.collect.collect import collect, describe
from jobs.closed_loop.collect.settings import CollectConfig
from jobs.closed_loop.process import SimulatorDied
from jobs.common.json_lines import JsonLines
from jobs.datasets.manifests import load_manifests
from model.checkpoint.state_file import write_state
from pipeline.errors import BuildError, RunError, SettingsError
from pipeline.sources.registry import make_source

SIMULATOR = "VLAJEPA_SIMULATOR"
SIZE = 32


class FakeSimulator:
    """Seeds that 3 divides fail. What an episode holds depends on task and seed alone.

    `crashes` counts how often a seed still dies; `refused` seeds are answered with an error; after `power` requests
    for a demonstration the lights go out.
    """

    crashes: ClassVar[Counter[int]] = Counter()
    refused: frozenset[int] = frozenset()
    power = 10**6
    version, benchmark = "1", "libero"
    started = 0
    asked: ClassVar[list[dict[str, Any]]] = []

    def __init__(self, *_: Any) -> None:
        FakeSimulator.started += 1
        self.about = {"versions": {"fake": self.version}}
        self.opened: dict[str, Any] = {}

    def close(self) -> None:
        self.opened = {}

    def ask(self, do: str, **arguments: Any) -> dict[str, Any]:
        if do == "tasks":
            rows = [{"name": f"task_{i}", "instruction": f"do {i}", "starts": 50, "limit": 40} for i in range(3)]
            return {"benchmark": self.benchmark, "tasks": rows}
        if do == "open":
            self.opened = arguments
            return {"instruction": f"do {arguments['task']}"}
        seed = arguments["seed"]
        FakeSimulator.asked.append({**self.opened, **arguments})
        if len(FakeSimulator.asked) > self.power:
            raise KeyboardInterrupt
        if self.crashes[seed] > 0:
            self.crashes[seed] -= 1
            raise SimulatorDied("the fake simulator died")
        if seed in self.refused:
            raise RunError("no place for the thing")
        return self.episode(self.opened["task"], seed)

    @staticmethod
    def episode(task: int, seed: int) -> dict[str, Any]:
        rng = np.random.default_rng([task, seed])
        count = 4 + seed % 3
        cameras = ("agentview", "robot0_eye_in_hand")
        return {
            "frames": {name: rng.integers(0, 256, (count, SIZE, SIZE, 3)).astype(np.uint8) for name in cameras},
            "state": rng.normal(size=(count, 8)).astype(np.float32),
            "actions": np.sign(rng.normal(size=(count, 7))).astype(np.float32),
            "executed": np.zeros((count, 7), np.float32),
            "place": np.zeros(3, np.float32),
            "success": seed % 3 != 0,
        }


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> type[FakeSimulator]:
    for name, value in (("crashes", Counter()), ("refused", frozenset()), ("power", 10**6), ("version", "1")):
        monkeypatch.setattr(FakeSimulator, name, value)
    monkeypatch.setattr(FakeSimulator, "asked", [])
    monkeypatch.setattr(FakeSimulator, "started", 0)
    monkeypatch.setattr(jobs.closed_loop.collect.collect, "Simulator", FakeSimulator)
    return FakeSimulator


def config(out: Path, **changes: Any) -> CollectConfig:
    plain = {
        "simulator": "python",
        "suite": "toy",
        "out": out,
        "task": [0, 2],
        "episodes": 3,
        "pixels": SIZE,
        "fps": 10,
    }
    return TypeAdapter(CollectConfig).validate_python({**plain, **changes})


def hashes(out: Path) -> dict[str, str]:
    """Of the datasets' files."""
    files = [path for folder in ("lerobot", "hdf5") for path in sorted((out / folder).rglob("*")) if path.is_file()]
    return {str(path.relative_to(out)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_a_suite_of_another_simulator_is_refused(
    tmp_path: Path, fake: type[FakeSimulator], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fake, "benchmark", "simpler_env")
    with pytest.raises(SettingsError, match="the script can do tasks of LIBERO alone"):
        collect(config(tmp_path))


def test_demonstrations_become_both_datasets(fake: type[FakeSimulator], tmp_path: Path) -> None:
    settings = config(tmp_path)
    result = collect(settings)
    assert result["seeds"] == {"task_0": [1, 2, 4], "task_2": [1, 2, 4]}
    counts = [
        (row["task"], row["attempts"], row["successes"], row["failures"], row["crashes"]) for row in result["tasks"]
    ]
    assert counts == [(0, 5, 3, 2, 0), (2, 5, 3, 2, 0)]
    assert result == json.loads((tmp_path / "collected.json").read_bytes())
    assert len(JsonLines(tmp_path / "episodes.jsonl", Attempt, "attempt").read()) == len(fake.asked) == 10
    asked = {name: fake.asked[0][name] for name in ("suite", "pixels", "shadows", "hold", "start", "limit")}
    assert asked == {"suite": "toy", "pixels": SIZE, "shadows": True, "hold": 2, "start": None, "limit": 40}
    readers = load_manifests()
    for name, changes in (("lerobot", {}), ("hdf5", {"action_lag": 0, "fps": 10})):
        manifest = readers["libero_scripted" if name == "lerobot" else "libero_hdf5"]
        source = make_source(**{**manifest.reader, **changes, "name": "d", "root": str(tmp_path / name)})
        index = source.index()
        assert len(index.refs) == 6
        with source.open(index.refs[-1]) as episode:
            wanted = fake.episode(2, 4)
            assert episode.instruction(0) == "do 2"
            np.testing.assert_array_equal(
                episode.frames(index.views[1], [3]), wanted["frames"]["robot0_eye_in_hand"][3:4]
            )
            np.testing.assert_array_equal(episode.state(2), wanted["state"][2])
            assert episode.actions(1, 2)[0, 6] == (wanted["actions"][1, 6] < 0)
    assert not list(tmp_path.rglob(".tmp-*"))
    text = describe(settings, result)
    assert f"preprocess source=libero_hdf5 source.root={tmp_path}/hdf5 source.fps=10 source.action_lag=0" in text
    assert f"plan source=libero_scripted source.root={tmp_path}/lerobot window.end=pad" in text


def test_neither_interruption_nor_the_number_of_simulators_changes_a_byte(
    fake: type[FakeSimulator], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    collect(config(tmp_path / "whole", processes=1))
    fake.asked.clear()
    monkeypatch.setattr(fake, "power", 4)
    with pytest.raises(KeyboardInterrupt):
        collect(config(tmp_path / "cut"))
    assert not (tmp_path / "cut/lerobot").exists()
    log = tmp_path / "cut/episodes.jsonl"
    done = len(JsonLines(log, Attempt, "attempt").read())
    assert 0 < done <= 4
    log.write_bytes(log.read_bytes() + b'{"task": 0, "se')
    (tmp_path / f"cut/episodes/task_0/.tmp-000001.npz-{'0' * 32}").write_bytes(b"half")
    monkeypatch.setattr(fake, "power", 10**6)
    fake.asked.clear()
    result = collect(config(tmp_path / "cut", processes=3))
    assert len(fake.asked) == 10 - done
    assert hashes(tmp_path / "cut") == hashes(tmp_path / "whole")
    assert len(hashes(tmp_path / "cut")) == 6 + 4 + 4
    fake.asked.clear()
    before, starts = (tmp_path / "cut/lerobot/meta/info.json").stat().st_mtime_ns, fake.started
    assert collect(config(tmp_path / "cut")) == {**result, "settings": {**result["settings"], "processes": 2}}
    assert (tmp_path / "cut/lerobot/meta/info.json").stat().st_mtime_ns == before
    assert (fake.asked, fake.started) == ([], starts)


def test_more_episodes_are_added_to_those_there_are(fake: type[FakeSimulator], tmp_path: Path) -> None:
    collect(config(tmp_path / "grown", task=1, episodes=2, format="lerobot"))
    assert not (tmp_path / "grown/hdf5").exists()
    (tmp_path / "grown/episodes/task_1/000001.npz").unlink()
    fake.asked.clear()
    result = collect(config(tmp_path / "grown", task=1, episodes=4, format="both"))
    assert sorted(one["seed"] for one in fake.asked) == [1, 3, 4, 5]
    assert result["seeds"] == {"task_1": [1, 2, 4, 5]}
    collect(config(tmp_path / "new", task=1, episodes=4))
    assert hashes(tmp_path / "grown") == hashes(tmp_path / "new")


def test_a_crash_costs_a_new_simulator_and_the_third_the_seed(fake: type[FakeSimulator], tmp_path: Path) -> None:
    fake.crashes.update({1: 2, 4: 3})
    result = collect(config(tmp_path, task=0, processes=1))
    assert result["seeds"] == {"task_0": [1, 2, 5]}
    assert (result["tasks"][0]["failures"], result["tasks"][0]["crashes"], fake.started) == (3, 5, 6)
    lines = [one for one in JsonLines(tmp_path / "episodes.jsonl", Attempt, "attempt").read() if one.outcome == "crash"]
    assert [one.seed for one in lines] == [1, 1, 4, 4, 4]
    assert lines[0].detail == "the fake simulator died"


def test_too_many_failures_stop_with_the_reason(fake: type[FakeSimulator], tmp_path: Path, monkeypatch: Any) -> None:
    # One simulator: with two, some seeds more may have been refused by the time the run stops.
    monkeypatch.setattr(fake, "refused", frozenset(range(2, 100)))
    message = (
        r"toy, task 0 \(task_0\): 9 of 10 attempts failed, more than max_failures=0.5 \(last: no place for the thing"
    )
    with pytest.raises(RunError, match=message):
        collect(config(tmp_path, task=0, processes=1))
    fake.asked.clear()
    with pytest.raises(RunError, match=message):
        collect(config(tmp_path, task=0, processes=1))
    assert fake.asked == []
    monkeypatch.setattr(fake, "refused", frozenset())
    assert collect(config(tmp_path, task=0, processes=1, max_failures=0.95))["seeds"]["task_0"] == [1, 10, 11]


def test_another_collection_in_the_same_folder_is_refused(fake: type[FakeSimulator], tmp_path: Path) -> None:
    settings = config(tmp_path, task=0, episodes=1)
    collect(settings)
    with pytest.raises(BuildError, match=r"other settings: disturbance\.noise was 0\.3, now 0\.0"):
        collect(replace(settings, disturbance=replace(settings.disturbance, noise=0.0)))
    fake.version = "2"
    with pytest.raises(BuildError, match=r"another simulator: fake was '1', now '2'"):
        collect(replace(settings, episodes=2))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"task": 3}, r"task must be 0\.\.2, the tasks of toy, got 3"),
        ({"starts": [10, 60]}, "starts must end at 50 at most"),
    ],
)
def test_what_the_suite_does_not_have(
    fake: type[FakeSimulator], tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(SettingsError, match=message):
        collect(config(tmp_path, **changes))
    assert not (tmp_path / "collection.json").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"fps": 15}, "fps must divide 20: one of 1, 2, 4, 5, 10, 20; got 15"),
        ({"episodes": 0}, "episodes must be at least 1"),
        ({"task": []}, "task must be null, an index"),
        ({"task": [1, 1]}, "a list of different ones"),
        ({"task": -1}, "task must be null, an index"),
        ({"starts": [5, 5]}, "starts must be null or"),
        ({"format": "zarr"}, "Input should be 'lerobot', 'hdf5' or 'both'"),
        ({"max_failures": 1.0}, "max_failures must be at least 0 and below 1"),
        ({"pixels": 8}, "pixels must be 32"),
        ({"seed": -1}, "seed must be 0"),
        ({"disturbance": {"memory": 1.0}}, r"memory must be at least 0 and below 1"),
        ({"disturbance": {"away": -1}}, r"away must be at least 0"),
        ({"disturbance": {"burst": 2}}, r"burst must be 0\.\.1"),
        ({"disturbance": {"burst_steps": 0}}, r"burst_steps must be at least 1"),
    ],
)
def test_wrong_settings_are_named(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        config(tmp_path, **changes)


def test_starts_go_round(tmp_path: Path) -> None:
    assert [config(tmp_path, starts=[40, 43]).start_of(seed) for seed in range(5)] == [40, 41, 42, 40, 41]


@pytest.mark.parametrize("workers", [1, 2, 3, 5])
def test_no_seed_is_attempted_in_vain(workers: int) -> None:
    """Whichever running attempt ends first: the attempted seeds are those of one simulator."""
    good = {2, 3, 5, 6, 8, 12, 13}
    rng = np.random.default_rng(workers)
    for wanted in range(1, 8):
        attempts, under_way, attempted = TaskAttempts(wanted, 0), [], []
        while not attempts.finished:
            while len(under_way) < workers and (seed := attempts.take()) is not None:
                under_way.append(seed)
                attempted.append(seed)
            seed = under_way.pop(int(rng.integers(len(under_way))))
            attempts.record(Attempt(0, seed, "success" if seed in good else "failure"))
        assert under_way == []
        assert attempts.accepted == tuple(sorted(good)[:wanted])
        assert sorted(attempted) == list(range(sorted(good)[wanted - 1] + 1))


def test_failures_are_judged_in_the_order_of_seeds() -> None:
    attempts = TaskAttempts(50, 0)
    for seed in [*range(1, 12), 0]:
        assert attempts.too_many_failures(0.5) is None  # seed 0 is not there yet
        attempts.record(Attempt(0, seed, "success" if seed in (0, 1, 2, 3) else "failure"))
    assert attempts.too_many_failures(0.5) == (6, 10)
    assert attempts.too_many_failures(0.7) is None


def test_a_line_that_is_no_attempt_is_named(tmp_path: Path) -> None:
    (tmp_path / "episodes.jsonl").write_text('{"task": 0, "seed": 1, "outcome": "success"}\n{"task": 0}\n')
    with pytest.raises(BuildError, match=r"episodes\.jsonl, line 2 is no attempt"):
        JsonLines(tmp_path / "episodes.jsonl", Attempt, "attempt").read()


@pytest.mark.slow
def test_one_demonstration_of_the_real_simulator(tmp_path: Path) -> None:
    python = os.environ.get(SIMULATOR)
    if python is None:
        pytest.skip(f"{SIMULATOR} is not set: the python of an environment with the LIBERO simulator")
    settings = config(tmp_path, simulator=python, suite="libero_object", task=0, episodes=1, pixels=64, processes=1)
    result = collect(settings)
    manifest = load_manifests()["libero_scripted"]
    source = make_source(**{**manifest.reader, "name": "real", "root": str(tmp_path / "lerobot")})
    (ref,) = source.index().refs
    with source.open(ref) as episode:
        assert episode.instruction(0) == result["tasks"][0]["instruction"]
        actions, last = episode.actions(0, episode.num_frames), episode.num_frames - 1
        first, end = episode.state(0), episode.state(last)
        assert episode.frames("wrist", [last]).shape == (1, 64, 64, 3)
    assert actions is not None
    assert first is not None
    assert end is not None
    assert np.abs(actions[:, :3]).max() <= 0.05
    assert set(actions[:, 6]) == {0.0, 1.0}
    assert np.abs(end[:3] - first[:3]).max() > 0.02  # the hand has gone somewhere


def test_a_guide_acts_and_its_folder_is_for_its_episodes_alone(
    fake: type[FakeSimulator], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Guide:
        def demonstrate(self, simulator: FakeSimulator, hold: int, **asked: Any) -> dict[str, Any]:
            assert hold == 2
            return simulator.ask("demonstrate", **asked)

    loaded: list[Path] = []
    monkeypatch.setattr(
        jobs.closed_loop.collect.collect, "_guide", lambda _settings, checkpoint: loaded.append(checkpoint) or Guide()
    )
    out, run = tmp_path / "out", tmp_path / "run"
    first, second = (run / "checkpoints" / f"step-{step:08d}" for step in (1, 2))
    _make_checkpoint(first)
    guided = config(out, policy=str(run), guide={"share": 0.5})
    assert collect(guided)["tasks"][0]["successes"] == 3
    assert loaded == [first]
    with pytest.raises(BuildError, match=r"episodes of other settings: .*guide"):
        collect(config(out))
    with pytest.raises(BuildError, match=r"episodes of other settings: .*share"):
        collect(config(out, policy=str(run), guide={"share": 0.6}))
    _make_checkpoint(second)  # the run has trained on
    with pytest.raises(BuildError, match=r"episodes of other settings: policy was .*step-00000001.*step-00000002"):
        collect(guided)
    collect(config(out, policy=str(first), guide={"share": 0.5}))
    write_state(first, {"step": 1, "trained": "again"})
    with pytest.raises(BuildError, match=r"episodes of other settings: policy_sha256"):
        collect(config(out, policy=str(first), guide={"share": 0.5}))


def _make_checkpoint(folder: Path) -> None:
    folder.mkdir(parents=True)
    write_state(folder, {"step": int(folder.name.removeprefix("step-"))})
