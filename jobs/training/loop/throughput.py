"""How fast a run is, and how much of the devices' arithmetic it uses."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace

import torch

from jobs.training.loop.data import kind_of
from jobs.training.loop.ranks import Ranks
from jobs.training.loop.settings import TrainerSettings
from model.estimate import estimate_step
from model.settings import ModelSettings
from pipeline.format.schema import Sizes
from pipeline.streaming.stream import Stream

DEVICE_FLOPS: Mapping[str, float] = {"A100": 312e12, "H100": 989e12, "H200": 989e12, "L40S": 362e12, "A10G": 70e12}
"""Dense bfloat16 peak of a device by a part of its name, FLOP/s (NVIDIA's data sheets, without sparsity)."""


class Throughput:
    """Numbers of the steps' speed.

    Args:
        samples: of a step, over all ranks.
        flops: of a step on all ranks; 0: not known.
        peak: of one device, FLOP/s; None: not known.
    """

    def __init__(self, ranks: Ranks, samples: int, flops: float = 0.0, peak: float | None = None) -> None:
        self._ranks, self._samples, self._flops, self._peak = ranks, samples, flops, peak
        self._started = time.monotonic()
        self._steps, self._seconds, self._waited = 0, 0.0, 0.0
        self.begin()

    def begin(self) -> None:
        """What follows is a step again: what was done meanwhile (held-out losses, a checkpoint) is none's time."""
        self._since, self._waiting = time.perf_counter(), 0.0

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """While open, the run waits for samples."""
        began = time.perf_counter()
        yield
        self._waiting += time.perf_counter() - began

    def end_step(self) -> None:
        """The numbers of a step are there: its time is that since the numbers of the step before were."""
        self.add(time.perf_counter() - self._since, self._waiting)
        self.begin()

    def add(self, seconds: float, waited: float) -> None:
        """A step took so long, and waited so long for its batch."""
        self._steps, self._seconds, self._waited = self._steps + 1, self._seconds + seconds, self._waited + waited

    def numbers(self) -> dict[str, float]:
        """Metrics of the steps that were added since the last call."""
        seconds, waited = self._seconds / self._steps, self._waited / self._steps
        self._steps, self._seconds, self._waited = 0, 0.0, 0.0
        found = {
            "samples_per_s": self._samples / seconds,
            "data_wait_share": waited / seconds,
            "seconds": time.monotonic() - self._started,
            "memory_gib": memory_in_use(self._ranks.device) / 2**30,
        }
        if self._flops:
            rate = self._flops / seconds / self._ranks.world
            found["tflops"] = rate / 1e12
            if self._peak:
                found["mfu"] = rate / self._peak
        return found


def measure_throughput(
    streams: Sequence[Stream], model: ModelSettings, sizes: Sizes, settings: TrainerSettings, ranks: Ranks
) -> Throughput:
    """Throughput of a run; FLOPs of a step are those of `vlajepa estimate`, each kind of sample with its most views."""
    samples = sum(stream.mixture.batch_size for stream in streams)
    flops = 0.0
    if settings.count_flops and ranks.main:
        for stream in streams:
            most_views = replace(sizes, views=max(len(reader.cameras.images) for reader in stream.readers))
            one = estimate_step(model, most_views, 1, (kind_of(stream),), settings.bf16).flops
            flops += one * stream.mixture.batch_size
    return Throughput(ranks, samples, flops, settings.device_flops or device_flops(ranks.device))


def device_flops(device: torch.device) -> float | None:
    """Dense bfloat16 peak of a device, FLOP/s; None for one that is not in the table."""
    if device.type != "cuda":
        return None
    name = torch.cuda.get_device_name(device)
    return next((flops for part, flops in DEVICE_FLOPS.items() if part in name), None)


def memory_in_use(device: torch.device) -> int:
    """Bytes: the highest PyTorch held on a CUDA device, else this process's resident memory."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
