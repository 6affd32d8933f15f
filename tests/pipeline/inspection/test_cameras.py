"""Each check of a camera finds the fault that was put in, and nothing in a film that is in order."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.inspection.cameras import exposure, frame_rate, still
from pipeline.inspection.cameras.look import MAX_FRAMES, frames_to_look_at, small
from tests.pipeline.inspection.films import FRAMES, RATE, film, joints, look


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("robot", [True, False])
def test_a_film_in_order(seed: int, robot: bool) -> None:
    own, state = look(film(seed=seed)), joints(seed=seed) if robot else None
    assert still.frozen("front", own, state, RATE) is None
    assert still.repeated("front", own) is None
    assert exposure.jumps("front", own) is None
    assert list(exposure.blank("front", own)) == []


@pytest.mark.parametrize("begin", [0, 40, FRAMES - 30])
def test_a_camera_that_froze_while_the_robot_moves(begin: int) -> None:
    cells = film()
    cells[begin : begin + 30] = cells[begin]
    flag = still.frozen("front", look(cells), joints(), RATE)
    assert flag is not None
    assert flag.leave_out
    assert f"frames {begin} to {begin + 29} of front show the same" in flag.detail


def test_a_robot_that_rests_is_no_frozen_camera() -> None:
    cells, state = film(), joints()
    cells[40:70], state[40:70] = cells[40], state[40]
    assert still.frozen("front", look(cells), state, RATE) is None


def test_a_video_that_froze_and_goes_on_with_a_jump() -> None:
    cells = np.concatenate([film(60, speed=0.1), film(60, speed=0.1)[:1].repeat(30, axis=0), film(30, seed=5)])
    flag = still.frozen("video", look(cells), None, RATE)
    assert flag is not None
    assert "and then jumps by" in flag.detail
    paused = np.concatenate([film(60), film(60)[-1:].repeat(30, axis=0)])  # somebody holds still: no jump
    assert still.frozen("video", look(paused), None, RATE) is None


def test_every_third_frame_written_twice() -> None:
    cells = film()
    cells[2::3] = cells[1::3]
    flag = still.repeated("front", look(cells))
    assert flag is not None
    assert flag.frame == 2


@pytest.mark.parametrize(("level", "check"), [(3, "black-frames"), (254, "blown-out-frames")])
def test_frames_that_show_nothing(level: int, check: str) -> None:
    cells = film()
    cells[50:54] = level
    (flag,) = exposure.blank("front", look(cells))
    assert (flag.check, flag.frame, flag.leave_out) == (check, 50, True)
    cells = film()
    cells[50] = level
    assert list(exposure.blank("front", look(cells))) == []


def test_an_exposure_that_jumps() -> None:
    cells = film().astype(np.float64)
    cells[60:] = np.clip(cells[60:] + 60, 0, 255)
    flag = exposure.jumps("front", look(cells.astype(np.uint8)))
    assert flag is not None
    assert flag.frame == 60
    cut = np.concatenate([film(60), np.clip(film(60, seed=3).astype(int) + 60, 0, 255).astype(np.uint8)])
    assert exposure.jumps("front", look(cut)) is None  # another picture, not another exposure


def test_rates() -> None:
    even = np.arange(FRAMES) / RATE
    assert list(frame_rate.within("front", even)) == []
    (drift,) = frame_rate.within("front", even * (1 + even / 10))
    assert drift.check == "rate-drift"
    gap = even + 1.0 * (np.arange(FRAMES) > 70)
    assert [(flag.check, flag.frame) for flag in frame_rate.within("front", gap)] == [("frame-gap", 70)]
    rates = {f"e-{i}": 30.0 + 0.01 * i for i in range(10)}
    assert list(frame_rate.between("front", rates)) == []
    (other,) = frame_rate.between("front", rates | {"e-4": 15.0})
    assert other.episode == "e-4"
    own = {f"e-{i}": 12.0 + 3 * (i % 4) for i in range(12)}  # clips, each with its rate
    assert list(frame_rate.between("front", own)) == []


def test_long_episodes_are_looked_at_in_stretches() -> None:
    numbers = frames_to_look_at(100_000)
    assert len(numbers) == MAX_FRAMES
    assert (numbers[0], numbers[-1]) == (0, 99_999)
    assert (np.diff(numbers) != 1).sum() == 3
    cells = film(len(numbers))
    own = type(look(cells)).of_cells(numbers, cells)
    assert np.isnan(own.change).sum() == 4
    assert still.frozen("front", own, joints(100_000), RATE) is None


def test_small_pictures_are_means_of_their_parts() -> None:
    frame = np.zeros((1, 128, 256, 3), np.uint8)
    frame[:, :64] = 200
    found = small(frame)
    assert found.shape == (1, 64, 64)
    assert (found[0, :32] == 200).all()
    assert (found[0, 32:] == 0).all()
