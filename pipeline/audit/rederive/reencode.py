"""Frames cut for the encoder and latents compared, both written again from the specification.

V views, U frames, C side of the encoder's input, N tokens a step, D width.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.audit.build import ClaimedBuild
from pipeline.errors import BuildError
from pipeline.format.machine import Machine

FLOAT32_TOLERANCE = 2e-3
"""Largest difference of a value over (RMS of the latents + its size): float16 rounding is 5e-4 of the size, and float32
sums in another batch differ by 1e-5."""

REDUCED_TOLERANCE = 0.03
"""Mean difference over mean size, for encoders run in bfloat16 or float16, whose sums depend on batch and device."""


class Reencoder(Protocol):
    """The frozen encoder, handed to the audit by its caller."""

    @property
    def identity(self) -> Mapping[str, Any]:
        """Everything about it that changes a bit, as in settings.encoder of build.json."""
        ...

    @property
    def machine(self) -> Machine:
        """What it runs on."""
        ...

    def encode(self, frames: NDArray[np.uint8], index: NDArray[np.int32]) -> NDArray[np.float16]:
        """Latents of W windows at once, in the batches of whoever makes a build.

        Args:
            frames: uint8 [V, F, C, C, 3].
            index: int32 [W, 2(K+1)], positions in F of the two frames of each step; -1 past the end of the episode.

        Returns:
            float16 [W, K+1, V, N, D], zeros past the end.
        """
        ...

    def last_tubelet(self, frames: NDArray[np.uint8]) -> NDArray[np.float16]:
        """Latents of the last tubelet of one clip: uint8 [U, C, C, 3], U even -> float16 [N, D]."""
        ...


@dataclass(frozen=True)
class EncoderClaim:
    """The encoder settings of build.json on which frames and tolerance depend."""

    crop_size: int
    resize: str
    dtype: str
    weights_sha256: str

    @property
    def tolerance(self) -> tuple[str, float]:
        """Name and value of what a comparison of latents allows."""
        if self.dtype == "float32":
            return "latents_largest_relative", FLOAT32_TOLERANCE
        return "latents_mean_relative", REDUCED_TOLERANCE


def read_claim(build: ClaimedBuild) -> EncoderClaim:
    """Raises BuildError when settings.encoder lacks what is needed."""
    encoder = build.settings.get("encoder")
    values = encoder if isinstance(encoder, dict) else {}
    claim = EncoderClaim(*(values.get(name) for name in ("crop_size", "resize", "dtype", "weights_sha256")))  # type: ignore[arg-type]
    if type(claim.crop_size) is not int or not 16 <= claim.crop_size <= 4096 or claim.resize not in ("crop", "squash"):
        raise BuildError(f"{build.root}/build.json: settings.encoder names no crop_size and resize of level source")
    if not isinstance(claim.dtype, str) or not isinstance(claim.weights_sha256, str):
        raise BuildError(f"{build.root}/build.json: settings.encoder names no dtype and weights_sha256")
    return claim


def require_same_encoder(claim: EncoderClaim, encoder: Reencoder) -> None:
    """Raise BuildError unless the given encoder has the weights that build.json names."""
    found = encoder.identity["weights_sha256"]
    if found != claim.weights_sha256:
        raise BuildError(
            f"the given encoder has weights {found}, build.json names {claim.weights_sha256}; "
            "give the encoder that the build was made with (encoder_path=NAME, or a folder, or a file)"
        )


def encoder_frame(frame: NDArray[np.uint8], claim: EncoderClaim) -> NDArray[np.uint8]:
    """RGB uint8 [H, W, 3] -> uint8 [C, C, 3]: squashed, or the centre of the frame with its shorter side at 8/7 C."""
    image, side = Image.fromarray(np.ascontiguousarray(frame)), claim.crop_size
    if claim.resize == "squash":
        return np.asarray(image.resize((side, side), Image.Resampling.BILINEAR))
    short = side * 8 // 7
    ratio = short / min(image.size)
    width, height = (max(short, round(edge * ratio)) for edge in image.size)
    image = image.resize((width, height), Image.Resampling.BILINEAR)
    left, top = (width - side) // 2, (height - side) // 2
    return np.asarray(image.crop((left, top, left + side, top + side)))


def latents_differ(
    stored: NDArray[np.floating[Any]], found: NDArray[np.float16], claim: EncoderClaim, slack: NDArray | float = 0.0
) -> float:
    """Difference of two tensors in the measure of `claim.tolerance`; compare it with that value.

    Args:
        slack: difference of each value that is ignored: half a scale where latents are stored as int8.
    """
    if stored.shape != found.shape:
        return math.inf
    a, b = stored.astype(np.float64), found.astype(np.float64)
    gap = np.maximum(np.abs(a - b) - slack, 0.0)
    if claim.dtype == "float32":
        return float((gap / (np.sqrt((b**2).mean()) + np.abs(b) + 1e-12)).max())
    return float(gap.mean() / (np.abs(b).mean() + 1e-12))
