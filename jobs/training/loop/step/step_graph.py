"""Forward and backward passes as CUDA graphs.

Packed prompts have another length in every batch; they are padded to a multiple of `TOKENS`, so that a run meets few
sets of shapes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields, replace
from typing import Any

import torch
from torch import nn

from jobs.training.loop.step.micro_batches import weighted_total
from jobs.training.loop.step.optimiser import Optimiser
from model.losses import Losses
from model.recording import Recorded
from model.student.backbone import StudentInput
from model.vla_jepa import VLAJEPA, TrainingBatch

TOKENS = 256
"""Packed prompts are padded to a multiple of it: at most 5 % of the tokens of 16 robot and 16 video samples."""


class StepGraphs:
    """Runs passes of a model that computes in bfloat16 on one CUDA device, recorded."""

    def __init__(self, model: VLAJEPA, optimiser: Optimiser) -> None:
        self._model, self._optimiser = model, optimiser
        self._recorded = Recorded(self._pass, self._undone)

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
        given = tuple((replace(o, images=o.images.new_empty(0), instruction=()), t) for o, t in batches)
        losses, changed = self._recorded(inputs, given, tuple(weights), tuple(names), first)
        self._optimiser.collected(changed)
        return losses

    @contextmanager
    def _undone(self) -> Iterator[None]:
        """Passes write into the gradients, and draw random numbers."""
        masters = self._optimiser.masters.values()
        gradients = [(master, master.grad, None if master.grad is None else master.grad.clone()) for master in masters]
        random = torch.cuda.get_rng_state()
        yield
        for master, gradient, content in gradients:
            master.grad = gradient
            if gradient is not None and content is not None:
                gradient.copy_(content)
        torch.cuda.set_rng_state(random)

    def _pass(
        self,
        inputs: StudentInput,
        batches: Sequence[TrainingBatch],
        weights: Sequence[float],
        names: Sequence[str],
        _first: bool,
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
