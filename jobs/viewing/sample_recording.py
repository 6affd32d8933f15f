"""Samples of a build in a recording: on the timeline `frame` stands what is known of each frame of the episode.

Below `samples/KEY` there are `cameras/VIEW` (the current frame), `instruction`, `state/CHANNEL`, `actions/CHANNEL` (an
action at the frame it is taken at), and `latents/VIEW` (three main directions as colours, at the frame a step ends).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jobs.common.policy.channels import Channels
from jobs.datasets.contract.build_contract import interface_of
from jobs.report.latent_images import Colours, fit_colours, to_rgb
from jobs.viewing.recorder import entity
from pipeline.errors import BuildError
from pipeline.format.build import Build
from pipeline.format.schema import Batch
from pipeline.format.text.printable import shown
from pipeline.shards.int8 import dequantise
from pipeline.streaming.reader import SampleReader
from pipeline.streaming.sample_table import SampleTable

TIMELINE = "frame"


class SampleRecorder:
    """Writes samples of one build. Samples are compared with the build's manifest, not with a verdict."""

    def __init__(self, rerun: Any, stream: Any, build: Build) -> None:
        self._rerun, self._stream, self._build = rerun, stream, build
        self._places = places(build)
        self._readers: dict[str, SampleReader] = {}
        interface = interface_of(build.manifest) if build.has_actions else None
        self._state = channel_names(interface.state_channels if interface else (), build.sizes.state)
        self._actions = channel_names(interface.action_channels if interface else (), build.sizes.action)

    @property
    def keys(self) -> tuple[str, ...]:
        """Of all samples, in order."""
        return tuple(self._places)

    def first_keys(self) -> list[str]:
        """The first of each split."""
        splits = dict.fromkeys(split for split, _ in self._places.values())
        return [next(key for key, (own, _) in self._places.items() if own == split) for split in splits]

    def record(self, key: str) -> int:
        """Returns the frame of `now`. Raises BuildError if there is no such sample, CorruptError if it is damaged."""
        if key not in self._places:
            raise BuildError(f"{self._build.path} has no sample {shown(key)}; its keys are in samples.parquet")
        split, index = self._places[key]
        if split not in self._readers:
            self._readers[split] = SampleReader(self._build, split, open_shards=2)
        batch = self._readers[split].read(np.array([index], np.int64))
        now = int(key.rpartition("-")[2])
        self._inputs(key, now, batch)
        self._supervision(key, now, batch)
        return now

    def _log(self, key: str, names: Sequence[str], value: Any) -> None:
        self._stream.log(entity(self._rerun, "samples", key, *names), value)

    def _inputs(self, key: str, now: int, batch: Batch[NDArray[Any]]) -> None:
        self._stream.set_time(TIMELINE, sequence=now)
        inputs = batch.observation
        for view, image in zip(self._build.views, inputs.images[0], strict=True):
            self._log(key, ("cameras", view), self._rerun.Image(np.ascontiguousarray(image)))
        self._log(key, ("instruction",), self._rerun.TextDocument(inputs.instruction[0], media_type="text/plain"))
        if inputs.state is not None:
            for name, value in zip(self._state, inputs.state[0].tolist(), strict=True):
                self._log(key, ("state", name), self._rerun.Scalars([value]))

    def _supervision(self, key: str, now: int, batch: Batch[NDArray[Any]]) -> None:
        targets, interval = batch.targets, self._build.settings.window.interval
        if targets.actions is not None and targets.action_mask is not None:
            for step in np.flatnonzero(targets.action_mask[0]).tolist():
                self._stream.set_time(TIMELINE, sequence=now + step)
                for name, value in zip(self._actions, targets.actions[0, step].tolist(), strict=True):
                    self._log(key, ("actions", name), self._rerun.Scalars([value]))
        latents = {0: _plain(targets.context[0], targets.context_scale)}
        steps = _plain(targets.latents[0], targets.latents_scale)
        latents |= {k + 1: steps[k] for k in np.flatnonzero(targets.latent_mask[0]).tolist()}
        colours = fit_colours(np.stack(list(latents.values())))
        for step, values in latents.items():
            self._stream.set_time(TIMELINE, sequence=now + 2 * step * interval)
            for view, tokens in zip(self._build.views, values, strict=True):
                self._log(key, ("latents", view), self._rerun.Image(picture(tokens, colours)))


def picture(tokens: NDArray[np.float32], colours: Colours) -> NDArray[np.uint8]:
    """uint8 [side, side, 3] of latents [N, D]; one row of squares where N is no square number."""
    side = math.isqrt(len(tokens))
    shape = (side, side) if side * side == len(tokens) else (1, len(tokens))
    return np.ascontiguousarray(to_rgb(tokens, colours).reshape(*shape, 3))


def channel_names(groups: Sequence[Channels], width: int) -> list[str]:
    """A name of its own for each channel; its number where nobody said what it is."""
    names = [name for group in groups for name in group.names]
    if len(names) != width:
        return [f"channel {index}" for index in range(width)]
    return names if len(set(names)) == width else [f"{index} {name}" for index, name in enumerate(names)]


def places(build: Build) -> dict[str, tuple[str, int]]:
    """Split and place in it of every sample, by key."""
    found: dict[str, tuple[str, int]] = {}
    for split, count in build.manifest["counts"].items():
        if count["samples"]:
            table = SampleTable(build, split, None)
            found |= {table.key(index): (split, index) for index in range(len(table))}
    return found


def _plain(values: NDArray[Any], scale: NDArray[np.float32] | None) -> NDArray[np.float32]:
    whole = values if scale is None else dequantise(values, scale[0])
    return whole.astype(np.float32)
