"""One sample to look at. Letters as in `pipeline.format.schema`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from jobs.report.latent_images import fit_colours, input_image, png_uri, to_rgb
from pipeline.format.schema import Batch
from pipeline.shards.int8 import dequantise

_SIDE = 112
"""Pixels that the side of a latent map has at least."""


@dataclass(frozen=True, repr=False)
class Sample:
    """What the student may see at `now`, and the supervision, which no input holds.

    build, split, episode, key   where it is from
    images       uint8 RGB [H, W, 3] by view
    instruction  of the task
    state        float32 [S] in the source's units; None for human video
    actions      float32 [T, A] from `now` on, in the source's units; None for human video
    action_mask  bool [T], False past the episode's end; None for human video
    context      float16 [V, N, D], the latents of the present
    latents      float16 [K, V, N, D], those of the future steps
    latent_mask  bool [K], False past the episode's end
    """

    build: str
    split: str
    episode: str
    key: str
    images: Mapping[str, NDArray[np.uint8]]
    instruction: str
    state: NDArray[np.float32] | None
    actions: NDArray[np.float32] | None
    action_mask: NDArray[np.bool_] | None
    context: NDArray[np.float16]
    latents: NDArray[np.float16]
    latent_mask: NDArray[np.bool_]

    def latent_picture(self) -> Image.Image:
        """The latents as a picture: a row for each view; in it the present, then every future step of the episode.

        A square is a token; the three main directions of these latents (PCA) are red, green and blue.

        Raises:
            ValueError: the tokens of a step are no square number.
        """
        steps = np.concatenate([self.context[None], self.latents[self.latent_mask]]).astype(np.float32)
        grid = math.isqrt(steps.shape[2])
        if grid * grid != steps.shape[2]:
            raise ValueError(f"the tokens of a step must be a square number to be a picture, got {steps.shape[2]}")
        colours = to_rgb(steps, fit_colours(steps)).reshape(*steps.shape[:2], grid, grid, 3)
        factor = math.ceil(_SIDE / grid)
        maps = colours.repeat(factor, axis=2).repeat(factor, axis=3)
        framed = np.pad(maps, ((0, 0), (0, 0), (2, 2), (2, 2), (0, 0)), constant_values=255)
        return Image.fromarray(np.concatenate([np.concatenate(list(row), axis=1) for row in framed.swapaxes(0, 1)]))

    def __repr__(self) -> str:
        images = ", ".join(f"{view} {'x'.join(map(str, image.shape))}" for view, image in self.images.items())
        numbers = {"state": self.state, "actions": self.actions, "latents": self.latents}
        shapes = ", ".join(f"{name} {'x'.join(map(str, a.shape))}" for name, a in numbers.items() if a is not None)
        return f"<sample {self.key} of {self.build}, {self.split}: {self.instruction!r}; images {images}; {shapes}>"

    def _repr_html_(self) -> str:
        rows = [
            ("sample", f"{self.build}, {self.split}: {self.key}"),
            ("instruction", self.instruction),
            ("state", "none" if self.state is None else _numbers(self.state)),
        ]
        if self.actions is not None and self.action_mask is not None:
            known = self.actions[self.action_mask]
            rows += [(f"action {i}", _numbers(action)) for i, action in enumerate(known)]
        cells = "".join(f"<tr><th>{escape(name)}</th><td>{escape(text)}</td></tr>" for name, text in rows)
        images = "".join(
            f'<figure style="display:inline-block;margin:4px"><img src="{input_image(image)}" alt="{escape(view)}">'
            f"<figcaption>{escape(view)}</figcaption></figure>"
            for view, image in self.images.items()
        )
        latents = png_uri(np.asarray(self.latent_picture()))
        caption = "latents by PCA: a row a view; the present, then each future step"
        return (
            f'{images}<figure style="margin:4px"><img src="{latents}" alt="latents" style="max-width:100%">'
            f"<figcaption>{caption}</figcaption></figure><table>{cells}</table>"
        )


def sample_of(batch: Batch[NDArray[Any]], views: Sequence[str], build: str, split: str, episode: str) -> Sample:
    """The only sample of a batch."""
    observation, targets = batch.observation, batch.targets
    return Sample(
        build=build,
        split=split,
        episode=episode,
        key=batch.keys[0],
        images=dict(zip(views, observation.images[0], strict=True)),
        instruction=observation.instruction[0],
        state=None if observation.state is None else observation.state[0],
        actions=None if targets.actions is None else targets.actions[0],
        action_mask=None if targets.action_mask is None else targets.action_mask[0],
        context=_latents(targets.context[0], targets.context_scale),
        latents=_latents(targets.latents[0], targets.latents_scale),
        latent_mask=targets.latent_mask[0],
    )


def _latents(values: NDArray[Any], scale: NDArray[np.float32] | None) -> NDArray[np.float16]:
    return values if scale is None else dequantise(values, scale[0])


def _numbers(values: NDArray[Any]) -> str:
    return ", ".join(f"{value:.4g}" for value in values.tolist()) or "none"
