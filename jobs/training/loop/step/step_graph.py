"""Forward and backward passes as CUDA graphs: one launch for the thousands of kernels of a step.

A graph is recorded for each set of shapes it meets. Packed prompts have another length in every batch; they are padded
to a multiple of `TOKENS`, so that a run meets few.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import nn

from jobs.training.loop.step.micro_batches import weighted_total
from jobs.training.loop.step.optimiser import Optimiser
from model.losses import Losses
from model.recording import copied, fill, shapes_of, warm_up
from model.student.backbone import StudentInput
from model.vla_jepa import VLAJEPA, TrainingBatch

TOKENS = 256
"""Packed prompts are padded to a multiple of it: at most 5 % of the tokens of 16 robot and 16 video samples."""

KEPT = 16
"""Graphs that are kept, those used last."""


@dataclass(frozen=True)
class RecordedPass:
    """A recorded pass: where it reads, what it writes, and the weights whose gradients it adds to."""

    graph: torch.cuda.CUDAGraph
    inputs: tuple[StudentInput, Sequence[TrainingBatch]]
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
        key = (shapes_of(given), tuple(weights), first)
        if key not in self._recorded:
            self._recorded[key] = self._record(inputs, batches, weights, names)
            if len(self._recorded) > KEPT:
                self._recorded.popitem(last=False)
        self._recorded.move_to_end(key)
        recorded = self._recorded[key]
        fill(recorded.inputs, given)
        recorded.graph.replay()
        self._optimiser.collected(recorded.weights)
        return recorded.losses

    def _record(
        self, inputs: StudentInput, batches: Sequence[TrainingBatch], weights: Sequence[float], names: Sequence[str]
    ) -> RecordedPass:
        inputs, batches = copied((inputs, tuple(batches)))
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
        return RecordedPass(graph, (inputs, batches), losses, changed)

    def _pass(
        self, inputs: StudentInput, batches: Sequence[TrainingBatch], weights: Sequence[float], names: Sequence[str]
    ) -> tuple[tuple[Losses, ...], list[nn.Parameter]]:
        # No weight is cast, and a kept cast would belong to one graph alone.
        with torch.autocast("cuda", torch.bfloat16, cache_enabled=False):
            losses = self._model.losses_from(self._model.student.read(inputs), batches)
        weighted_total(losses, weights, names).backward()
        return tuple(map(_detached, losses)), self._optimiser.collect()


def _detached(losses: Losses) -> Losses:
    values = {field.name: getattr(losses, field.name) for field in fields(losses)}
    changed: dict[str, Any] = {name: value.detach() for name, value in values.items() if value is not None}
    return replace(losses, **changed)
