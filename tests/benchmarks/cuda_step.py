"""A training step and the encoder at full size on a CUDA device, beside what that device can do and `vlajepa estimate`.

Weights are random and batches made up: neither speed nor memory depends on their values.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
from pipeline.format.encoder_settings import encoder_flops
from torch import Tensor
from transformers import VJEPA2Config, VJEPA2Model

from jobs.training.estimate import VITL_ENCODER
from model.attention.attention import resolve_backend
from model.attention.transformers_attention import use_attention
from model.checkpoint.sharding import compile_blocks
from model.estimate import KINDS, StepEstimate, estimate_step
from model.settings import BackboneSettings, ModelSettings
from model.vla_jepa import VLAJEPA, build_model, unit_stats
from pipeline.encoder.rotary_tables import use_rotary_tables
from pipeline.format.schema import Observation, Targets
from tests.benchmarks.full_size_build import SIZES
from tests.benchmarks.report import Series, Target, print_table

CUDA = torch.device("cuda")
SETTINGS = ModelSettings(backbone=BackboneSettings(kind="random"))
INSTRUCTION = "pick up the bottle and put it on the plate"
BATCH = 16
"""Samples of each kind: what a GPU of eight gets in the stage `pretrain`."""

WARMUP, STEPS = 3, 10
CLIPS = 16
"""Windows of one view that the encoder takes at a time."""

GIB, TERA = 2**30, 1e12
MEMORY_ERROR = 1.1
"""The allocator's fragmentation and work space come on top of what the estimate counts."""


@dataclass(frozen=True)
class Measured:
    """A way to run the step: seconds of each, in the order measured, and the highest number of bytes allocated."""

    name: str
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
    _print_encoder(limit)
    measured = list(_training_steps())
    estimate = estimate_step(SETTINGS, SIZES, BATCH, KINDS, instruction=INSTRUCTION)
    for found in measured:
        _print_step(estimate, found, limit)


def _training_steps() -> Iterator[Measured]:
    """By each kernel; by PyTorch's also with the blocks of fixed shape compiled."""
    model = build_model(SETTINGS, SIZES, unit_stats(SIZES)).train().to(CUDA)
    adamw = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)
    batches = [_batch(kind) for kind in KINDS]
    for name in dict.fromkeys((resolve_backend("auto", CUDA), "sdpa")):
        yield _training_step(f"attention by {name}", model, adamw, batches, name)
    compile_blocks(model)
    yield _training_step("attention by sdpa, compile", model, adamw, batches, "sdpa")


def _print_step(estimate: StepEstimate, measured: Measured, limit: Series) -> None:
    times = Series("a step", tuple(1e3 * seconds for seconds in measured.seconds))
    speed = estimate.flops / TERA / (times.median / 1e3)
    peak, estimated = measured.bytes / GIB, estimate.peak / GIB
    print_table(
        f"Training at full size, bf16, {BATCH} robot and {BATCH} video samples, {measured.name}",
        "ms",
        [times],
        [
            Target(Series("memory / estimate", (peak / estimated,)), MEMORY_ERROR, at_most=True),
            Series("FLOP/s / limit (what `utilisation` assumes)", (speed / limit.median,)),
        ],
        [
            f"{1e3 * len(KINDS) * BATCH / times.median:.1f} samples/s; {estimate.flops / TERA:.1f} TFLOP a step; "
            f"{speed:.0f} TFLOP/s; {peak:.1f} GiB, estimated {estimated:.1f}"
        ],
    )


Batch = tuple[Observation[Tensor], Targets[Tensor]]


def _training_step(name: str, model: VLAJEPA, adamw: torch.optim.AdamW, batches: list[Batch], backend: str) -> Measured:
    """Forward and backward of each kind, clipping and AdamW, as the trainer does them."""
    torch.cuda.reset_peak_memory_stats()
    with patch("model.attention.attention.resolve_backend", lambda *_: backend):
        seconds = _times(lambda: _step(model, adamw, batches), WARMUP, STEPS)
    return Measured(name, seconds, torch.cuda.max_memory_allocated())


def _step(model: VLAJEPA, adamw: torch.optim.AdamW, batches: list[Batch]) -> None:
    adamw.zero_grad(set_to_none=True)
    for observation, targets in batches:
        with torch.autocast(CUDA.type, torch.bfloat16):
            loss = model.losses(observation, targets).total
        loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    adamw.step()


def _batch(kind: str) -> Batch:
    """As the loader gives it: a video has one view, which stands for both in its latents, and neither state nor
    actions."""
    s, robot = SIZES, kind == "robot"
    latent = (s.views, s.tokens, s.width)
    seen = (BATCH, s.views if robot else 1, s.image_size, s.image_size, 3)
    observation = Observation(
        images=torch.randint(0, 256, seen, dtype=torch.uint8, device=CUDA),
        instruction=(INSTRUCTION,) * BATCH,
        state=torch.rand(BATCH, s.state, device=CUDA) if robot else None,
    )
    targets = Targets(
        context=torch.randn(BATCH, *latent, dtype=torch.float16, device=CUDA),
        latents=torch.randn(BATCH, s.steps, *latent, dtype=torch.float16, device=CUDA),
        latent_mask=torch.ones(BATCH, s.steps, dtype=torch.bool, device=CUDA),
        actions=torch.rand(BATCH, s.chunk, s.action, device=CUDA) if robot else None,
        action_mask=torch.ones(BATCH, s.chunk, dtype=torch.bool, device=CUDA) if robot else None,
    )
    return observation, targets


def _print_encoder(limit: Series) -> None:
    """One view of CLIPS windows in mode prefix: encodings of 1, 2, ... tubelets (rule L2)."""
    with CUDA:
        model = VJEPA2Model(VJEPA2Config()).eval()
    frames = torch.randn(CLIPS, 2 * (SIZES.steps + 1), 3, 256, 256, device=CUDA)

    @torch.inference_mode()
    def encode() -> None:
        with torch.autocast(CUDA.type, torch.bfloat16):
            for step in range(SIZES.steps + 1):
                model.get_vision_features(frames[:, : 2 * (step + 1)])

    found = {"as transformers has it": _times(encode, WARMUP, STEPS)}
    use_rotary_tables(layer.attention for layer in model.encoder.layer)
    for backend in dict.fromkeys(("sdpa", resolve_backend("auto", CUDA))):
        use_attention(model, backend)
        found[f"as `preprocess` runs it, attention by {backend}"] = _times(encode, WARMUP, STEPS)
    flops = CLIPS * encoder_flops({**VITL_ENCODER, "tokens": SIZES.tokens}, SIZES.steps) / TERA
    times = [Series(name, tuple(1e3 * one for one in seconds)) for name, seconds in found.items()]
    print_table(
        f"Targets by ViT-L at 256 px, bf16, prefixes of 1 to {SIZES.steps + 1} tubelets, {CLIPS} windows, one view",
        "ms",
        times,
        [Series(f"FLOP/s / limit, {one.name}", (flops / (one.median / 1e3) / limit.median,)) for one in times],
        [f"{one.name}: {1e3 * CLIPS / one.median:.1f} windows a second" for one in times],
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
