"""One sample made again in memory by the functions of the two jobs, for experiments on them."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from importlib.metadata import version

import numpy as np
from numpy.typing import NDArray

from pipeline.building.shard_jobs import Encode
from pipeline.encoder.encoder_frames import cut_frames
from pipeline.errors import EpisodeError
from pipeline.format.enums import LatentDtype
from pipeline.format.episode import Episode
from pipeline.planning.plan import Plan
from pipeline.samples.inputs import build_input
from pipeline.samples.windows import Window
from pipeline.shards.int8 import dequantise, quantise_windows
from pipeline.sources.base import Source
from pipeline.sources.truncated import TruncatedEpisode


class SampleRebuilder:
    """Rebuilds samples of a plan.

    Args:
        plan: that of the build.
        source: its raw data.
        encode: `Encoder.encode` of the plan's encoder.
    """

    def __init__(self, plan: Plan, source: Source, encode: Encode) -> None:
        self._recipe, self._source, self._encode = plan.recipe(), source, encode
        self._refs = {ref.id: ref for task in plan.tasks for ref in task.episodes}
        self._versions = plan.content["versions"]

    @property
    def exact(self) -> bool:
        """Whether every library is the one that made the build."""
        return all(version(name) == claimed for name, claimed in self._versions.items())

    def open(self, episode: str) -> AbstractContextManager[Episode]:
        """Open an episode of the plan. Raises EpisodeError when it cannot be read."""
        if episode not in self._refs:
            raise EpisodeError("missing-file", f"the plan knows no episode {episode}")
        return self._source.open(self._refs[episode])

    def inputs(self, episode: Episode, now: int) -> Sequence[bytes]:
        """Payloads of the members of a sample: a JPEG for each view, then KEY.json."""
        recipe, window = self._recipe, self._window(episode, now)
        sample = build_input(
            TruncatedEpisode(episode, now), window.key(episode.id), episode.id, recipe.name, recipe.views, recipe.inputs
        )
        return (*sample.images, sample.json)

    def latents(self, episode: Episode, now: int) -> NDArray[np.float16]:
        """Context and future as they are read from the build, float16 [K+1, V, N, D], zeros where a step is masked."""
        recipe = self._recipe
        block = cut_frames(episode, [self._window(episode, now)], recipe.views, recipe.frames, recipe.mode)
        latents = self._encode(block)[0]
        if recipe.latents == LatentDtype.FLOAT16:
            return latents[0]
        values, scale, _ = quantise_windows(latents)
        return dequantise(values, scale)[0]

    def _window(self, episode: Episode, now: int) -> Window:
        policy, total = self._recipe.window, episode.num_frames
        count = min(policy.chunk, total - now) if self._recipe.sizes.action else 0
        return Window(now, policy.interval, policy.steps, total, count)
