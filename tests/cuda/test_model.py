"""The whole model on the device against the same on the CPU: losses, gradients, actions."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from model.vla_jepa import VLAJEPA, build_model
from pipeline.format.schema import Observation, Targets
from tests.model.helpers import SIZES, STATS, robot_observation, robot_targets, small_settings

CUDA = torch.device("cuda")
BACKENDS = pytest.mark.parametrize("attention", ["sdpa", "auto"])
"""The predictor of these tests has heads of 12 channels, which xFormers has no operator for: "auto" mixes both."""


def model_on(device: torch.device, attention: str) -> VLAJEPA:
    return build_model(replace(small_settings(), attention=attention), SIZES, STATS).eval().to(device)


def observation_on(device: torch.device) -> Observation[Tensor]:
    observation = robot_observation()
    assert observation.state is not None
    return replace(observation, images=observation.images.to(device), state=observation.state.to(device))


def targets_on(device: torch.device) -> Targets[Tensor]:
    t = robot_targets()
    moved = {name: getattr(t, name).to(device) for name in ("context", "latents", "latent_mask")}
    assert t.actions is not None
    assert t.action_mask is not None
    return replace(t, **moved, actions=t.actions.to(device), action_mask=t.action_mask.to(device))


def world_model_gradient(model: VLAJEPA, device: torch.device, bf16: bool) -> tuple[float, Tensor]:
    """World-model loss, and its gradient to every trained weight. The action loss draws noise on the device."""
    with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
        loss = model.losses(observation_on(device), targets_on(device)).world_model
    loss.backward()
    gradients = [p.grad.flatten().float().cpu() for p in model.parameters() if p.grad is not None]
    return loss.item(), torch.cat(gradients)


@BACKENDS
@pytest.mark.parametrize(("bf16", "loss_error", "gradient_error"), [(False, 1e-4, 1e-2), (True, 2e-2, 0.1)])
def test_losses_and_gradients(attention: str, bf16: bool, loss_error: float, gradient_error: float) -> None:
    expected_loss, expected = world_model_gradient(model_on(torch.device("cpu"), "sdpa"), torch.device("cpu"), False)
    loss, gradient = world_model_gradient(model_on(CUDA, attention), CUDA, bf16)
    assert loss == pytest.approx(expected_loss, rel=loss_error)
    assert gradient.shape == expected.shape
    assert float((gradient - expected).norm() / expected.norm()) < gradient_error


@BACKENDS
@pytest.mark.parametrize(("bf16", "error"), [(False, 1e-3), (True, 3e-2)])
def test_actions(attention: str, bf16: bool, error: float) -> None:
    start = torch.randn(4, SIZES.chunk, SIZES.action, generator=torch.Generator().manual_seed(0))
    expected = model_on(torch.device("cpu"), "sdpa").act(observation_on(torch.device("cpu")), start=start)
    with torch.autocast("cuda", torch.bfloat16, enabled=bf16):
        found = model_on(CUDA, attention).act(observation_on(CUDA), start=start.to(CUDA))
    span = expected.max() - expected.min()
    assert float((found.float().cpu() - expected).abs().max() / span) < error
