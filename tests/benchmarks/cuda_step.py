"""A training step at full size on a CUDA device, beside its limit and `vlajepa estimate`.

Weights are random and batches made up: neither speed nor memory depends on their values.
"""

from __future__ import annotations

import gc
import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch

from jobs.training.loop.settings import TrainerSettings
from jobs.training.loop.step.optimiser import Optimiser
from jobs.training.loop.step.step_graph import StepGraphs
from model.attention.backend import resolve_backend
from model.checkpoint.sharding import compile_blocks
from model.estimate import KINDS, StepEstimate, estimate_step
from model.normalize import unit_stats
from model.settings import AttentionBackend, ModelSettings
from model.vla_jepa import VLAJEPA, TrainingBatch, build_model
from pipeline.format.schema import Observation, Sizes, Targets
from tests.benchmarks.full_size_build import SIZES
from tests.benchmarks.packing import FULL, small_settings
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
    batches       samples of each kind: as the paper has it, and half of that, which is measured where it does not fit
    warmup        calls before those that are timed;  steps: calls that are timed
    matrix        rows of the matrices whose product is the limit
    compiled      measure the step with compiled blocks as well, and recorded as CUDA graphs
    device        "cpu" shows that everything runs; memory is counted on CUDA alone
    """

    model: ModelSettings = FULL
    sizes: Sizes = SIZES
    batches: tuple[int, ...] = (32, 16)
    warmup: int = 3
    steps: int = 10
    matrix: int = 8192
    compiled: bool = True
    device: str = "cuda"


TINY = Scale(
    model=small_settings(),
    sizes=replace(SIZES, image_size=64, tokens=16, width=96),
    batches=(1,),
    warmup=0,
    steps=1,
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
    for batch in scale.batches:
        try:
            measured = _measured(batch, scale)
        except torch.OutOfMemoryError:
            print(f"{batch} robot and {batch} video samples do not fit this device")
            gc.collect()
            torch.cuda.empty_cache()
            torch._dynamo.reset()  # another batch is compiled anew, and not for any
            continue
        instruction = max(make_batches(scale, batch, 0)[0][0].instruction, key=len)
        estimate = estimate_step(scale.model, scale.sizes, batch, KINDS, instruction=instruction)
        for found in measured:
            _print_step(estimate, found, limit, batch)
        return


def _measured(batch: int, scale: Scale) -> list[Measured]:
    """Each is said at once: the estimate takes half a minute, and a limit may end this before."""
    measured = []
    for found in _training_steps(batch, scale):
        measured.append(found)
        ms, memory = 1e3 * float(np.median(found.seconds)), found.bytes / GIB
        print(f"{found.name}, {batch} + {batch}: {ms:.1f} ms a step, {memory:.1f} GiB", flush=True)
    return measured


def _training_steps(batch: int, scale: Scale) -> Iterator[Measured]:
    """As the trainer runs it: by each kernel, then compiled, then recorded."""
    device = torch.device(scale.device)
    model = build_model(scale.model, scale.sizes, unit_stats(scale.sizes)).train().to(device)
    optimiser = Optimiser(model, TrainerSettings(device="cpu"), rounded=True)
    batches = [make_batches(scale, batch, seed) for seed in range(scale.warmup + 1)]
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


def _print_step(estimate: StepEstimate, measured: Measured, limit: Series, batch: int) -> None:
    times = Series("a step", tuple(1e3 * seconds for seconds in measured.seconds))
    speed = estimate.flops / TERA / (times.median / 1e3)
    peak, estimated = measured.bytes / GIB, estimate.peak / GIB
    print_table(
        f"Training at full size, bf16, {batch} robot and {batch} video samples, {measured.name}",
        "ms",
        [times],
        [
            Target(Series("memory / estimate", (peak / estimated,)), MEMORY_ERROR, at_most=True),
            Series("FLOP/s / limit", (speed / limit.median,)),
        ],
        [
            f"{1e3 * len(KINDS) * batch / times.median:.1f} samples/s; {estimate.flops / TERA:.1f} TFLOP a step; "
            f"{speed:.0f} TFLOP/s; {peak:.1f} GiB, estimated {estimated:.1f}"
        ],
    )


def make_batches(scale: Scale, count: int, seed: int) -> list[TrainingBatch]:
    """One of video and one of robots, as the loader gives them, with instructions of a label's length.

    A video has one view, which is repeated in its latents, and neither state nor actions.
    """
    s, device = scale.sizes, scale.device
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
