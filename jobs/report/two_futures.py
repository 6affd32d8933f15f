"""One picture, two instructions: the two futures that the model tells from it, and the two that happened.

Shapes: B samples, K future steps, V views of the predictor, N tokens, D latent width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from jobs.report.latent_images import input_image, png_uri
from jobs.report.pixel_decoder import FEWEST, PixelDecoder, fit_pixels
from pipeline.streaming.stream import NumpyBatch

ENLARGED = 2


@dataclass(frozen=True)
class Future:
    """What happens under an instruction; `steps` are data URIs, None past the episode's end."""

    instruction: str
    what: str
    steps: tuple[str | None, ...]


@dataclass(frozen=True)
class TwoFutures:
    """A figure of one view: the picture and four futures. explained: R^2 of the pixels, see `PixelDecoder`."""

    build: str
    view: str
    image: str
    explained: float
    futures: tuple[Future, ...]


@dataclass(frozen=True)
class Present:
    """Samples from which pixels are learned: context float32 [B, V, N, D], images uint8 [B, V, H, W, 3]."""

    context: NDArray[np.float32]
    images: NDArray[np.uint8]

    def without(self, images: NDArray[np.uint8]) -> Present:
        """Those of other pictures than uint8 [V, H, W, 3]."""
        other = [i for i, each in enumerate(self.images) if not np.array_equal(each, images)]
        return Present(self.context[other], self.images[other])


def find_twins(batch: NumpyBatch, true: NDArray[np.float32]) -> int | None:
    """The first of two neighbours in a batch that begin with the same picture and differ in the instruction; of several
    such pairs the one whose futures, `true` float32 [B, K, V, N, D], differ most. None where there is none."""
    images, instructions = batch.observation.images, batch.observation.instruction
    pairs = [
        i
        for i in range(len(images) - 1)
        if np.array_equal(images[i], images[i + 1]) and instructions[i] != instructions[i + 1]
    ]
    return max(pairs, key=lambda i: float(np.abs(true[i] - true[i + 1]).mean()), default=None)


def draw_two_futures(
    build: str,
    views: Sequence[str],
    batch: NumpyBatch,
    first: int,
    true: NDArray[np.float32],
    told: NDArray[np.float32],
    present: Present,
) -> list[TwoFutures]:
    """A figure for each view; none where too few other samples are held out to learn pixels from.

    Args:
        build, views: names of the build, and of the views of images and latents.
        first: position in the batch of the first of the twins, see `find_twins`.
        true: float32 [B, K, V, N, D], what happened.
        told: likewise, what the model tells from the first step alone.
        present: of the same build; those with the twins' picture are left out.
    """
    figures, observation = [], batch.observation
    others = present.without(observation.images[first])
    if len(others.images) < FEWEST:
        return []
    for v, view in enumerate(views):
        decoder = fit_pixels(others.context[:, v], others.images[:, v])
        futures = tuple(
            Future(observation.instruction[i], what, _draw(decoder, latents[i, :, v], batch.targets.latent_mask[i]))
            for i in (first, first + 1)
            for what, latents in (("true", true), ("told by the model", told))
        )
        image = input_image(observation.images[first, v])
        figures.append(TwoFutures(build, view, image, decoder.explained, futures))
    return figures


def _draw(decoder: PixelDecoder, latents: NDArray[np.float32], there: NDArray[np.bool_]) -> tuple[str | None, ...]:
    """latents [K, N, D], there bool [K]."""
    return tuple(_enlarged(decoder.draw(each)) if shown else None for each, shown in zip(latents, there, strict=True))


def _enlarged(pixels: NDArray[np.uint8]) -> str:
    return png_uri(pixels.repeat(ENLARGED, axis=0).repeat(ENLARGED, axis=1))
