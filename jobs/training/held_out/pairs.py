"""Which held-out samples exchange latent actions or images with which.

An exchange within an episode asks little: neighbours do nearly the same. One with another episode changes scene and
instruction. One with a twin, which has the same picture and another instruction, changes the instruction alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray


class PairKind(StrEnum):
    """Whose latent actions, or images, a sample gets."""

    OTHER_EPISODE = "other_episode"
    SAME_EPISODE = "same_episode"
    SAME_SCENE = "same_scene"


@dataclass(frozen=True)
class Pairs:
    """Partners of N samples, int64 [N, R] by kind: positions among them, then -1 where a sample has fewer than R.

    R is the most that any sample has of that kind; a kind without a partner for any sample is left out.

    episodes, scenes    string [N]; samples of one scene have the same picture
    """

    partners: dict[PairKind, NDArray[np.int64]]
    episodes: NDArray[np.str_]
    scenes: NDArray[np.str_]


def find_pairs(
    episodes: Sequence[str], scenes: Sequence[str], instructions: Sequence[str], count: int, seed: int
) -> Pairs:
    """The partners of some samples: up to `count` different ones of each kind, drawn at random from those that fit.

    Args:
        episodes: of each sample.
        scenes: a name of each sample's picture.
        instructions: of each sample.
    """
    names = [np.array(values) for values in (episodes, scenes, instructions)]
    episode, scene, instruction = (np.unique(each, return_inverse=True)[1] for each in names)  # texts compare slowly
    rng = np.random.default_rng(seed)
    found = {kind: np.full((len(episode), count), -1, np.int64) for kind in PairKind}
    for i in range(len(episode)):
        same = episode == episode[i]
        choices = {
            PairKind.OTHER_EPISODE: ~same & (scene != scene[i]),
            PairKind.SAME_EPISODE: same & (np.arange(len(episode)) != i),
            PairKind.SAME_SCENE: (scene == scene[i]) & (instruction != instruction[i]),
        }
        for kind, fits in choices.items():
            drawn = rng.permutation(np.flatnonzero(fits))[:count]
            found[kind][i, : len(drawn)] = drawn
    used = {kind: of[:, (of >= 0).any(axis=0)] for kind, of in found.items()}
    return Pairs({kind: of for kind, of in used.items() if of.size}, names[0], names[1])
