"""A model without memory: names, shapes and counts at any size."""

from __future__ import annotations

import torch

from model.normalize import unit_stats
from model.settings import ModelSettings
from model.vla_jepa import VLAJEPA, build_model
from pipeline.format.schema import Sizes


def meta_model(settings: ModelSettings, sizes: Sizes) -> VLAJEPA:
    """A model without memory, on the meta device: names, shapes and counts at any size, at once.

    A backbone of kind "pretrained" needs its configuration and tokenizer, not its weights.

    Raises:
        SettingsError: sizes and settings do not fit, or the backbone's configuration cannot be found.
    """
    with torch.device("meta"):
        return build_model(settings, sizes, unit_stats(sizes))
