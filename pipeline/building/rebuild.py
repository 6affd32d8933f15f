"""One sample made again in memory by the functions of the two jobs, for experiments on them."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager

import numpy as np
from numpy.typing import NDArray

from pipeline.building.shard_jobs import Encode
from pipeline.errors import EpisodeError
from pipeline.format.enums import LatentDtype
from pipeline.format.episode import Episode
from pipeline.format.libraries import library_versions
from pipeline.planning.plan import Plan
from pipeline.samples.windows import Window
from pipeline.shards.int8 import dequantise, quantise_windows
from pipeline.sources.base import Source


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
        return bool(self._versions == library_versions())

    def open(self, episode: str) -> AbstractContextManager[Episode]:
        """Open an episode of the plan. Raises EpisodeError when it cannot be read."""
        if episode not in self._refs:
            raise EpisodeError("missing-file", f"the plan knows no episode {episode}")
        return self._source.open(self._refs[episode])

    def inputs(self, episode: Episode, now: int) -> Sequence[bytes]:
        """Payloads of the members of a sample: a JPEG for each view, then KEY.json."""
        sample = self._recipe.input_sample(episode, self._window(episode, now))
        return (*sample.images, sample.json)

    def latents(self, episode: Episode, now: int) -> NDArray[np.float16]:
        """Context and future as they are read from the build, float16 [K+1, V, N, D], zeros where a step is masked."""
        latents = self._encode(self._recipe.frame_block(episode, [self._window(episode, now)]))[0]
        if self._recipe.latents == LatentDtype.FLOAT16:
            return latents[0]
        values, scale, _ = quantise_windows(latents)
        return dequantise(values, scale)[0]

    def _window(self, episode: Episode, now: int) -> Window:
        policy, total = self._recipe.window, episode.num_frames
        count = min(policy.chunk, total - now) if self._recipe.sizes.action else 0
        return Window(now, policy.interval, policy.steps, total, count)
