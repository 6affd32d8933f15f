"""Episodes before they are drawn: a scene, what happens in it, how it looks. Twins share all but what happens."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from pipeline.sample_world.render import Look, make_look
from pipeline.sample_world.script import Rollout, draw_task, make_world, play
from pipeline.sample_world.variety import Variety
from pipeline.sample_world.world import World

TWIN = 1_000_000_000
"""Added to the number of a scene of twins, which is thus none of the others."""


@dataclass(frozen=True)
class Scene:
    """One episode; `rng` gives what its frames need by chance."""

    rollout: Rollout
    look: Look
    rng: np.random.Generator

    @property
    def first(self) -> World:
        """The world at its first frame."""
        return self.rollout.worlds[0]


@dataclass(frozen=True)
class Film:
    """What all episodes of a dataset have in common. `frames` is the shortest and longest length, unless the variety
    says another; `effector` is "gripper" or "hand"."""

    seed: int
    half: int
    effector: str
    frames: tuple[int, int]
    variety: Variety

    def scene(self, number: int) -> Scene:
        """The episode of this number."""
        rng, variety = np.random.default_rng([self.seed, self.half, number]), self.variety
        world = make_world(rng, variety)
        rollout = play(rng, world, draw_task(rng, world, variety), variety.steps(self.frames), variety)
        return Scene(rollout.filmed(variety.stride), make_look(rng, self.effector, variety), rng)

    def twins(self, number: int) -> tuple[Scene, Scene]:
        """Two episodes that begin with the same picture and have different tasks."""
        key, variety = [self.seed, self.half, TWIN + number], self.variety
        rng = np.random.default_rng(key)
        world, look = make_world(rng, variety), make_look(rng, self.effector, variety)
        first = second = draw_task(rng, world, variety)
        while second == first:
            second = draw_task(rng, world, variety)
        motion, noise = ([*key, purpose] for purpose in range(2))
        one, other = (
            play(np.random.default_rng(motion), world, task, variety.steps(self.frames), variety).filmed(variety.stride)
            for task in (first, second)
        )
        return Scene(one, look, np.random.default_rng(noise)), Scene(other, look, np.random.default_rng(noise))

    def episodes(self, singles: int, twins: int) -> Iterator[Scene]:
        """`singles` episodes, then `twins` pairs of twins."""
        for number in range(singles):
            yield self.scene(number)
        for number in range(twins):
            yield from self.twins(number)
