"""The encoder at full size on a CUDA device, from frames in host memory to latents in host memory.

`Encoder.encode` itself is timed, copies and gathering of windows included, beside what the device can do. Weights are
random and frames made up: speed depends on neither.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from model.encoder_kernels import encoder_kernels
from pipeline.encoder.encoder import Encoder
from pipeline.encoder.encoder_frames import FrameBlock
from pipeline.encoder.precision import relative_error
from pipeline.format.build_settings import EncoderIdentity, EncoderSettings
from pipeline.format.enums import EncoderMode
from tests.benchmarks.random_encoder import TINY_ENCODER, save_random_encoder
from tests.benchmarks.report import Series, Target, print_table, seconds_of

TERA = 1e12
GOALS: Mapping[EncoderMode, float] = {EncoderMode.PREFIX: 280.0, EncoderMode.TUBELET: 2500.0}
"""Windows, and tubelets, a second of one view by ViT-L on an H200."""


@dataclass(frozen=True)
class Scale:
    """What is encoded, and where.

    encoder   settings of the V-JEPA2 that makes targets; none: ViT-L
    steps     K of a window
    windows   of a block in mode prefix, none of which share frames;  tubelets: of a block in mode tubelet
    batch     clips encoded together
    compiled  measured beside the encoder without
    blocks    that are timed, after one that is not
    matrix    rows of the matrices whose product is the limit
    device    "cpu" shows that everything runs
    """

    encoder: Mapping[str, Any] = field(default_factory=dict)
    steps: int = 3
    windows: int = 128
    tubelets: int = 512
    batch: int = 64
    compiled: tuple[bool, ...] = (False, True)
    blocks: int = 4
    matrix: int = 8192
    device: str = "cuda"


TINY = Scale(TINY_ENCODER, steps=1, windows=2, tubelets=3, batch=2, compiled=(True,), blocks=1, matrix=64, device="cpu")


def run(folder: Path, repeats: int, scale: Scale) -> None:
    """Print a table for each mode, or say that there is no device."""
    if scale.device == "cuda" and not torch.cuda.is_available():
        print("\ncuda-encoder: PyTorch finds no CUDA device here, nothing is measured")
        return
    name = torch.cuda.get_device_name() if scale.device == "cuda" else "CPU in the place of a CUDA device"
    print(f"\n{name}, PyTorch {torch.__version__}")
    weights = str(save_random_encoder(folder / "encoder", scale.encoder))
    limit = Series(
        f"bf16 product of {scale.matrix} x {scale.matrix} matrices, TFLOP/s",
        tuple(_matrix_product(scale) for _ in range(repeats)),
    )
    print_table("The limit", "TFLOP/s", [limit])
    for mode in GOALS:
        for compiled in scale.compiled:
            settings = EncoderSettings(
                name_or_path=weights, mode=mode, dtype="bfloat16", batch=scale.batch, compile=compiled
            )
            _print_mode(settings, limit, repeats, scale)


def _print_mode(settings: EncoderSettings, limit: Series, repeats: int, scale: Scale) -> None:
    """Windows a second of whole blocks, and the share of the limit that their FLOPs are."""
    encoder = Encoder(settings, scale.device, *encoder_kernels(settings.attention, scale.device))
    tubelet = settings.mode == EncoderMode.TUBELET
    count, frames = (scale.tubelets, 2) if tubelet else (scale.windows, 2 * (scale.steps + 1))
    block = _block(count, frames, encoder.frame_settings.crop_size)
    began = time.perf_counter()
    latents, _ = encoder.encode(block)  # compiles
    first = time.perf_counter() - began
    seconds = [seconds_of(lambda: encoder.encode(block), scale.blocks) for _ in range(repeats)]
    speed = Series("encode", tuple(count / one for one in seconds))
    flops = EncoderIdentity.read(encoder.identity()).flops(scale.steps) * speed.median / TERA
    what = "tubelets" if tubelet else "windows"
    share = Series("FLOP/s / limit (what `utilisation` assumes)", (flops / limit.median,))
    goal = Target(Series(f"{what}/s / goal for ViT-L on an H200", (speed.median / GOALS[settings.mode],)), 1.0)
    print_table(
        f"Targets in mode {settings.mode}, bf16, compile={settings.compile}, {count} {what} of one view, "
        f"{settings.batch} clips a batch",
        f"{what}/s",
        [speed],
        [share, goal] if settings.compile else [share],
        [
            f"{flops:.0f} TFLOP/s; the first block took {first:.1f} s; latents differ from those in float32 by "
            f"{relative_error(settings, scale.device, block, latents):.2%}"
        ],
    )


def _block(count: int, frames: int, side: int) -> FrameBlock:
    """One view of windows that share no frame."""
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (1, count * frames, side, side, 3), dtype=np.uint8)
    return FrameBlock(pixels, np.arange(count * frames, dtype=np.int32).reshape(count, frames))


def _matrix_product(scale: Scale) -> float:
    """TFLOP/s of ten products, the device waited for."""
    n = scale.matrix
    a, b = (torch.randn(n, n, dtype=torch.bfloat16, device=scale.device) for _ in range(2))

    def products() -> None:
        for _ in range(10):
            c = a @ b
        c[0, 0].item()

    products()
    return 10 * 2 * n**3 / TERA / seconds_of(products)
