"""Checkpoints whole or absent; an optimiser that was loaded goes on as if it had not been, in each of AdamW's forms."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from model.checkpoint.checkpoint import (
    copy_tensors,
    load_optimizer,
    load_weights,
    prune_checkpoints,
    remove_unfinished,
    write_checkpoint,
)
from model.checkpoint.folders import list_checkpoints
from pipeline.errors import BuildError


def model_and_adamw(fused: bool) -> tuple[nn.Module, torch.optim.AdamW]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2))
    return model, torch.optim.AdamW(model.parameters(), lr=0.1, fused=fused)


def steps(model: nn.Module, adamw: torch.optim.AdamW, numbers: range) -> None:
    for number in numbers:
        adamw.zero_grad()
        model(torch.full((1, 4), float(number))).square().sum().backward()
        adamw.step()


@pytest.mark.parametrize("before", [False, True])
@pytest.mark.parametrize("after", [False, True])
def test_a_loaded_optimiser_goes_on(tmp_path: Path, before: bool, after: bool) -> None:
    whole, adamw = model_and_adamw(before)
    steps(whole, adamw, range(3))
    folder = write_checkpoint(tmp_path, 3, copy_tensors(whole, dict(whole.named_parameters()), adamw), {})
    resumed, other = model_and_adamw(after)
    load_weights(folder, resumed)
    load_optimizer(folder, dict(resumed.named_parameters()), other)
    steps(whole, adamw, range(3, 6))
    steps(resumed, other, range(3, 6))
    for found, expected in zip(resumed.parameters(), whole.parameters(), strict=True):
        torch.testing.assert_close(found, expected, rtol=0 if before == after else 1e-5, atol=0)


@pytest.mark.parametrize(("fused", "device"), [(True, "meta"), (False, "cpu")])
def test_the_fused_form_counts_steps_on_the_device(tmp_path: Path, fused: bool, device: str) -> None:
    model, adamw = model_and_adamw(False)
    steps(model, adamw, range(2))
    folder = write_checkpoint(tmp_path, 2, copy_tensors(model, dict(model.named_parameters()), adamw), {})
    elsewhere = model.to("meta")
    other = torch.optim.AdamW(elsewhere.parameters(), lr=0.1)
    other.param_groups[0]["fused"] = fused
    load_optimizer(folder, dict(elsewhere.named_parameters()), other)
    state = other.state[next(elsewhere.parameters())]
    assert state["step"].device.type == device
    assert state["exp_avg"].device.type == "meta"


@pytest.mark.parametrize(
    ("name", "tensor"),
    [
        ("0.weight/exp_avg", torch.zeros(1)),
        ("0.weight/exp_avg", torch.zeros(3, 5)),
        ("0.weight/step", torch.zeros(1)),
        ("0.weight/exp_avg_sq", None),
        ("0.weight/surprise", torch.zeros(3, 4)),
    ],
)
def test_a_state_of_the_optimiser_is_whole(tmp_path: Path, name: str, tensor: Tensor | None) -> None:
    model, adamw = model_and_adamw(False)
    steps(model, adamw, range(2))
    tensors = copy_tensors(model, dict(model.named_parameters()), adamw)
    if tensor is None:
        del tensors["optimizer"][name]
    else:
        tensors["optimizer"][name] = tensor
    folder = write_checkpoint(tmp_path, 2, tensors, {})
    with pytest.raises(BuildError, match=r"not the optimiser's whole state of 0\.weight"):
        load_optimizer(folder, dict(model.named_parameters()), adamw)


def test_a_kill_while_checkpoints_are_removed_leaves_nothing_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, adamw = model_and_adamw(False)
    first, second = (
        write_checkpoint(tmp_path, step, copy_tensors(model, dict(model.named_parameters()), adamw), {})
        for step in (1, 2)
    )

    def killed(folder: Path) -> None:
        (folder / "state.json").unlink()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("model.checkpoint.checkpoint.shutil.rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            prune_checkpoints(tmp_path, keep=1)
    assert not first.exists()
    assert list_checkpoints(tmp_path) == [second]
    remove_unfinished(tmp_path)
    assert list(tmp_path.iterdir()) == [second]
