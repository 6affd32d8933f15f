"""The encoders that Meta released: sizes, files, names. Needs no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.format.enums import Release


@dataclass(frozen=True)
class ReleasedEncoder:
    """A released encoder.

    file       name of Meta's file
    section    key of the checkpoint under which the encoder lies whose latents are targets
    model      class that computes it
    crop_size  side of its input, pixels
    width, layers, heads, mlp_ratio  of its transformer
    """

    file: str
    section: str
    model: str
    crop_size: int
    width: int
    layers: int
    heads: int
    mlp_ratio: float

    @property
    def tokens(self) -> int:
        """N of a step and view: patches of 16 px."""
        return (self.crop_size // 16) ** 2

    @property
    def config(self) -> Mapping[str, int | float]:
        """Its sizes by transformers' names."""
        return {
            "crop_size": self.crop_size,
            "hidden_size": self.width,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "mlp_ratio": self.mlp_ratio,
        }


_V2, _V21 = ("target_encoder", "VJEPA2Model"), ("target_encoder", "VJEPA21Model")
_DISTILLED = ("ema_encoder", "VJEPA21Model")

RELEASED: Mapping[Release, ReleasedEncoder] = {
    Release.VITL: ReleasedEncoder("vitl.pt", *_V2, 256, 1024, 24, 16, 4.0),
    Release.VITH: ReleasedEncoder("vith.pt", *_V2, 256, 1280, 32, 16, 4.0),
    Release.VITG: ReleasedEncoder("vitg.pt", *_V2, 256, 1408, 40, 22, 48 / 11),
    Release.VITG_384: ReleasedEncoder("vitg-384.pt", *_V2, 384, 1408, 40, 22, 48 / 11),
    Release.VJEPA2_1_BASE: ReleasedEncoder("vjepa2_1_vitb_dist_vitG_384.pt", *_DISTILLED, 384, 768, 12, 12, 4.0),
    Release.VJEPA2_1_LARGE: ReleasedEncoder("vjepa2_1_vitl_dist_vitG_384.pt", *_DISTILLED, 384, 1024, 24, 16, 4.0),
    Release.VJEPA2_1_GIANT: ReleasedEncoder("vjepa2_1_vitg_384.pt", *_V21, 384, 1408, 40, 22, 48 / 11),
    Release.VJEPA2_1_GIGANTIC: ReleasedEncoder("vjepa2_1_vitG_384.pt", *_V21, 384, 1664, 48, 26, 64 / 13),
}


def release_of(claimed: Mapping[str, Any]) -> Release:
    """The released encoder that settings.encoder of a build describes; `any` if none has its class and sizes."""
    for release, known in RELEASED.items():
        sizes = (known.model, known.crop_size, known.width, known.layers)
        if sizes == tuple(claimed.get(name) for name in ("class", "crop_size", "width", "layers")):
            return release
    return Release.ANY
