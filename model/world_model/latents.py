"""What the world model tells of the future, as latents to look at.

Shapes: B batch, K future steps, V views of the predictor, N tokens a step and view, D latent width.
"""

from __future__ import annotations

import torch
from torch import Tensor

from model.vla_jepa import VLAJEPA
from pipeline.format.schema import Observation, Targets


@torch.no_grad()
def predict_latents(
    model: VLAJEPA, observation: Observation[Tensor], targets: Targets[Tensor]
) -> tuple[Tensor, Tensor, Tensor]:
    """Latents of the future steps by teacher forcing: step k+1 is predicted from the true latents of steps 0..k.

    Args:
        model: in eval mode.
        observation: the student's input, on the model's device.
        targets: with as many views as the predictor takes, see `model.batch`.

    Returns:
        (predicted, true, nothing changes), float32 [B, K, V, N, D]; the last is the true latent of the step before.
        Steps that `targets.latent_mask` masks are numbers without meaning.

    Raises:
        ValueError: the shape of the latents does not fit the model.
    """
    forced = model._teacher_forced(targets)
    predicted = model.predictor(forced.inputs, model.steering(observation, targets))
    steps, views = model.sizes.steps, model.settings.predictor.views
    predicted, true, before = (split_views(x, steps, views) for x in (predicted, forced.targets, forced.inputs))
    return predicted, true, before


@torch.no_grad()
def roll_out(model: VLAJEPA, observation: Observation[Tensor], targets: Targets[Tensor]) -> Tensor:
    """Latents of the future steps from z_0 alone, each predicted from the predictions before: [B, K, V, N, D].

    Arguments and errors as in `predict_latents`; of the targets the context alone is used.
    """
    forced, steps = model._teacher_forced(targets), model.sizes.steps
    start = forced.inputs[:, : model.sizes.tokens]
    rolled = model.predictor.rollout(start, model.steering(observation, targets), steps)
    return split_views(rolled, steps, model.settings.predictor.views)


def split_views(latents: Tensor, steps: int, views: int) -> Tensor:
    """The opposite of `model.losses.merge_views`: [B, K*N, V*D] -> float32 [B, K, V, N, D]."""
    return latents.float().unflatten(1, (steps, -1)).unflatten(3, (views, -1)).transpose(2, 3)
