"""The sample world: deterministic files, true dynamics, readable by the same readers as real data."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.errors import RunError, SettingsError
from pipeline.sample_world.camera import front_camera, wrist_camera
from pipeline.sample_world.lerobot import write_lerobot
from pipeline.sample_world.render import SENSOR_NOISE, make_look, render
from pipeline.sample_world.script import Task, draw_task, make_world, play
from pipeline.sample_world.ssv2 import write_ssv2
from pipeline.sample_world.video import CODECS, unchanged_priority, write_video
from pipeline.sample_world.world import MAX_STEP, World, advance, step
from pipeline.sources.lerobot.source import LeRobotSource
from pipeline.sources.ssv2 import SSv2Source
from tests.conftest import SampleData


def scene(seed: int) -> tuple[np.random.Generator, World]:
    rng = np.random.default_rng(seed)
    return rng, make_world(rng)


def hashes(root: Path) -> dict[str, str]:
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.mark.slow
def test_equal_seeds_give_equal_bytes(tmp_path: Path) -> None:
    for name, seed in (("a", 5), ("b", 5), ("c", 6)):
        write_ssv2(tmp_path / name / "ssv2", clips=3, seed=seed, size=64)
        write_lerobot(tmp_path / name / "lerobot", episodes=1, seed=seed, size=64)
    first, second, other = (hashes(tmp_path / name) for name in "abc")
    assert len(first) == 3 + 4 + 4 + 1 + 2
    assert first == second
    assert all(first[name] != other[name] for name in first if name.endswith((".webm", ".mp4", ".parquet")))


def test_more_clips_leave_the_earlier_ones_as_they_were(tmp_path: Path, sample_data: SampleData) -> None:
    write_lerobot(tmp_path, episodes=1, seed=0, size=64)
    more, few = hashes(sample_data.lerobot), hashes(tmp_path)
    videos = [name for name in few if name.endswith((".mp4", ".parquet"))]
    assert len(videos) == 3
    assert all(few[name] == more[name] for name in videos)


def test_human_half_reads_as_ssv2(sample_data: SampleData) -> None:
    source = SSv2Source(root=str(sample_data.ssv2))
    index = source.index()
    assert index.left_out == ()
    assert index.description["episodes"] == {"test": 1, "train": 6, "val": 1}
    for ref in index.refs:
        with source.open(ref) as episode:
            assert 30 <= episode.num_frames <= 60
            assert episode.frames("video", [0, episode.num_frames - 1]).shape == (2, 64, 64, 3)
            if ref.split != "test":
                assert episode.instruction(0).split()[0] in ("pushing", "lifting", "moving")
    assert all(set(row) == {"id"} for row in json.loads((sample_data.ssv2 / "labels/test.json").read_text()))


def test_robot_half_reads_as_lerobot(sample_data: SampleData) -> None:
    source = LeRobotSource(root=str(sample_data.lerobot), name="sample")
    index = source.index()
    assert index.left_out == ()
    assert (index.views, index.state_dim, index.action_dim, index.fps) == (("front", "wrist"), 8, 7, 12.0)
    assert len(index.refs) == 4
    for ref in index.refs:
        with source.open(ref) as episode:
            assert 60 <= episode.num_frames <= 80
            assert episode.num_frames == ref.num_frames
            assert episode.instruction(0).split()[0] in ("push", "lift", "move")
            assert episode.frames("wrist", [5]).shape == (1, 64, 64, 3)


def test_written_state_follows_from_state_and_action(sample_data: SampleData) -> None:
    source = LeRobotSource(root=str(sample_data.lerobot), name="sample")
    for ref in source.index().refs:
        with source.open(ref) as episode:
            states = np.stack([episode.state(i) for i in range(episode.num_frames)])  # type: ignore[misc]
            actions = episode.actions(0, episode.num_frames)
        assert actions is not None
        assert np.abs(actions).max() <= 1
        for now in range(len(states) - 1):
            np.testing.assert_array_equal(states[now + 1], advance(states[now], actions[now]))
        # A shift by one frame must show, or this test would prove nothing.
        assert np.abs(advance(states[10], actions[11]) - states[11]).max() > 1e-3
        assert np.linalg.norm(np.diff(states[:, :3], axis=0), axis=1).mean() > MAX_STEP / 3


def test_stats_and_bookkeeping_match_the_tables(sample_data: SampleData) -> None:
    info = json.loads((sample_data.lerobot / "meta/info.json").read_text())
    rows = [json.loads(line) for line in (sample_data.lerobot / "meta/episodes_stats.jsonl").read_text().splitlines()]
    source = LeRobotSource(root=str(sample_data.lerobot), name="sample")
    refs = {ref.data["episode_index"]: ref for ref in source.index().refs}
    assert info["total_frames"] == sum(ref.num_frames or 0 for ref in refs.values())
    assert set(rows[0]["stats"]) == set(info["features"])
    for row in rows:
        with source.open(refs[row["episode_index"]]) as episode:
            actions = episode.actions(0, episode.num_frames)
        assert actions is not None
        assert row["stats"]["action"]["count"] == [len(actions)]
        np.testing.assert_allclose(row["stats"]["action"]["mean"], actions.mean(0), atol=1e-5)


def test_push_moves_the_named_thing_the_named_way() -> None:
    for seed in range(12):
        for direction, sign in (("left", -1), ("right", 1)):
            rng, world = scene(seed)
            rollout = play(rng, world, Task("push", 1, direction=direction), (70, 70))
            moved = rollout.worlds[-1].places - world.places
            # The workspace ends at 0.45 m, so what starts near the edge moves less.
            assert sign * moved[1, 0] > 0.04, (seed, direction, moved)


def test_lift_raises_the_named_thing_alone_and_carries_it() -> None:
    for seed in range(12):
        rng, world = scene(seed)
        rollout = play(rng, world, Task("lift", 2), (70, 70))
        heights = np.array([w.places[:, 2] for w in rollout.worlds])
        rise = heights.max(0) - heights[0]
        assert rise[2] > 0.15
        assert rise[:2].max() < 1e-6
        assert rollout.worlds[-1].held == 2


def test_approach_brings_two_things_together() -> None:
    for seed in range(12):
        rng, world = scene(seed)
        rollout = play(rng, world, Task("approach", 0, other=1), (70, 70))
        apart = [float(np.linalg.norm(w.places[0, :2] - w.places[1, :2])) for w in (world, rollout.worlds[-1])]
        assert apart[1] < apart[0] - 0.02


def test_what_is_let_go_falls_back_to_the_table() -> None:
    rng, world = scene(3)
    lifted = play(rng, world, Task("lift", 0), (45, 45)).worlds[-1]
    assert lifted.held == 0
    release = np.zeros(7, np.float32)
    release[6] = -1
    for _ in range(10):
        lifted = step(lifted, release)
    assert lifted.held == -1
    assert lifted.places[0, 2] == pytest.approx(lifted.things[0].radius)


def test_replaying_the_actions_replays_the_world() -> None:
    rng, world = scene(8)
    rollout = play(rng, world, draw_task(rng, world), (60, 60))
    for now in range(59):
        world = step(world, rollout.actions[now])
        np.testing.assert_array_equal(world.places, rollout.worlds[now + 1].places)
        np.testing.assert_array_equal(world.state, rollout.worlds[now + 1].state)


def test_the_first_frame_does_not_tell_the_task() -> None:
    rng, world = scene(4)
    tasks = {draw_task(rng, world) for _ in range(200)}
    assert len({task.thing for task in tasks}) == 3
    assert {task.kind for task in tasks} == {"push", "lift", "approach"}
    assert {task.direction for task in tasks} >= {"left", "right"}


def test_much_of_the_image_moves() -> None:
    """A world model must have something to predict: two sampled frames 8 source frames apart differ widely."""
    changed = {"front": [], "wrist": []}  # type: dict[str, list[float]]
    for seed in range(4):
        rng, world = scene(seed)
        worlds = play(rng, world, draw_task(rng, world), (60, 60)).worlds
        look = make_look(rng, "gripper")
        for name in changed:
            cameras = [front_camera() if name == "front" else wrist_camera(w.state) for w in worlds]
            frames = [render(w, look, c, 64, rng).astype(int) for w, c in zip(worlds[::8], cameras[::8], strict=True)]
            changed[name] += [float((np.abs(b - a).max(-1) > 25).mean()) for a, b in pairwise(frames)]
    assert np.mean(changed["front"]) > 0.1
    assert np.mean(changed["wrist"]) > 0.35


def test_sensor_noise_is_fresh_and_small() -> None:
    rng, world = scene(2)
    look = make_look(rng, "hand")
    first, second = (render(world, look, front_camera(), 64, rng).astype(float) for _ in range(2))
    assert np.std(first - second) == pytest.approx(SENSOR_NOISE * np.sqrt(2), rel=0.15)


def test_progress_and_refusals(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    write_ssv2(tmp_path, clips=3, seed=1, size=32, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 3), (2, 3), (3, 3)]
    with pytest.raises(RunError, match="not empty"):
        write_lerobot(tmp_path, episodes=1, seed=1)
    for settings in ({"size": 33}, {"clips": 2}):
        with pytest.raises(SettingsError):
            write_ssv2(tmp_path / "new", **{"clips": 4, "seed": 1, **settings})  # type: ignore[arg-type]


@pytest.mark.skipif(not hasattr(os, "sched_getscheduler"), reason="scheduling policies are read on Linux alone")
@pytest.mark.parametrize("codec", sorted(CODECS))
def test_writing_a_video_leaves_no_real_time_thread(tmp_path: Path, codec: str) -> None:
    """Also as root, for whom SVT-AV1 makes some."""

    def frames() -> Iterator[NDArray[np.uint8]]:
        for _ in range(3):
            yield np.zeros((64, 64, 3), np.uint8)
            policies.update(os.sched_getscheduler(int(thread)) for thread in os.listdir("/proc/self/task"))

    policies = {os.sched_getscheduler(0)}
    write_video(tmp_path / "x.mp4", frames(), 10, CODECS[codec])
    policies.add(os.sched_getscheduler(0))
    assert len(policies) == 1


@pytest.mark.skipif(not hasattr(os, "sched_getscheduler"), reason="scheduling policies are set on Linux alone")
def test_a_changed_priority_is_taken_back() -> None:
    before, ended = os.sched_getscheduler(0), threading.Event()
    with unchanged_priority():
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
        waiting = threading.Thread(target=ended.wait)
        waiting.start()
        assert waiting.native_id is not None
        assert {os.sched_getscheduler(0), os.sched_getscheduler(waiting.native_id)} == {os.SCHED_BATCH}
    after = {os.sched_getscheduler(0), os.sched_getscheduler(waiting.native_id)}
    ended.set()
    waiting.join()
    assert before != os.SCHED_BATCH
    assert after == {before}
