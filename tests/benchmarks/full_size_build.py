"""A finished build of full-size samples, by the jobs that make any build, without the hours an encoder would take.

Latents are random numbers and images random colours, because only their sizes matter here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from jobs.cluster.settings import ClusterSettings
from jobs.datasets.configured_source import SourceChoice
from jobs.preprocess.plan import build_settings, new_plan
from jobs.preprocess.settings import BuildConfig
from pipeline.building.commit import commit
from pipeline.building.shard_jobs import decode_group, write_inputs_shard, write_targets_shard
from pipeline.format.build import Build, load_build
from pipeline.format.build_settings import (
    BuildSettings,
    EncoderSettings,
    InputSettings,
    LatentSettings,
    ShardSettings,
    WindowPolicy,
)
from pipeline.format.input_sample import InputSample
from pipeline.format.machine import Machine
from pipeline.format.schema import Sizes
from pipeline.format.settings import deciding
from pipeline.planning.plan import write_plan
from pipeline.samples.inputs import build_input
from pipeline.shards.targets_arrow import TargetRows
from pipeline.sources.base import EpisodeRef, SourceIndex
from pipeline.sources.episode.truncated import TruncatedEpisode
from pipeline.sources.libero.source import LiberoSource
from pipeline.sources.video.clock import clock_times
from pipeline.storage.store import open_store

SIZES = Sizes(views=2, image_size=224, steps=3, tokens=256, width=1024, state=8, chunk=7, action=7)
"""A robot sample of the reference: 4 MiB of float16 latents."""

VIDEO_SIZES = Sizes(views=1, image_size=224, steps=3, tokens=256, width=1024, state=0, chunk=0, action=0)
"""A sample of human video: one view, no state, no actions."""

VIEWS = ("front", "wrist")
MACHINE = Machine("none: latents are drawn", "", "", "highest")

CHUNK = 16
"""Samples written at once, one Arrow record batch."""

NAME = "benchmark"
FRAMES = 2 * SIZES.steps + 1
"""Frames of an episode: enough for one window."""


class RandomSamples:
    """Distinct samples cut at different places out of one pool of random numbers. Sample i is that of episode i."""

    def __init__(self, sizes: Sizes = SIZES, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.sizes, self.views = sizes, VIEWS[: sizes.views]
        self._row = sizes.views * sizes.tokens * sizes.width
        self._pool = rng.standard_normal(2 * (sizes.steps + 1) * self._row, np.float32).astype(np.float16)
        self._pictures = tuple(_picture(rng, sizes.image_size) for _ in range(32))

    def picture(self, index: int, view: str) -> NDArray[np.uint8]:
        """uint8 [H, W, 3]."""
        return self._pictures[(index * self.sizes.views + self.views.index(view)) % len(self._pictures)]

    def inputs(self, index: int) -> InputSample:
        """As the inputs job makes them."""
        episode, settings = RandomEpisode(self, index), InputSettings(image_size=self.sizes.image_size)
        return build_input(TruncatedEpisode(episode, 0), sample_key(index), episode.id, NAME, self.views, settings)

    def targets(self, index: int) -> NDArray[np.float16]:
        """float16 [K+1, V, N, D]; step 0 is the context."""
        s, size = self.sizes, (self.sizes.steps + 1) * self._row
        start = index * 4099 % size
        return self._pool[start : start + size].reshape(s.steps + 1, s.views, s.tokens, s.width)

    def latents(self, indices: Sequence[int]) -> tuple[NDArray[np.float16], NDArray[np.bool_]]:
        """What an encoder would return: float16 [W, K+1, V, N, D], and bool [W, K+1] all True."""
        return np.stack([self.targets(i) for i in indices]), np.ones((len(indices), self.sizes.steps + 1), bool)

    def rows(self, indices: range) -> TargetRows:
        """Supervision as the targets job writes it."""
        stacked, valid = self.latents(indices)
        return TargetRows(
            tuple(sample_key(i) for i in indices),
            stacked[:, 0],
            stacked[:, 1:],
            valid[:, 1:],
            np.stack([RandomEpisode(self, i).actions(0, self.sizes.chunk) for i in indices]),
            np.ones((len(indices), self.sizes.chunk), bool),
        )


def sample_key(index: int) -> str:
    return f"e{index:06d}-000000"


def sample_index(key: str) -> int:
    return int(key[1:7])


@dataclass(frozen=True)
class RandomEpisode:
    """The episode of one sample."""

    samples: RandomSamples
    index: int
    num_frames: int = FRAMES

    @property
    def id(self) -> str:
        return f"e{self.index:06d}"

    def frames(self, view: str, indices: Sequence[int]) -> NDArray[np.uint8]:
        picture = self.samples.picture(self.index, view)
        return np.broadcast_to(picture, (len(indices), *picture.shape))

    def timestamps(self, indices: Sequence[int]) -> NDArray[np.float64]:
        return clock_times(indices, Fraction(1, 30))

    def instruction(self, index: int) -> str:
        return f"put object {self.index} into the drawer"

    def state(self, index: int) -> NDArray[np.float32] | None:
        width = self.samples.sizes.state
        return np.full(width, self.index / 8, np.float32) if width else None

    def actions(self, start: int, stop: int) -> NDArray[np.float32] | None:
        width = self.samples.sizes.action
        return np.full((stop - start, width), self.index, np.float32) if width else None

    def close(self) -> None: ...

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


@dataclass(frozen=True)
class RandomSource:
    """So many episodes of one window."""

    episodes: int
    sizes: Sizes = SIZES
    name: str = NAME
    root: str = field(default="/nowhere", repr=False)

    def index(self) -> SourceIndex:
        refs = tuple(_planned(RandomEpisode(_samples(self.sizes), i)) for i in range(self.episodes))
        s = self.sizes
        counts = {"train": len(refs), "val": 0}
        facts = {
            "type": "libero",
            "tasks": 1,
            "episodes": counts,
            "splits_from": "hash of the own id, val_share 0.05, split_seed 0",
        }
        return SourceIndex(self.name, VIEWS[: s.views], s.state, s.action, 30.0, refs, (), facts)

    def open(self, ref: EpisodeRef) -> RandomEpisode:
        return RandomEpisode(_samples(self.sizes), sample_index(ref.id))


class RandomChoice(SourceChoice):
    """A source that no command line names; what is recorded of it is that of demonstrations."""

    def content(self) -> dict[str, Any]:
        """What is recorded of it."""
        robot = bool(self.reader.sizes.state)
        vectors = {"state": ("state",), "action": ("action",)} if robot else {"state": (), "action": ()}
        return {"type": "libero", **deciding(LiberoSource(root="/nowhere", name=NAME, fps=30.0, **vectors))}


def _planned(episode: RandomEpisode) -> EpisodeRef:
    data = {"demo": "demo_0", "instruction": episode.instruction(0), "upside_down": False}
    return EpisodeRef(episode.id, "train", (), FRAMES, data)


@cache
def _samples(sizes: Sizes) -> RandomSamples:
    return RandomSamples(sizes)


def write_full_size_build(
    out: Path, shards: int, shard_samples: int, sizes: Sizes = SIZES, latents: str = "float16"
) -> Build:
    """Make a build with one train split. Its encoder is the tiny one by name, with other latents."""
    source = RandomSource(shards * shard_samples, sizes)
    config = BuildConfig(
        out=out,
        source=RandomChoice("random", source),
        window=WindowPolicy(steps=sizes.steps, chunk=max(1, sizes.chunk), every=0, per_episode=1),
        inputs=InputSettings(image_size=sizes.image_size),
        encoder=EncoderSettings(kind="tiny", resize="squash"),
        shards=ShardSettings(samples=shard_samples, group_samples=CHUNK),
        cluster=ClusterSettings(),
        latents=LatentSettings(dtype=latents),
    )
    asked = dict(build_settings(config).content)
    asked["encoder"] |= {"tokens": sizes.tokens, "width": sizes.width, "crop_size": 16}
    plan, store = new_plan(config, BuildSettings.read(asked)), open_store(out)
    write_plan(plan, store)
    recipe = plan.recipe()
    for task in plan.tasks:
        write_inputs_shard(source, task, recipe, (), store)
        chunks = (decode_group(source, refs, recipe, ()) for refs in task.groups)
        encoded = (_samples(sizes).latents([sample_index(ref.id) for ref in refs]) for refs in task.groups)
        write_targets_shard(chunks, lambda _, encoded=encoded: next(encoded), MACHINE, task, recipe, (), store)
    commit(plan, store)
    return load_build(out)


def _picture(rng: np.random.Generator, size: int) -> NDArray[np.uint8]:
    """Smooth colours with a little grain: about 40 KB as a JPEG of quality 95, like a photograph of this size."""
    coarse = Image.fromarray(rng.integers(0, 256, (14, 14, 3), np.uint8))
    smooth = np.asarray(coarse.resize((size, size), Image.Resampling.BICUBIC))
    grain = rng.integers(-6, 7, (size, size, 1), np.int16)
    return np.clip(smooth.astype(np.int16) + grain, 0, 255).astype(np.uint8)
