"""How far the world model is off, sample by sample, under any steering.

Shapes: B batch, K future steps, A action tokens a step, E width of latent actions, V views of the predictor.
"""

from __future__ import annotations

import torch
from torch import Tensor

from model.losses import step_errors, view_errors
from model.vla_jepa import VLAJEPA
from pipeline.format.schema import Targets


@torch.no_grad()
def prediction_errors(model: VLAJEPA, targets: Targets[Tensor], *steering: Tensor) -> Tensor:
    """Mean L1 of each sample, future step and view, float32 [1 + len(steering), B, K, V], NaN where masked.

    By repeating the latent of the step before; then by the teacher-forced prediction under each steering, see
    `VLAJEPA.steering`.
    """
    forced, views = model._teacher_forced(targets), model.settings.predictor.views
    guesses = [forced.inputs, *(model.predictor(forced.inputs, each) for each in steering)]
    errors = torch.stack([view_errors(guess, forced.targets, model.sizes.steps, views) for guess in guesses])
    return errors.masked_fill(~forced.mask[..., None], torch.nan)


@torch.no_grad()
def rollout_distances(model: VLAJEPA, steering: Tensor, *futures: Targets[Tensor]) -> Tensor:
    """How far the future rolled out from the first one's z_0 lies from each: mean L1 float32 [len(futures), B].

    Over the steps that no mask hides, of any; NaN where there is none.
    """
    forced = [model._teacher_forced(targets) for targets in futures]
    steps = model.sizes.steps
    told = model.predictor.rollout(forced[0].inputs[:, : model.sizes.tokens], steering, steps)
    mask = torch.stack([each.mask for each in forced]).all(0)
    errors = torch.stack([step_errors(told, each.targets, steps) for each in forced])
    return errors.masked_fill(~mask, 0.0).sum(-1) / mask.sum(-1)
