"""float32 weights beside a model that computes with bfloat16 copies of them."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from jobs.training.loop.settings import TrainerSettings
from jobs.training.loop.step.micro_batches import MicroBatch, passes
from jobs.training.loop.step.optimiser import Optimiser
from model.checkpoint.checkpoint import copy_tensors, load_optimizer, load_weights, write_checkpoint
from model.vla_jepa import VLAJEPA
from tests.model.helpers import robot_observation, robot_targets, small_model, video_observation, video_targets


def backward(model: VLAJEPA, seed: int) -> None:
    torch.manual_seed(seed)
    batches = (video_observation(), video_targets()), (robot_observation(), robot_targets())
    with torch.autocast("cpu", torch.bfloat16):
        losses = model(*batches)
    torch.stack([each.total for each in losses]).sum().backward()


def rounded() -> tuple[VLAJEPA, Optimiser]:
    model = small_model()
    return model, Optimiser(model, TrainerSettings(lr_backbone=1e-3, lr_rest=1e-3, lr_action_head=1e-3), rounded=True)


def test_the_model_computes_with_rounded_copies_and_steps_are_of_float32() -> None:
    model, optimiser = rounded()
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
    before = {name: master.detach().clone() for name, master in optimiser.masters.items()}
    assert {x.dtype for x in before.values()} == {torch.float32}
    for name, parameter in small_model().named_parameters():
        assert torch.equal(before[name], parameter)
    optimiser.begin(0)
    backward(model, 0)
    changed = optimiser.collect()
    optimiser.step(optimiser.norms()["grad_norm"])
    moved = [name for name, master in optimiser.masters.items() if not torch.equal(master, before[name])]
    assert len(moved) == len(changed) > 100
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, optimiser.masters[name].bfloat16())
        assert parameter.grad is None
    # The first learning rates are far below what bfloat16 could add to a weight.
    assert any(torch.equal(before[name].bfloat16(), optimiser.masters[name].bfloat16()) for name in moved)


def test_gradients_of_passes_add_up_in_float32() -> None:
    model, optimiser = rounded()
    single = []
    for seed in (0, 1):
        optimiser.begin(0)
        backward(model, seed)
        optimiser.collect()
        single.append({n: m.grad.clone() for n, m in optimiser.masters.items() if m.grad is not None})
    optimiser.begin(0)
    for seed in (0, 1):
        backward(model, seed)
        optimiser.collect()
    for name, gradient in single[0].items():
        assert torch.equal(optimiser.masters[name].grad, gradient + single[1][name])


def test_a_checkpoint_has_the_float32_weights_and_goes_on_from_them(tmp_path: Path) -> None:
    model, optimiser = rounded()

    def step(model: VLAJEPA, optimiser: Optimiser, seed: int) -> None:
        optimiser.begin(seed)
        backward(model, seed)
        optimiser.collect()
        optimiser.step(optimiser.norms()["grad_norm"])

    step(model, optimiser, 0)
    folder = write_checkpoint(tmp_path, 1, copy_tensors(model, optimiser.masters, optimiser.adamw), {})
    exact = small_model()
    load_weights(folder, exact)
    for name, parameter in exact.named_parameters():
        assert torch.equal(parameter, optimiser.masters[name])
    resumed, other = rounded()
    load_weights(folder, resumed, masters=other.masters)
    load_optimizer(folder, other.masters, other.adamw)
    other.publish()
    step(model, optimiser, 1)
    step(resumed, other, 1)
    for name, master in optimiser.masters.items():
        assert torch.equal(other.masters[name], master)


@pytest.mark.parametrize(("pieces", "expected"), [((1, 1), [["a", "b"]]), ((1, 3), [["b"], ["b"], ["a", "b"]])])
def test_the_last_pass_has_all_builds(pieces: tuple[int, int], expected: list[list[str]]) -> None:
    micros = [
        MicroBatch(SimpleNamespace(name=name), None, 1.0)  # type: ignore[arg-type]
        for name, count in zip("ab", pieces, strict=True)
        for _ in range(count)
    ]
    assert [[micro.build.name for micro in together] for together in passes(micros)] == expected
