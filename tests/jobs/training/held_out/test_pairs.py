"""Whose latent actions a held-out sample gets, and what comes of it."""

from __future__ import annotations

import numpy as np

from jobs.training.held_out.pairs import PairKind, find_pairs
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
