"""Which kernel of packed attention is quickest on a device for the shapes of a run."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch

from model.attention.backend import available_backends, remember_quickest
from model.attention.packed import Packed, packed_attention
from model.settings import AttentionBackend

WARM_UP, RUNS = 3, 10


@dataclass(frozen=True)
class PackedShape:
    """Sequences of equally many tokens; query heads, and key-value heads that they share, of so many channels."""

    name: str
    sequences: int
    tokens: int
    heads: int
    shared: int
    channels: int
    causal: bool


@dataclass(frozen=True)
class Measured:
    """Milliseconds of forward and backward pass by each backend that runs."""

    shape: PackedShape
    milliseconds: Mapping[AttentionBackend, float]

    def __str__(self) -> str:
        times = ", ".join(f"{backend} {ms:.3g} ms" for backend, ms in self.milliseconds.items())
        return f"{self.shape.name} ({self.shape.sequences} x {self.shape.tokens} tokens): {times}"


def measure_attention(shapes: Iterable[PackedShape], device: torch.device) -> list[Measured]:
    """Time every backend in bfloat16 on shapes for which more than one runs; elsewhere there is nothing to choose."""
    found = []
    for shape in shapes:
        backends = available_backends(device, torch.bfloat16, shape.channels)
        if len(backends) > 1:
            found.append(Measured(shape, {backend: _time(shape, backend, device) for backend in backends}))
    return found


def choose_quickest(measured: Sequence[Measured]) -> str:
    """Let attention=auto take the quickest backend for heads of each width, over all shapes that have it.

    Returns:
        A line that says what was measured and chosen; empty where there was no choice.
    """
    if not measured:
        return ""
    said = []
    for channels in sorted({one.shape.channels for one in measured}):
        own = [one.milliseconds for one in measured if one.shape.channels == channels]
        total = {backend: sum(times[backend] for times in own) for backend in own[0]}
        quickest = min(total, key=lambda backend: total[backend])
        remember_quickest(torch.bfloat16, channels, quickest)
        said.append(f"{quickest} for heads of {channels} channels")
    return f"attention measured: {'; '.join(map(str, measured))}: {', '.join(said)}"


def _time(shape: PackedShape, backend: AttentionBackend, device: torch.device) -> float:
    total = shape.sequences * shape.tokens
    q, k, v = (
        torch.randn(total, heads, shape.channels, device=device, dtype=torch.bfloat16, requires_grad=True)
        for heads in (shape.heads, shape.shared, shape.shared)
    )
    packed = Packed.of([shape.tokens] * shape.sequences, shape.causal)
    packed = Packed(packed.starts.to(device), packed.longest, packed.causal)
    upstream = torch.randn_like(q)

    def step() -> None:
        packed_attention(q, k, v, packed, backend).backward(upstream)

    times = [_milliseconds(step) for _ in range(WARM_UP + RUNS)]
    return statistics.median(times[WARM_UP:])


def _milliseconds(step: Callable[[], object]) -> float:
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    step()
    end.record()
    end.synchronize()
    return float(begin.elapsed_time(end))
