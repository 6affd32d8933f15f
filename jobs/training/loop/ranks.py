"""The processes of a run: one alone, those of torchrun, or the workers of Ray Train. The loop is the same in all three.

Each has a rank and a device. What they agree on goes through a second, gloo group on the host, so that nothing waits
for a device; gradients and metrics go through the device's own (NCCL on CUDA, gloo on the CPU).
"""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.nn.parallel import DistributedDataParallel

from jobs.common.policy.device import pick_device
from jobs.training.loop.settings import Strategy
from model.vla_jepa import VLAJEPA
from pipeline.errors import RunError, SettingsError

_T = TypeVar("_T")

WAITS = "waits for the other ranks"


class Position:
    """How far a rank is: `now` is the number of marks it has passed, and what the last one says."""

    def __init__(self) -> None:
        self.now = (0, "start")

    def mark(self, place: str) -> None:
        self.now = (self.now[0] + 1, place)


@dataclass(frozen=True)
class Ranks:
    """This process among those of the run.

    host_group  gloo, None for a process alone;  save_group  another one, for the thread that writes checkpoints
    position    all ranks pass the same marks in the same order, see `jobs.training.loop.rank_watch`
    """

    rank: int
    world: int
    local_world: int
    device: torch.device
    host_group: Any = None
    save_group: Any = None
    position: Position = field(default_factory=Position)

    @property
    def main(self) -> bool:
        """Whether this is the rank that writes and prints."""
        return self.rank == 0

    def count(self, *flags: bool) -> tuple[int, ...]:
        """On how many ranks each flag is set."""
        if self.world == 1:
            return tuple(map(int, flags))
        self.position.mark(WAITS)
        counts = torch.tensor([int(flag) for flag in flags])
        dist.all_reduce(counts, group=self.host_group)
        return tuple(counts.tolist())

    def gather(self, value: Any) -> list[Any]:
        """The value of every rank, by rank. Any that pickle takes."""
        if self.world == 1:
            return [value]
        self.position.mark(WAITS)
        found: list[Any] = [None] * self.world
        dist.all_gather_object(found, value, group=self.host_group)
        return found

    def from_main(self, action: Callable[[], _T]) -> _T:
        """Do something on the main rank alone. Its result, which pickle must take, or its RunError, on all ranks."""
        outcome: tuple[_T | None, RunError | None] = None, None
        if self.main:
            try:
                outcome = action(), None
            except RunError as error:
                outcome = None, error
        result, problem = self.gather(outcome)[0]
        if problem is not None:
            raise problem
        return cast(_T, result)

    def sum(self, values: Tensor) -> Tensor:
        """Sum over the ranks, of a tensor on the device; in place."""
        if self.world > 1:
            self.position.mark(WAITS)
            dist.all_reduce(values)
        return values

    def sharded(self, strategy: Strategy) -> bool:
        """Whether several ranks share the parameters of one model."""
        return self.world > 1 and strategy == Strategy.FSDP

    def mesh(self) -> DeviceMesh:
        """All ranks, in one dimension."""
        return init_device_mesh(self.device.type, (self.world,))

    def barrier(self) -> None:
        """Wait for all ranks."""
        if self.world > 1:
            self.position.mark(WAITS)
            dist.barrier(group=self.host_group)


@contextlib.contextmanager
def joined(device: str, timeout_s: float) -> Iterator[Ranks]:
    """The ranks this process belongs to, by the environment that torchrun and Ray Train set up.

    Args:
        device: "auto", "cpu" or "cuda".
        timeout_s: see `TrainerSettings.rank_timeout_s`. PyTorch's own limits are twice that, since they name nobody.

    Raises:
        RunError: CUDA was asked for and there is none; or a variable is no number.
    """
    world, started = _number("WORLD_SIZE", "1"), False
    chosen = pick_device(device)
    if world == 1:
        yield Ranks(0, 1, 1, chosen)
        return
    if chosen.type == "cuda":
        chosen = torch.device("cuda", _number("LOCAL_RANK"))
        torch.cuda.set_device(chosen)
    limit = timedelta(seconds=2 * timeout_s)
    if not dist.is_initialized():
        dist.init_process_group("nccl" if chosen.type == "cuda" else "gloo", timeout=limit)
        started = True
    try:
        local_world = _number("LOCAL_WORLD_SIZE", "1")
        groups = (dist.new_group(backend="gloo", timeout=limit), dist.new_group(backend="gloo", timeout=limit))
        yield Ranks(dist.get_rank(), dist.get_world_size(), local_world, chosen, *groups)
    finally:
        if started:
            dist.destroy_process_group()


def _number(variable: str, missing: str = "") -> int:
    text = os.environ.get(variable, missing)
    if not text.isdecimal():
        raise SettingsError(f"{variable} must be a number as torchrun sets it, got {text!r}; unset it, or use torchrun")
    return int(text)


def distribute(model: VLAJEPA, ranks: Ranks, unused: bool) -> nn.Module:
    """What the loop calls in place of a model that is whole on every rank: itself, or wrapped by DDP.

    Args:
        unused: whether some backward passes leave out parts of the model, for which DDP would wait otherwise.
    """
    if ranks.world == 1:
        return model
    with warnings.catch_warnings():  # newer versions of PyTorch want another name for `broadcast_buffers`
        warnings.simplefilter("ignore", FutureWarning)
        # Buffers are constants, the same on all ranks.
        return DistributedDataParallel(
            model, broadcast_buffers=False, gradient_as_bucket_view=True, find_unused_parameters=unused
        )


def gradients_stay(module: nn.Module, stay: bool) -> contextlib.AbstractContextManager[Any]:
    """While open, and if `stay`, DDP leaves gradients on their rank. FSDP2 reduces its shards in every pass."""
    if stay and isinstance(module, DistributedDataParallel):
        return module.no_sync()
    return contextlib.nullcontext()
