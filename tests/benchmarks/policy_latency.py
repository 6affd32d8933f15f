"""Latency of the policy at full size: from images in host memory to a chunk of actions there, and memory.

Weights are random and images made up: speed depends on neither.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from jobs.training.loop.throughput import memory_in_use
from model.act_graph import ActGraphs
from model.checkpoint.sharding import compile_blocks
from model.normalize import unit_stats
from model.settings import ModelSettings
from model.vla_jepa import VLAJEPA, build_model
from pipeline.format.schema import Observation, Sizes
from tests.benchmarks.full_size_build import SIZES
from tests.benchmarks.packing import FULL, small_settings
from tests.benchmarks.report import Series, Target, print_table

INSTRUCTION = "pick up the bottle and put it on the plate"
GIB = 2**30
CONTROL_MS = 350.0
"""A chunk of 7 actions at 20 Hz: what a robot has until it needs the next one."""

Act = Callable[[Observation[Tensor], Tensor], Tensor]


@dataclass(frozen=True)
class Scale:
    """What is measured, and where.

    batches          numbers of robots that are answered together
    warmup, queries  calls that are not timed, and those that are
    compiled         measure compiled blocks too, and on CUDA the call recorded as a graph
    device           "cpu" shows that everything runs
    """

    model: ModelSettings = FULL
    sizes: Sizes = SIZES
    batches: tuple[int, ...] = (1, 8)
    warmup: int = 5
    queries: int = 100
    compiled: bool = True
    device: str = "cuda"


TINY = Scale(
    small_settings(), replace(SIZES, image_size=64, tokens=16, width=96), (1, 2), 1, 3, compiled=False, device="cpu"
)


def run(_: Path, repeats: int, scale: Scale) -> None:
    """Print a table for each batch, or say that there is no device. `queries` are timed once, whatever `repeats`."""
    if scale.device == "cuda" and not torch.cuda.is_available():
        print("\nlatency: PyTorch finds no CUDA device here, nothing is measured")
        return
    on_cuda = scale.device == "cuda"
    name = torch.cuda.get_device_name() if on_cuda else "CPU in the place of a CUDA device"
    print(f"\n{name}, PyTorch {torch.__version__}")
    model = build_model(scale.model, scale.sizes, unit_stats(scale.sizes)).eval().to(scale.device)

    def act(observation: Observation[Tensor], start: Tensor) -> Tensor:
        with torch.autocast(scale.device, torch.bfloat16, enabled=on_cuda):
            return model.act(observation, start=start)

    _measure("as `serve` runs it", act, scale)
    if on_cuda:
        _measure("recorded, as `serve cuda_graphs=true` runs it", ActGraphs(model).act, scale)
    if scale.compiled:
        compile_blocks(model)
        _measure("compiled", act, scale)
        if on_cuda:
            _measure("compiled and recorded", ActGraphs(model).act, scale)
            _round_weights(model)
            _measure("compiled and recorded, weights in bfloat16", ActGraphs(model).act, scale)


def _measure(name: str, act: Act, scale: Scale) -> None:
    for batch in scale.batches:
        if scale.device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        times = _milliseconds(act, batch, scale)
        slow = Series("95th percentile", (float(np.percentile(times.values, 95)),))
        memory = memory_in_use(torch.device(scale.device)) / GIB
        print_table(
            f"A chunk of {scale.sizes.chunk} actions for {batch} robots, {name}",
            "ms",
            [times, slow],
            [
                Target(
                    Series("95th percentile / time that the chunk lasts", (slow.median / CONTROL_MS,)), 1, at_most=True
                )
            ],
            [f"{memory:.2f} GiB {'at most on the device' if scale.device == 'cuda' else 'in the process'}"],
        )


def _milliseconds(act: Act, batch: int, scale: Scale) -> Series:
    s, random = scale.sizes, np.random.default_rng(batch)
    took = []
    for number in range(scale.warmup + scale.queries):
        images = torch.from_numpy(random.integers(0, 256, (batch, s.views, s.image_size, s.image_size, 3), np.uint8))
        state, noise = torch.rand(batch, s.state), torch.randn(batch, s.chunk, s.action)
        began = time.perf_counter()
        moved = Observation(images.to(scale.device), (INSTRUCTION,) * batch, state.to(scale.device))
        act(moved, noise.to(scale.device)).cpu()
        if number >= scale.warmup:
            took.append(1e3 * (time.perf_counter() - began))
    return Series(f"each of {scale.queries} queries", tuple(took))


def _round_weights(model: VLAJEPA) -> None:
    """What the trainer computes with, and half the memory."""
    for parameter in model.parameters():
        parameter.data = parameter.data.bfloat16()
