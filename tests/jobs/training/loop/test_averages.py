"""Moving averages of the trained weights: arithmetic, evaluation, checkpoints, resume, who takes them."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from jobs.common.policy.checkpoint_policy import CheckpointPolicy
from jobs.common.policy.load_model import load_model
from jobs.serving.serve import identity
from jobs.training.loop.settings import TrainerSettings
from jobs.training.loop.step.optimiser import Optimiser
from jobs.training.run import train
from model.checkpoint.checkpoint import load_weights
from model.checkpoint.folders import list_checkpoints
from model.checkpoint.state_file import STATE, read_state, write_state
from pipeline.errors import CorruptError
from pipeline.format.build import Build
from tests.jobs.launch import losses_of, train_in_processes
from tests.jobs.runs import train_config
from tests.model.helpers import small_model

DECAY = 0.75


def stepped(optimiser: Optimiser, model: torch.nn.Module, count: int) -> None:
    """Optimiser steps on gradients of ones."""
    for _ in range(count):
        optimiser.begin(0)
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.grad = torch.ones_like(parameter)
        optimiser.collect()
        optimiser.step(torch.tensor(1.0))


@pytest.mark.parametrize("rounded", [False, True])
def test_an_average_is_of_the_float32_weights_after_every_step(rounded: bool) -> None:
    model = small_model()
    optimiser = Optimiser(model, TrainerSettings(ema=DECAY, lr_rest=1e-3, lr_backbone=1e-5), rounded)
    expected = {n: p.detach().double() for n, p in optimiser.masters.items() if p.requires_grad}
    assert expected.keys() == optimiser.averages.tensors.keys()
    assert len(expected) < len(optimiser.masters)  # the final norm is frozen
    for _ in range(3):
        stepped(optimiser, model, 1)
        expected = {n: DECAY * e + (1 - DECAY) * optimiser.masters[n].detach().double() for n, e in expected.items()}
    for name, average in optimiser.averages.tensors.items():
        assert average.dtype == torch.float32
        torch.testing.assert_close(average.double(), expected[name], rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("rounded", [False, True])
def test_the_model_gets_its_weights_back_to_the_bit(rounded: bool) -> None:
    model = small_model()
    optimiser = Optimiser(model, TrainerSettings(ema=DECAY, lr_rest=1e-2), rounded)
    stepped(optimiser, model, 2)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    with pytest.raises(ValueError, match="inside"), optimiser.averages.in_place_of_weights(model):  # noqa: PT012
        for name, parameter in model.named_parameters():
            wanted = optimiser.averages.tensors.get(name, before[name])
            assert torch.equal(parameter, wanted.to(parameter.dtype)), name
        raise ValueError("inside")
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, before[name])


def test_without_a_decay_nothing_is_kept() -> None:
    assert Optimiser(small_model(), TrainerSettings()).averages.tensors == {}


@pytest.fixture(scope="module")
def run(robot_build: Build, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six steps with averages; read only."""
    config = train_config(tmp_path_factory.mktemp("averages") / "run", [robot_build], ema=DECAY)
    train(config)
    return config.out


def test_held_out_numbers_are_those_of_the_averages(run: Path, robot_build: Build, tmp_path: Path) -> None:
    """A run whose own weights are these averages has the same numbers; the weights of the last step have others."""
    held_out = json.loads((run / "held_out.json").read_text())["robot"]["model"]
    last = list_checkpoints(run / "checkpoints")[-1]
    found = {}
    for name, averaged in (("averages", True), ("last", False)):
        plain = train_config(tmp_path / name, [robot_build])
        train(replace(plain, trainer=replace(plain.trainer, stop_after=3)))  # a checkpoint to write over
        (old,) = list_checkpoints(plain.out / "checkpoints")
        tensors = load_file(last / "model.safetensors")
        save_file(tensors | (load_file(last / "averages.safetensors") if averaged else {}), old / "model.safetensors")
        state = read_state(old)
        shutil.copy(last / "optimizer.safetensors", old)
        new = old.with_name(last.name)
        old.rename(new)
        write_state(new, {**state, "step": 6})
        train(plain)
        found[name] = json.loads((plain.out / "held_out.json").read_text())["robot"]["model"]
    assert found["averages"] == held_out
    assert found["last"] != held_out


def test_a_run_goes_on_to_the_bit(run: Path, robot_build: Build, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "run")
    shutil.rmtree(list_checkpoints(tmp_path / "run" / "checkpoints")[-1])
    train(train_config(tmp_path / "run", [robot_build], ema=DECAY))
    assert losses_of(tmp_path / "run") == losses_of(run)
    ours, theirs = (list_checkpoints(path / "checkpoints")[-1] for path in (tmp_path / "run", run))
    assert "averages.safetensors" in json.loads((ours / STATE).read_text())["files"]
    for name in ("model", "optimizer", "averages"):
        assert (ours / f"{name}.safetensors").read_bytes() == (theirs / f"{name}.safetensors").read_bytes()
    assert (ours / "averages.safetensors").read_bytes() != (ours / "model.safetensors").read_bytes()


def test_who_loads_a_checkpoint_takes_the_averages_and_says_so(
    run: Path, robot_build: Build, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    last = list_checkpoints(run / "checkpoints")[-1]
    averages = load_file(last / "averages.safetensors")
    model, weights = load_model(last), load_file(last / "model.safetensors")
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, averages.get(name, weights[name])), name
    assert any(not torch.equal(weights[name], average) for name, average in averages.items())
    assert identity(CheckpointPolicy(last, "cpu"))["weights"] == "moving averages (trainer.ema=0.75)"
    config = train_config(tmp_path / "next", [robot_build], steps=1, warmup_steps=0, ema=DECAY)
    capsys.readouterr()
    train(replace(config, init_from=run))
    assert "weights: moving averages (trainer.ema=0.75)" in capsys.readouterr().out
    # The averages of the next run begin at those of this one.
    begun = load_file(list_checkpoints(config.out / "checkpoints")[-1] / "averages.safetensors")
    name = "student.model.language_model.layers.0.mlp.up_proj.weight"
    torch.testing.assert_close(begun[name], averages[name], atol=3e-3, rtol=0)


def test_a_checkpoint_without_the_averages_that_it_speaks_of_is_refused(run: Path, tmp_path: Path) -> None:
    last = shutil.copytree(list_checkpoints(run / "checkpoints")[-1], tmp_path / "step-00000006")
    (last / "averages.safetensors").unlink()
    write_state(last, read_state(last))
    with pytest.raises(CorruptError, match=r"has no averages of weights, and its state\.json says trainer\.ema=0\.75"):
        load_model(last)


@pytest.mark.slow
def test_ranks_average_alike_whole_and_in_parts(robot_build: Build, tmp_path: Path) -> None:
    """DDP writes whole averages, FSDP2 each rank's shards; both are the same but for rounding, and go on."""
    found = {}
    for strategy in ("ddp", "fsdp"):
        words = [f"trainer.ema={DECAY}", f"trainer.strategy={strategy}", "trainer.eval_every=2"]
        done = train_in_processes(tmp_path / strategy, [robot_build], *words, ranks=2)
        assert done.returncode == 0, done.stderr
        found[strategy] = list_checkpoints(tmp_path / strategy / "checkpoints")[-1]
    assert (found["fsdp"] / "sharded").is_dir()
    whole, parts = load_model(found["ddp"]), load_model(found["fsdp"])
    last = load_model(found["fsdp"])
    load_weights(found["fsdp"], last, averaged=False)
    for (name, ours), theirs in zip(whole.state_dict().items(), parts.state_dict().values(), strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-3, atol=1e-4), name
    moved = [not torch.equal(a, b) for a, b in zip(last.parameters(), parts.parameters(), strict=True)]
    assert sum(moved) > 100
    one, two = (json.loads((tmp_path / name / "held_out.json").read_text())["robot"] for name in ("ddp", "fsdp"))
    assert one["model"] == pytest.approx(two["model"], rel=1e-4)
    # Evaluation between the steps leaves the loss curve as it is.
    again = train_in_processes(tmp_path / "quiet", [robot_build], *words[:2], ranks=2)
    assert again.returncode == 0, again.stderr
    assert losses_of(tmp_path / "quiet") == losses_of(tmp_path / "fsdp")
    shutil.rmtree(found["fsdp"])
    resumed = train_in_processes(tmp_path / "fsdp", [robot_build], *words, ranks=2)
    assert resumed.returncode == 0, resumed.stderr
    for (name, ours), theirs in zip(
        load_model(found["fsdp"]).state_dict().items(), parts.state_dict().values(), strict=True
    ):
        assert torch.equal(ours, theirs), name
