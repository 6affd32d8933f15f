"""A training step and the encoder at full size on a CUDA device, beside what that device can do and `vlajepa estimate`.

Weights are random and batches made up: neither speed nor memory depends on their values.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor
from transformers import VJEPA2Config, VJEPA2Model

from jobs.estimate import VITL_ENCODER
from model.attention import resolve_backend
from model.estimate import StepEstimate, estimate_step
from model.settings import BackboneSettings, ModelSettings
from model.vla_jepa import VLAJEPA, build_model, unit_stats
from pipeline.encoding import encoder_flops
from pipeline.schema import Observation, Sizes, Targets
from tests.benchmarks.report import Series, Target, print_table

CUDA = torch.device("cuda")
SIZES = Sizes(views=2, image_size=224, steps=7, tokens=256, width=1024, state=8, chunk=7, action=7)
SETTINGS = ModelSettings(backbone=BackboneSettings(kind="random"))
INSTRUCTION = "pick up the bottle and put it on the plate"
BATCHES = (8, 16)
WARMUP, STEPS = 3, 10
CLIPS = 16
"""Windows of one view that the encoder takes at a time."""

GIB, TERA = 2**30, 1e12
MEMORY_ERROR = 1.1
"""The allocator's fragmentation and work space come on top of what the estimate counts."""


@dataclass(frozen=True)
class Measured:
    """Seconds of a step, in the order measured, and the highest number of bytes allocated."""

    seconds: tuple[float, ...]
    bytes: int


def run(folder: Path, repeats: int) -> None:
    """Print the tables, or say that there is no device."""
    if not torch.cuda.is_available():
        print("\ncuda: PyTorch finds no CUDA device here, nothing is measured")
        return
    print(f"\n{torch.cuda.get_device_name()}, PyTorch {torch.__version__}")
    limit = Series("bf16 product of 8192 x 8192 matrices, TFLOP/s", tuple(_matrix_product() for _ in range(repeats)))
    print_table("The limit", "TFLOP/s", [limit])
    measured = _training_steps()
    _print_encoder(limit)
    for batch in BATCHES:
        estimate = estimate_step(SETTINGS, SIZES, batch, instruction=INSTRUCTION)
        for (attention, size), found in measured.items():
            if size == batch:
                _print_step(attention, batch, estimate, found, limit)


def _training_steps() -> dict[tuple[str, int], Measured]:
    """By attention and batch size."""
    model = build_model(SETTINGS, SIZES, unit_stats(SIZES)).train().to(CUDA)
    adamw = torch.optim.AdamW(model.parameters(), lr=1e-5)
    backends = dict.fromkeys((resolve_backend("auto", CUDA), "sdpa"))
    return {(name, batch): _training_step(model, adamw, batch, name) for batch in BATCHES for name in backends}


def _print_step(attention: str, batch: int, estimate: StepEstimate, measured: Measured, limit: Series) -> None:
    times = Series("a step", tuple(1e3 * seconds for seconds in measured.seconds))
    speed = estimate.flops / TERA / (times.median / 1e3)
    peak, estimated = measured.bytes / GIB, estimate.peak / GIB
    print_table(
        f"Training at full size, bf16, {batch} robot samples, attention by {attention}",
        "ms",
        [times],
        [
            Target(Series("memory / estimate", (peak / estimated,)), MEMORY_ERROR, at_most=True),
            Series("FLOP/s / limit (what `utilisation` assumes)", (speed / limit.median,)),
        ],
        [
            f"{1e3 * batch / times.median:.1f} samples a second; {estimate.flops / TERA:.1f} TFLOP a step, {speed:.0f} "
            f"TFLOP/s; {peak:.1f} GiB, estimated {estimated:.1f}"
        ],
    )


def _training_step(model: VLAJEPA, adamw: torch.optim.AdamW, batch: int, attention: str) -> Measured:
    """Forward, backward, clipping and AdamW, as the trainer does them."""
    torch.cuda.reset_peak_memory_stats()
    with patch("model.attention.resolve_backend", lambda *_: attention):
        seconds = _times(lambda: _step(model, adamw, *_batch(batch)), WARMUP, STEPS)
    return Measured(seconds, torch.cuda.max_memory_allocated())


def _step(model: VLAJEPA, adamw: torch.optim.AdamW, observation: Observation[Tensor], targets: Targets[Tensor]) -> None:
    adamw.zero_grad(set_to_none=True)
    with torch.autocast(CUDA.type, torch.bfloat16):
        loss = model.losses(observation, targets).total
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    adamw.step()


def _batch(count: int) -> tuple[Observation[Tensor], Targets[Tensor]]:
    s = SIZES
    latent = (s.views, s.tokens, s.width)
    observation = Observation(
        images=torch.randint(0, 256, (count, s.views, s.image_size, s.image_size, 3), dtype=torch.uint8, device=CUDA),
        instruction=(INSTRUCTION,) * count,
        state=torch.rand(count, s.state, device=CUDA),
    )
    targets = Targets(
        context=torch.randn(count, *latent, dtype=torch.float16, device=CUDA),
        latents=torch.randn(count, s.steps, *latent, dtype=torch.float16, device=CUDA),
        latent_mask=torch.ones(count, s.steps, dtype=torch.bool, device=CUDA),
        actions=torch.rand(count, s.chunk, s.action, device=CUDA),
        action_mask=torch.ones(count, s.chunk, dtype=torch.bool, device=CUDA),
    )
    return observation, targets


def _print_encoder(limit: Series) -> None:
    """One view of CLIPS windows in mode prefix: encodings of 1, 2, ... tubelets (rule L2)."""
    gc.collect()
    torch.cuda.empty_cache()
    with CUDA:
        model = VJEPA2Model(VJEPA2Config()).eval()
    frames = torch.randn(CLIPS, 2 * (SIZES.steps + 1), 3, 256, 256, device=CUDA)

    @torch.inference_mode()
    def encode() -> None:
        with torch.autocast(CUDA.type, torch.bfloat16):
            for step in range(SIZES.steps + 1):
                model.get_vision_features(frames[:, : 2 * (step + 1)])

    times = Series(f"{CLIPS} windows", tuple(1e3 * seconds for seconds in _times(encode, WARMUP, STEPS)))
    speed = CLIPS * encoder_flops({**VITL_ENCODER, "tokens": SIZES.tokens}, SIZES.steps) / (times.median / 1e3)
    print_table(
        "Targets: V-JEPA2 ViT-L at 256 px, bf16, prefixes of 1 to 8 tubelets, one view",
        "ms",
        [times],
        [Series("FLOP/s / limit", (speed / TERA / limit.median,))],
        [f"{1e3 * CLIPS / times.median:.1f} windows a second"],
    )


def _matrix_product() -> float:
    a, b = (torch.randn(8192, 8192, dtype=torch.bfloat16, device=CUDA) for _ in range(2))
    return 2 * 8192**3 / TERA / float(np.median(_times(lambda: a @ b, 3, 10)))


def _times(function: Callable[[], object], warmup: int, count: int) -> tuple[float, ...]:
    """Seconds of each call on the device, by its own clock."""
    for _ in range(warmup):
        function()
    seconds = []
    for _ in range(count):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        function()
        end.record()
        end.synchronize()
        seconds.append(begin.elapsed_time(end) / 1e3)
    return tuple(seconds)
