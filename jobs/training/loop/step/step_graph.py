"""Forward and backward passes as CUDA graphs: one launch for the thousands of kernels of a step.

A graph is recorded for each set of shapes it meets. Packed prompts have another length in every batch; they are padded
to a multiple of `TOKENS`, so that a run meets few.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from jobs.training.loop.step.micro_batches import weighted_total
from jobs.training.loop.step.optimiser import Optimiser
from model.losses import Losses
from model.student.backbone import StudentInput
from model.vla_jepa import VLAJEPA, TrainingBatch

TOKENS = 256
"""Packed prompts are padded to a multiple of it: at most 5 % of the tokens of 16 robot and 16 video samples."""

KEPT = 16
"""Graphs that are kept, those used last."""

WARM_UP = 2
"""Passes before one is recorded: the first ones compile and choose algorithms."""


@dataclass(frozen=True)
class RecordedPass:
    """A recorded pass: where it reads, what it writes, and the weights whose gradients it adds to."""

    graph: torch.cuda.CUDAGraph
    inputs: Sequence[Tensor]
    losses: tuple[Losses, ...]
    weights: Sequence[nn.Parameter]


class StepGraphs:
    """Runs passes of a model that computes in bfloat16 on one CUDA device, recorded."""

    def __init__(self, model: VLAJEPA, optimiser: Optimiser) -> None:
        self._model, self._optimiser = model, optimiser
        self._recorded: OrderedDict[Any, RecordedPass] = OrderedDict()
        self._pool = torch.cuda.graph_pool_handle()

    def run(
        self, batches: Sequence[TrainingBatch], weights: Sequence[float], names: Sequence[str], first: bool
    ) -> tuple[Losses, ...]:
        """Losses of the batches; gradients of their sum by `weights` go to the optimiser.

        Args:
            names: of the builds, for the error where one trains nothing.
            first: of the passes of an optimiser step: the gradients replace those of the step before.
        """
        inputs = self._model.student.prepare(*(observation for observation, _ in batches), padded_to=TOKENS)
        # The student's input has the images; the losses read the rest.
        batches = [(replace(o, images=o.images.new_empty(0), instruction=()), t) for o, t in batches]
        given = (inputs, tuple(batches))
        key = (_shapes(given), tuple(weights), first)
        if key not in self._recorded:
            self._recorded[key] = self._record(inputs, batches, weights, names)
            if len(self._recorded) > KEPT:
                self._recorded.popitem(last=False)
        self._recorded.move_to_end(key)
        recorded = self._recorded[key]
        for place, tensor in zip(recorded.inputs, _tensors(given), strict=True):
            place.copy_(tensor, non_blocking=True)
        recorded.graph.replay()
        self._optimiser.collected(recorded.weights)
        return recorded.losses

    def _record(
        self, inputs: StudentInput, batches: Sequence[TrainingBatch], weights: Sequence[float], names: Sequence[str]
    ) -> RecordedPass:
        inputs, batches = _copied((inputs, tuple(batches)))
        # The passes of the warm-up write into the gradients, and draw random numbers.
        masters = self._optimiser.masters.values()
        gradients = [(master, master.grad, None if master.grad is None else master.grad.clone()) for master in masters]
        random = torch.cuda.get_rng_state()

        def passes() -> tuple[tuple[Losses, ...], list[nn.Parameter]]:
            return self._pass(inputs, batches, weights, names)

        warm_up(passes)
        for master, gradient, content in gradients:
            master.grad = gradient
            if gradient is not None and content is not None:
                gradient.copy_(content)
        graph = torch.cuda.CUDAGraph()
        # Threads that read samples go on meanwhile, and pin memory.
        with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
            losses, changed = passes()
        torch.cuda.set_rng_state(random)
        return RecordedPass(graph, list(_tensors((inputs, batches))), losses, changed)

    def _pass(
        self, inputs: StudentInput, batches: Sequence[TrainingBatch], weights: Sequence[float], names: Sequence[str]
    ) -> tuple[tuple[Losses, ...], list[nn.Parameter]]:
        # No weight is cast, and a kept cast would belong to one graph alone.
        with torch.autocast("cuda", torch.bfloat16, cache_enabled=False):
            losses = self._model.losses_from(self._model.student.read(inputs), batches)
        weighted_total(losses, weights, names).backward()
        return tuple(map(_detached, losses)), self._optimiser.collect()


def warm_up(passes: Callable[[], object]) -> None:
    """Run some passes on a stream of their own, as recording wants it."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(WARM_UP):
            passes()
    torch.cuda.current_stream().wait_stream(stream)


def _detached(losses: Losses) -> Losses:
    values = {field.name: getattr(losses, field.name) for field in fields(losses)}
    changed: dict[str, Any] = {name: value.detach() for name, value in values.items() if value is not None}
    return replace(losses, **changed)


def _parts(value: Any) -> list[Any]:
    """What a dataclass or a tuple is made of."""
    if is_dataclass(value):
        return [getattr(value, field.name) for field in fields(value)]
    return list(value) if isinstance(value, tuple | list) else []


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    for part in _parts(value):
        yield from _tensors(part)


def _shapes(value: Any) -> Any:
    """Shapes and types of tensors, and everything else as it is."""
    if isinstance(value, Tensor):
        return tuple(value.shape), value.dtype
    parts = _parts(value)
    return tuple(map(_shapes, parts)) if parts else value


def _copied(value: Any) -> Any:
    """The same with tensors of its own."""
    if isinstance(value, Tensor):
        return value.clone()
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{field.name: _copied(getattr(value, field.name)) for field in fields(value)})
    return tuple(map(_copied, value)) if isinstance(value, tuple) else value
