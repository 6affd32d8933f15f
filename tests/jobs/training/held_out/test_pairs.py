"""Whose latent actions a held-out sample gets, and what comes of it."""

from __future__ import annotations

import numpy as np

from jobs.training.held_out.intervals import share_interval
from jobs.training.held_out.pairs import BLANK, PairKind, find_pairs, picture_name
from jobs.training.held_out.summary import summarise

EPISODES = ["a", "a", "b", "c", "d"]
SCENES = ["1", "2", "3", "3", "4"]
WORDS = ["left", "left", "left", "right", "left"]


def test_partners_are_of_another_episode_and_picture_of_the_same_or_twins() -> None:
    for seed in range(20):
        pairs = find_pairs(EPISODES, SCENES, WORDS, 1, seed)
        other, same, twin = (pairs.partners[kind][:, 0].tolist() for kind in PairKind)
        assert all(EPISODES[i] != EPISODES[j] and SCENES[i] != SCENES[j] for i, j in enumerate(other))
        assert same == [1, 0, -1, -1, -1]
        assert twin == [-1, -1, 3, 2, -1]


def test_a_sample_has_as_many_different_partners_as_there_are() -> None:
    pairs = find_pairs(EPISODES, SCENES, WORDS, 3, 0)
    other = pairs.partners[PairKind.OTHER_EPISODE].tolist()
    assert [sorted(each) for each in other[:4]] == [[2, 3, 4], [2, 3, 4], [0, 1, 4], [0, 1, 4]]
    assert len(set(other[4]) - {-1, 4}) == 3  # of four
    assert pairs.partners[PairKind.SAME_EPISODE].tolist() == [[1], [0], [-1], [-1], [-1]]
    assert pairs.partners[PairKind.SAME_SCENE].tolist() == [[-1], [-1], [3], [2], [-1]]


def test_equal_pictures_with_one_instruction_are_no_twins() -> None:
    assert PairKind.SAME_SCENE not in find_pairs(["a", "b"], ["1", "1"], ["left", "left"], 4, 0).partners
    assert set(find_pairs(["a", "a"], ["1", "2"], ["left", "left"], 4, 0).partners) == {PairKind.SAME_EPISODE}


def waiting(pairs: int, frames: int) -> tuple[list[str], list[str], list[str]]:
    """Twins whose robot waits: episodes, pictures and instructions of the samples, `frames` pictures of each pair."""
    samples = [(f"{p}-{m}", f"{p}-{f}", f"do {m}") for p in range(pairs) for f in range(frames) for m in range(2)]
    episodes, pictures, instructions = zip(*samples, strict=True)
    return list(episodes), list(pictures), list(instructions)


def test_twins_that_share_several_pictures_are_one_scene() -> None:
    for frames in (1, 5):
        found = find_pairs(*waiting(10, frames), 4, 0)
        assert len(found.partners[PairKind.SAME_SCENE]) == 20 * frames
        assert len(np.unique(found.scenes)) == 10


def test_episodes_are_of_one_scene_also_by_way_of_others() -> None:
    episodes = ["a", "a", "b", "b", "c", "d", "e", "f"]
    pictures = ["1", "2", "2", "3", "3", "4", BLANK, BLANK]
    scenes = find_pairs(episodes, pictures, ["w"] * 8, 4, 0).scenes
    assert len({*scenes[:5]}) == 1
    assert len({*scenes}) == 4  # blank pictures bind nothing


def test_intervals_of_twins_that_wait_hold_the_truth() -> None:
    """Right or wrong is a pair of episodes, true share 0.75; each scene's pictures by themselves held it in half."""
    rng, hits, samples = np.random.default_rng(0), 0, waiting(10, 5)
    pairs = find_pairs(*samples, 1, 0)
    for _ in range(200):
        right = (rng.random(10) < 0.75).astype(float).repeat(10)
        found = share_interval(right, pairs.scenes)
        assert found is not None
        assert found.low is not None
        assert found.high is not None
        assert found.groups == 10
        hits += found.low <= 0.75 <= found.high
    assert hits >= 0.92 * 200


def test_blank_pictures_make_no_twins() -> None:
    """As of films that fade in: of unrelated clips, which are each other's other episodes."""
    rng, black = np.random.default_rng(0), np.zeros((2, 8, 8, 3), np.uint8)
    noisy = rng.integers(0, 3, black.shape).astype(np.uint8)
    shown = black.copy()
    shown[1, :4] = 200  # one view shows something
    grey = np.full_like(black, 90)
    assert [picture_name(each) for each in (black, noisy, grey)] == [BLANK] * 3
    assert len({BLANK, picture_name(shown), picture_name(shown // 2)}) == 3
    pairs = find_pairs(["a", "b"], [BLANK, BLANK], ["left", "right"], 4, 0)
    assert set(pairs.partners) == {PairKind.OTHER_EPISODE}


def test_numbers_of_a_build_follow_from_those_of_its_samples() -> None:
    """Two steps and views: the own error is 1, that of two other episodes 1 and 2, between twins 3 in one view and 1 in
    the other."""
    pairs = find_pairs(EPISODES, SCENES, WORDS, 2, 0)
    errors, exchanged = np.full((5, 2, 2, 2), np.nan), np.full((5, 3, 2, 2, 2), np.nan)
    errors[:, 0], errors[:, 1] = 1.0, 4.0
    exchanged[:, 0, 0], exchanged[:, 0, 1] = 1.0, 2.0
    exchanged[2:4, 2, 0, :, 0], exchanged[2:4, 2, 0, :, 1] = 3.0, 1.0
    errors[4, :, 1] = exchanged[4, :, :, 1] = np.nan  # masked
    futures = np.full((5, 3), np.nan)
    futures[2:4, :2] = [[1.0, 1.5], [2.0, 1.0]]
    action, images = np.full(5, 0.5), np.full((5, 3, 2), np.nan)
    images[:, 0] = [1.0, 2.0]
    found = summarise(errors, exchanged, futures, action, images, np.full(5, 7.0), pairs)
    assert (found.model, found.nothing_changes, found.shuffled, found.action) == (1.0, 4.0, 1.5, 0.5)
    assert set(found.latent_action_reliance) == {"other_episode", "same_scene"}
    other = found.latent_action_reliance["other_episode"].all
    assert (other.value, other.pairs, other.groups) == (1.5, 10, 4)
    assert (other.low, other.high) == (None, None)  # four episodes
    twins = found.latent_action_reliance["same_scene"]
    assert (twins.all.value, twins.all.pairs, twins.all.groups) == (2.0, 2, 1)
    assert twins.per_view == (3.0, 1.0)
    assert twins.per_step == (2.0, 2.0)
    assert found.two_alternative is not None
    assert (found.two_alternative.value, found.two_alternative.pairs) == (0.5, 2)
    assert set(found.image_reliance) == {"other_episode"}
    assert (found.image_reliance["other_episode"].value, found.image_reliance["other_episode"].pairs) == (3.0, 10)
    assert (found.by_episode["a"].samples, found.by_episode["a"].shuffled) == (2, 1.5)
