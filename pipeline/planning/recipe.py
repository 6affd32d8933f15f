"""How the samples of a build are made."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.encoder.encoder_frames import FrameSettings
from pipeline.format.build_settings import InputSettings, WindowPolicy
from pipeline.format.enums import EncoderMode, LatentDtype
from pipeline.format.schema import Sizes


@dataclass(frozen=True)
class Recipe:
    """What every task of a build shares. Small and picklable.

    group_samples  latents of at most so many samples are held and written at once
    """

    fingerprint: str
    name: str
    views: tuple[str, ...]
    sizes: Sizes
    window: WindowPolicy
    inputs: InputSettings
    frames: FrameSettings
    mode: EncoderMode
    group_samples: int
    latents: LatentDtype = LatentDtype.FLOAT16
