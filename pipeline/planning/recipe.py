"""How the samples of a build are made."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.encoder.encoder_frames import FrameSettings
from pipeline.format.schema import Sizes
from pipeline.samples.inputs import InputSettings
from pipeline.samples.windows import WindowPolicy


@dataclass(frozen=True)
class Recipe:
    """How samples are made: what every task of a build shares. Small and picklable.

    encode_samples  latents of at most so many samples are held and written at once
    latents         how they are stored: "float16" or "int8"
    """

    fingerprint: str
    name: str
    views: tuple[str, ...]
    sizes: Sizes
    policy: WindowPolicy
    inputs: InputSettings
    frames: FrameSettings
    mode: str
    encode_samples: int
    latents: str = "float16"
