"""Idle ends, outlying lengths, texts that say nothing, and episodes that are there twice."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.inspection.episodes.duplicates import Signature, duplicates, numbers_of
from pipeline.inspection.episodes.idle import idle
from pipeline.inspection.episodes.lengths import outliers
from pipeline.inspection.episodes.texts import check_texts, no_instruction, says_twice
from tests.pipeline.inspection.films import RATE, film, joints, look

LONG = 300


def test_idle_ends_by_the_state() -> None:
    state = joints(LONG)
    assert list(idle(state, {}, LONG, RATE)) == []
    state[:90], state[-100:] = state[90], state[-100]
    state += np.random.default_rng(1).normal(0, 1e-4, state.shape)
    flags = {flag.check: flag for flag in idle(state, {}, LONG, RATE)}
    assert set(flags) == {"idle-head", "idle-tail"}
    assert "frames" in flags["idle-head"].detail
    assert flags["idle-tail"].frame is not None
    assert abs(flags["idle-tail"].frame - 200) <= 3


def test_an_episode_in_which_nothing_moves() -> None:
    (flag,) = idle(np.full((LONG, 3), 0.5), {}, LONG, RATE)
    assert (flag.check, flag.leave_out) == ("idle-episode", True)


def test_noise_of_a_resting_joint_hides_no_idle_head() -> None:
    state = joints(LONG)
    state[:120] = state[120]
    state[:, 2] = np.random.default_rng(0).normal(0, 1e-4, LONG)  # this joint never moves
    assert [flag.check for flag in idle(state, {}, LONG, RATE)] == ["idle-head"]


def test_idle_ends_by_the_pictures() -> None:
    cells = film(LONG)
    held = np.concatenate([cells[:1].repeat(120, axis=0), film(136, speed=1.0)])
    flags = list(idle(None, {"video": look(held)}, len(held), RATE))
    assert [flag.check for flag in flags] == ["idle-head"]
    (flag,) = idle(None, {"video": look(cells[:1].repeat(100, axis=0))}, 100, RATE)
    assert flag.check == "idle-episode"


def test_lengths() -> None:
    lengths = {f"e-{i}": 80 + 3 * i for i in range(30)}
    assert list(outliers(lengths)) == []
    flags = outliers(lengths | {"e-3": 4, "e-9": 2000})
    assert {flag.episode for flag in flags} == {"e-3", "e-9"}
    wide = {f"e-{i}": int(30 * 1.2**i) for i in range(20)}  # a set of short and long tasks
    assert list(outliers(wide)) == []


@pytest.mark.parametrize(
    "text",
    ["test", "N/A", " TODO. ", "task_12", "episode 7", "123", "?!", "/data/a.mp4", "clip.webm", "aaaa", "Grasp_single"],
)
def test_texts_that_are_no_instruction(text: str) -> None:
    assert no_instruction(text)
    (flag,) = check_texts({"e-1": text})
    assert (flag.check, flag.leave_out) == ("no-instruction", True)


@pytest.mark.parametrize(
    "text",
    [
        "open the drawer",
        "wipe",
        "把杯子放到桌上",
        "déplace « ep_a »",
        "pick up 2 cups",
        "push it, push it",
        "Testing the lid",
    ],
)
def test_texts_that_are_one(text: str) -> None:
    assert no_instruction(text) == ""
    assert not says_twice(text)


def test_a_text_that_says_the_same_twice_and_one_for_all() -> None:
    assert says_twice("pick up the cup. Pick up the cup")
    texts = {f"e-{i}": "pick up the cup" for i in range(20)}
    (flag,) = check_texts(texts)
    assert (flag.check, flag.note) == ("one-text", True)
    assert list(check_texts(texts | {"e-3": "open it"})) == []


def _signature(name: str, seed: int, noise: float = 0, state: bool = True) -> Signature:
    cells = film(seed=seed)
    if noise:
        cells = np.clip(cells + np.random.default_rng(9).normal(0, noise, cells.shape), 0, 255).astype(np.uint8)
    return Signature(name, len(cells), numbers_of(joints(seed=seed)) if state else "", look(cells).keys)


def test_episodes_that_are_there_twice() -> None:
    found = [_signature(f"e-{i}", i) for i in range(6)]
    assert list(duplicates(found)) == []
    (flag,) = duplicates([*found, _signature("e-9", 2)])
    assert (flag.episode, flag.leave_out) == ("e-9", True)
    assert "those of e-2, to the bit" in flag.detail
    videos = [_signature(f"e-{i}", i, state=False) for i in range(6)]
    (flag,) = duplicates([*videos, _signature("e-9", 2, noise=1.0, state=False)])  # coded again
    assert flag.episode == "e-9"
    assert "pictures are those of e-2" in flag.detail


def test_still_episodes_alike_are_no_copies() -> None:
    still = film()[:1].repeat(100, axis=0)
    found = [Signature(name, 100, "", look(still).keys) for name in ("e-0", "e-1")]
    assert list(duplicates(found)) == []
