"""How targets are encoded and what that costs, for those who need not load the encoder itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.format.schema import LATENT_DTYPES


@dataclass(frozen=True)
class EncoderSettings:
    """Which encoder makes the targets, and how.

    kind          "tiny": built from `seed`; "pretrained": loaded from `name_or_path`
    name_or_path  a model name or a local folder for `from_pretrained`
    mode          "prefix" (rule L2), "tubelet" (each step encoded alone, stored once for all windows that share it), or
                  "clip" (as the reference; leaky)
    resize        see FrameSettings
    dtype         autocast type: float32, bfloat16 or float16
    attention     "sdpa" (PyTorch) or "xformers" (CUDA); never chosen by what is installed, since bytes depend on it
    batch         clips encoded together; part of the fingerprint, because bytes may depend on it
    cpu_threads   threads of one encoder process on the CPU; part of the fingerprint for the same reason
    """

    kind: str = "pretrained"
    name_or_path: str = "facebook/vjepa2-vitl-fpc64-256"
    seed: int = 0
    mode: str = "prefix"
    resize: str = "crop"
    dtype: str = "float32"
    attention: str = "sdpa"
    batch: int = 16
    cpu_threads: int = 1

    def __post_init__(self) -> None:
        _check_choice("kind", self.kind, ("tiny", "pretrained"))
        _check_choice("mode", self.mode, ("prefix", "tubelet", "clip"))
        _check_choice("resize", self.resize, ("crop", "squash"))
        _check_choice("dtype", self.dtype, ("float32", "bfloat16", "float16"))
        _check_choice("attention", self.attention, ("sdpa", "xformers"))
        for name in ("batch", "cpu_threads"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")


@dataclass(frozen=True)
class LatentSettings:
    """How latents are stored.

    dtype  "float16", or "int8" with a scale for each token (`pipeline.shards.int8`): half the bytes
    """

    dtype: str = "float16"

    def __post_init__(self) -> None:
        _check_choice("dtype", self.dtype, LATENT_DTYPES)


def latent_settings(settings: Mapping[str, Any]) -> LatentSettings:
    """Those of a plan or a build; one that says nothing is from a time when all latents were float16.

    Args:
        settings: `settings` of plan.json or build.json.
    """
    return LatentSettings(**settings.get("latents", {}))


def encoder_flops(identity: Mapping[str, Any], steps: int) -> float:
    """Multiply-add FLOPs (2 a MAC) to encode one view of one window of K = `steps` future steps, or of one tubelet in
    mode "tubelet".

    A transformer layer of width D on L tokens costs 2 L (4 + 2 mlp_ratio) D^2 for its matrices and 4 L^2 D for
    attention; the patch embedding 2 L D (3 * 2 * 16 * 16).
    """
    width, layers = identity["width"], identity["layers"]
    passes = {"tubelet": [1], "clip": [steps + 1]}.get(identity["mode"], range(1, steps + 2))
    lengths = [tubelets * identity["tokens"] for tubelets in passes]
    matrices = sum(lengths) * (2 * (4 + 2 * identity["mlp_ratio"]) * width**2 * layers + 2 * width * 1536)
    return matrices + sum(length**2 for length in lengths) * 4 * width * layers


def _check_choice(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(allowed)}, got {value!r}")
