"""Which held-out samples exchange latent actions or images with which.

An exchange within an episode asks little: neighbours do nearly the same. One with another episode changes scene and
instruction. One with a twin, which has the same picture and another instruction, changes the instruction alone.

A blank picture is that of any episode, so it makes no twins. A robot that waits shows its twin's pictures many times:
all samples of episodes that share a picture are one scene.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

BLANK = ""
"""The name of a picture that shows nothing."""
_LEAST_CONTRAST = 2.0
"""Standard deviation of a channel over a picture, of 255: less is black, or one colour, with the noise of a codec."""


class PairKind(StrEnum):
    """Whose latent actions, or images, a sample gets."""

    OTHER_EPISODE = "other_episode"
    SAME_EPISODE = "same_episode"
    SAME_SCENE = "same_scene"


@dataclass(frozen=True)
class Pairs:
    """Partners of N samples, int64 [N, R] by kind: positions among them, then -1 where a sample has fewer than R.

    R is the most that any sample has of that kind; a kind without a partner for any sample is left out.

    episodes, scenes    string [N]; a scene is all episodes that share a picture, also by way of others
    """

    partners: dict[PairKind, NDArray[np.int64]]
    episodes: NDArray[np.str_]
    scenes: NDArray[np.str_]


def picture_name(images: NDArray[np.uint8]) -> str:
    """A name of a sample's picture, uint8 [V, H, W, 3]; `BLANK` where no view shows anything."""
    if (images.std(axis=(1, 2), dtype=np.float32) < _LEAST_CONTRAST).all():
        return BLANK
    return hashlib.sha256(images.tobytes()).hexdigest()


def find_pairs(
    episodes: Sequence[str], pictures: Sequence[str], instructions: Sequence[str], count: int, seed: int
) -> Pairs:
    """The partners of some samples: up to `count` different ones of each kind, drawn at random from those that fit.

    Args:
        episodes: of each sample.
        pictures: a name of each sample's picture, see `picture_name`.
        instructions: of each sample.
    """
    names = [np.array(values) for values in (episodes, pictures, instructions)]
    episode, picture, instruction = (np.unique(each, return_inverse=True)[1] for each in names)  # texts compare slowly
    shown = names[1] != BLANK
    rng = np.random.default_rng(seed)
    found = {kind: np.full((len(episode), count), -1, np.int64) for kind in PairKind}
    for i in range(len(episode)):
        same = episode == episode[i]
        alike = (picture == picture[i]) & shown
        choices = {
            PairKind.OTHER_EPISODE: ~same & ~alike,
            PairKind.SAME_EPISODE: same & (np.arange(len(episode)) != i),
            PairKind.SAME_SCENE: alike & (instruction != instruction[i]),
        }
        for kind, fits in choices.items():
            drawn = rng.permutation(np.flatnonzero(fits))[:count]
            found[kind][i, : len(drawn)] = drawn
    used = {kind: of[:, (of >= 0).any(axis=0)] for kind, of in found.items()}
    return Pairs({kind: of for kind, of in used.items() if of.size}, names[0], _scenes(episode, picture, shown))


def _scenes(episode: NDArray[np.int64], picture: NDArray[np.int64], shown: NDArray[np.bool_]) -> NDArray[np.str_]:
    """The scene of each sample.

    Args:
        episode, picture: numbers from 0 on.
        shown: which pictures are not blank.
    """
    from scipy.sparse import coo_array  # here: it takes long to import
    from scipy.sparse.csgraph import connected_components

    episodes = episode.max(initial=-1) + 1
    nodes = episodes + picture.max(initial=-1) + 1
    links = (episode[shown], episodes + picture[shown])
    graph = coo_array((np.ones(shown.sum(), np.int8), links), shape=(nodes, nodes))
    labels = connected_components(graph.tocsr(), directed=False)[1]
    names: NDArray[np.str_] = labels[episode].astype(str)
    return names
