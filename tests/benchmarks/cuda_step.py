"""A training step and the encoder at full size on a CUDA device, beside its limit and `vlajepa estimate`.

Weights are random and batches made up: neither speed nor memory depends on their values.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from transformers import VJEPA2Config, VJEPA2Model

from jobs.training.estimate import VITL_ENCODER
from jobs.training.loop.settings import TrainerSettings
from jobs.training.loop.step.optimiser import Optimiser
from jobs.training.loop.step.step_graph import StepGraphs
from model.attention.backend import resolve_backend
from model.attention.transformers_attention import use_attention
from model.checkpoint.sharding import compile_blocks
from model.estimate import KINDS, StepEstimate, estimate_step
from model.normalize import unit_stats
from model.settings import AttentionBackend, ModelSettings
from model.vla_jepa import VLAJEPA, TrainingBatch, build_model
from pipeline.encoder.rotary_tables import use_rotary_tables
from pipeline.format.schema import Observation, Sizes, Targets
from tests.benchmarks.full_size_build import SIZES
from tests.benchmarks.packing import FULL, small_settings
from tests.benchmarks.random_encoder import TINY_ENCODER
from tests.benchmarks.report import Series, Target, print_table, seconds_of

LABEL_TOKENS = (4, 20)
"""Lengths of instructions, in tokens (SSv2 and LIBERO); the byte tokenizer makes a token of a letter."""

GIB, TERA = 2**30, 1e12
MEMORY_ERROR = 1.1
"""The allocator's fragmentation and work space come on top of what the estimate counts."""


@dataclass(frozen=True)
class Scale:
    """What is measured, and where.

    model, sizes  of the training step; weights are random
    encoder       settings of the V-JEPA2 that makes targets; none: ViT-L
    batch         samples of each kind: what a GPU of eight gets in the stage `pretrain`
    warmup        calls before those that are timed;  steps: calls that are timed
    clips         windows of one view that the encoder takes at a time
    matrix        rows of the matrices whose product is the limit
    compiled      measure the step with compiled blocks as well, and recorded as CUDA graphs
    device        "cpu" shows that everything runs; memory is counted on CUDA alone
    """

    model: ModelSettings = FULL
    sizes: Sizes = SIZES
    encoder: Mapping[str, Any] = field(default_factory=dict)
    batch: int = 16
    warmup: int = 3
    steps: int = 10
    clips: int = 16
    matrix: int = 8192
    compiled: bool = True
    device: str = "cuda"


TINY = Scale(
    model=small_settings(),
    sizes=replace(SIZES, image_size=64, tokens=16, width=96),
    encoder=TINY_ENCODER,
    batch=1,
    warmup=0,
    steps=1,
    clips=1,
    matrix=64,
    compiled=False,
    device="cpu",
)


@dataclass(frozen=True)
class Measured:
    """A way to run the step: seconds of each, in the order measured, and the highest number of bytes allocated."""

    name: str
    seconds: tuple[float, ...]
    bytes: int


def run(folder: Path, repeats: int, scale: Scale) -> None:
    """Print the tables, or say that there is no device."""
    if scale.device == "cuda" and not torch.cuda.is_available():
        print("\ncuda: PyTorch finds no CUDA device here, nothing is measured")
        return
    name = torch.cuda.get_device_name() if scale.device == "cuda" else "CPU in the place of a CUDA device"
    print(f"\n{name}, PyTorch {torch.__version__}")
    products = tuple(_matrix_product(scale) for _ in range(repeats))
    limit = Series(f"bf16 product of {scale.matrix} x {scale.matrix} matrices, TFLOP/s", products)
    print_table("The limit", "TFLOP/s", [limit])
    measured = []
    for found in _training_steps(scale):
        measured.append(found)  # said at once: the estimate below takes half a minute, and a limit may end this before
        print(
            f"{found.name}: {1e3 * float(np.median(found.seconds)):.1f} ms a step, {found.bytes / GIB:.1f} GiB",
            flush=True,
        )
    instruction = max(make_batches(scale, 0)[0][0].instruction, key=len)
    estimate = estimate_step(scale.model, scale.sizes, scale.batch, KINDS, instruction=instruction)
    for found in measured:
        _print_step(estimate, found, limit, scale)
    _print_encoder(limit, scale)


def _training_steps(scale: Scale) -> Iterator[Measured]:
    """As the trainer runs it: by each kernel, then compiled, then recorded."""
    device = torch.device(scale.device)
    model = build_model(scale.model, scale.sizes, unit_stats(scale.sizes)).train().to(device)
    optimiser = Optimiser(model, TrainerSettings(device="cpu"), rounded=True)
    batches = [make_batches(scale, seed) for seed in range(scale.warmup + 1)]
    for name in dict.fromkeys((str(resolve_backend("auto", device)), "sdpa")):
        chosen = AttentionBackend(name)
        with ExitStack() as stack:
            for module in ("attention", "packed"):
                stack.enter_context(patch(f"model.attention.{module}.resolve_backend", lambda *_, one=chosen: one))
            yield _training_step(
                f"attention by {name}", optimiser, partial(_eager, model, optimiser, scale), batches, scale
            )
    if scale.compiled:
        compile_blocks(model)
        yield _training_step("compiled", optimiser, partial(_eager, model, optimiser, scale), batches, scale)
    if scale.compiled and scale.device == "cuda":
        graphs = StepGraphs(model, optimiser)
        run = partial(graphs.run, weights=(1.0, 1.0), names=("video", "robot"), first=True)
        yield _training_step("compiled and recorded", optimiser, run, batches, scale)


def _training_step(
    name: str,
    optimiser: Optimiser,
    run: Callable[[Sequence[TrainingBatch]], object],
    batches: list[list[TrainingBatch]],
    scale: Scale,
) -> Measured:
    """Forward and backward of both kinds together, clipping and AdamW, on batches of different lengths."""
    on_cuda = batches[0][0][0].images.device.type == "cuda"
    if on_cuda:
        torch.cuda.reset_peak_memory_stats()
    turn = itertools.cycle(batches)

    def step() -> None:
        optimiser.begin(0)
        run(next(turn))
        optimiser.step(optimiser.norms()["grad_norm"])

    seconds = _times(step, scale)
    return Measured(name, seconds, torch.cuda.max_memory_allocated() if on_cuda else 0)


def _eager(model: VLAJEPA, optimiser: Optimiser, scale: Scale, batches: Sequence[TrainingBatch]) -> None:
    with torch.autocast(scale.device, torch.bfloat16):
        losses = model(*batches)
    torch.stack([each.total for each in losses]).sum().backward()
    optimiser.collect()


def _print_step(estimate: StepEstimate, measured: Measured, limit: Series, scale: Scale) -> None:
    times = Series("a step", tuple(1e3 * seconds for seconds in measured.seconds))
    speed = estimate.flops / TERA / (times.median / 1e3)
    peak, estimated = measured.bytes / GIB, estimate.peak / GIB
    print_table(
        f"Training at full size, bf16, {scale.batch} robot and {scale.batch} video samples, {measured.name}",
        "ms",
        [times],
        [
            Target(Series("memory / estimate", (peak / estimated,)), MEMORY_ERROR, at_most=True),
            Series("FLOP/s / limit", (speed / limit.median,)),
        ],
        [
            f"{1e3 * len(KINDS) * scale.batch / times.median:.1f} samples/s; {estimate.flops / TERA:.1f} TFLOP a step; "
            f"{speed:.0f} TFLOP/s; {peak:.1f} GiB, estimated {estimated:.1f}"
        ],
    )


def make_batches(scale: Scale, seed: int) -> list[TrainingBatch]:
    """One of video and one of robots, as the loader gives them, with instructions of a label's length.

    A video has one view, which is repeated in its latents, and neither state nor actions.
    """
    s, count, device = scale.sizes, scale.batch, scale.device
    latent = (s.views, s.tokens, s.width)
    lengths = np.random.default_rng(seed).integers(*LABEL_TOKENS, size=(len(KINDS), count), endpoint=True)
    found = []
    for kind, words in zip(("video", "robot"), lengths, strict=True):
        robot = kind == "robot"
        seen = (count, s.views if robot else 1, s.image_size, s.image_size, 3)
        observation = Observation(
            images=torch.randint(0, 256, seen, dtype=torch.uint8, device=device),
            instruction=tuple("x" * int(n) for n in words),
            state=torch.rand(count, s.state, device=device) if robot else None,
        )
        targets = Targets(
            context=torch.randn(count, *latent, dtype=torch.float16, device=device),
            latents=torch.randn(count, s.steps, *latent, dtype=torch.float16, device=device),
            latent_mask=torch.ones(count, s.steps, dtype=torch.bool, device=device),
            actions=torch.rand(count, s.chunk, s.action, device=device) if robot else None,
            action_mask=torch.ones(count, s.chunk, dtype=torch.bool, device=device) if robot else None,
        )
        found.append((observation, targets))
    return found


def _print_encoder(limit: Series, scale: Scale) -> None:
    """One view of some windows in mode prefix: encodings of 1, 2, ... tubelets (rule L2)."""
    config, sizes, device = VJEPA2Config(**scale.encoder), scale.sizes, torch.device(scale.device)
    with device:
        model = VJEPA2Model(config).eval()
    side = config.crop_size
    frames = torch.randn(scale.clips, 2 * (sizes.steps + 1), 3, side, side, device=device)

    @torch.inference_mode()
    def encode() -> None:
        with torch.autocast(device.type, torch.bfloat16):
            for step in range(sizes.steps + 1):
                model.get_vision_features(frames[:, : 2 * (step + 1)])

    found = {"as transformers has it": _times(encode, scale)}
    use_rotary_tables(layer.attention for layer in model.encoder.layer)
    for backend in dict.fromkeys(("sdpa", resolve_backend("auto", device))):
        use_attention(model, backend)
        found[f"as `preprocess` runs it, attention by {backend}"] = _times(encode, scale)
    identity = replace(
        VITL_ENCODER,
        width=config.hidden_size,
        layers=config.num_hidden_layers,
        mlp_ratio=config.mlp_ratio,
        tokens=sizes.tokens,
    )
    flops = scale.clips * identity.flops(sizes.steps) / TERA
    times = [Series(name, tuple(1e3 * one for one in seconds)) for name, seconds in found.items()]
    print_table(
        f"Targets by V-JEPA2 of {config.num_hidden_layers} layers, width {config.hidden_size}, at {side} px, bf16, "
        f"prefixes of 1 to {sizes.steps + 1} tubelets, {scale.clips} windows, one view",
        "ms",
        times,
        [Series(f"FLOP/s / limit, {one.name}", (flops / (one.median / 1e3) / limit.median,)) for one in times],
        [f"{one.name}: {1e3 * scale.clips / one.median:.1f} windows a second" for one in times],
    )


def _matrix_product(scale: Scale) -> float:
    n = scale.matrix
    a, b = (torch.randn(n, n, dtype=torch.bfloat16, device=scale.device) for _ in range(2))
    return 2 * n**3 / TERA / float(np.median(_times(lambda: a @ b, scale)))


def _times(function: Callable[[], object], scale: Scale) -> tuple[float, ...]:
    """Seconds of each call on the device, by its own clock."""
    for _ in range(scale.warmup):
        function()
    if scale.device == "cpu":
        return tuple(seconds_of(function) for _ in range(scale.steps))
    seconds = []
    for _ in range(scale.steps):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        function()
        end.record()
        end.synchronize()
        seconds.append(begin.elapsed_time(end) / 1e3)
    return tuple(seconds)
