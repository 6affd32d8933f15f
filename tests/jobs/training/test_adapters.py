"""`model.backbone.lora` in a run: checkpoints, resume, who loads them, export, ranks."""

from __future__ import annotations

import importlib.util
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from jobs.common.policy.load_model import load_model
from jobs.training.export_checkpoint import run as export
from jobs.training.run import train
from jobs.training.settings import CheckpointFormat, ExportConfig, TrainConfig
from model.checkpoint.folders import list_checkpoints
from model.exchange.names import foreign_name
from model.settings import LoraSettings
from model.student import adapters
from pipeline.errors import SettingsError
from pipeline.format.build import Build
from tests.jobs.launch import losses_of, train_in_processes
from tests.jobs.runs import train_config

WORDS = ["model.backbone.lora.rank=4", "trainer.ema=0.5"]


def adapted(out: Path, build: Build, **trainer: object) -> TrainConfig:
    config = train_config(out, [build], **trainer)
    backbone = replace(config.model.backbone, lora=LoraSettings(rank=4))
    return replace(config, model=replace(config.model, backbone=backbone))


@pytest.fixture(scope="module")
def run(robot_build: Build, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six steps with adapters, and averages of them; read only."""
    config = adapted(tmp_path_factory.mktemp("adapters") / "run", robot_build, ema=0.5)
    train(config)
    return config.out


def test_a_checkpoint_holds_the_frozen_base_and_the_adapters_and_goes_on(
    run: Path, robot_build: Build, tmp_path: Path
) -> None:
    first, last = (load_file(path / "model.safetensors") for path in list_checkpoints(run / "checkpoints"))
    trained = load_file(list_checkpoints(run / "checkpoints")[-1] / "averages.safetensors")
    assert any("lora_A" in name for name in trained)
    assert not any("base_layer" in name for name in trained)
    for name, tensor in last.items():
        if name.startswith("student."):
            assert torch.equal(tensor, first[name]) != (name in trained), name
    shutil.copytree(run, tmp_path / "run")
    shutil.rmtree(list_checkpoints(tmp_path / "run" / "checkpoints")[-1])
    train(adapted(tmp_path / "run", robot_build, ema=0.5))
    assert losses_of(tmp_path / "run") == losses_of(run)
    ours, theirs = (list_checkpoints(path / "checkpoints")[-1] for path in (tmp_path / "run", run))
    for name in ("model", "optimizer", "averages"):
        assert (ours / f"{name}.safetensors").read_bytes() == (theirs / f"{name}.safetensors").read_bytes()


def test_whoever_loads_it_gets_merged_weights(run: Path, robot_build: Build, tmp_path: Path) -> None:
    model = load_model(run / "checkpoints" / "step-00000006")
    plain = train_config(tmp_path / "plain", [robot_build], steps=1, warmup_steps=0, lr_backbone=1e-12)
    train(replace(plain, init_from=run))  # weights of the same names go on to be trained whole
    after = load_file(list_checkpoints(plain.out / "checkpoints")[-1] / "model.safetensors")
    assert after.keys() == model.state_dict().keys()
    name = "student.model.language_model.layers.0.mlp.up_proj.weight"
    torch.testing.assert_close(after[name], model.state_dict()[name], atol=1e-6, rtol=0)
    base = load_file(run / "checkpoints" / "step-00000006" / "model.safetensors")
    assert (after[name] - base[name.replace(".weight", ".base_layer.weight")]).abs().max() > 1e-5
    again = adapted(tmp_path / "again", robot_build, steps=1, warmup_steps=0)
    train(replace(again, init_from=run))  # and adapters of another run begin at them
    begun = load_file(list_checkpoints(again.out / "checkpoints")[-1] / "model.safetensors")
    assert torch.equal(begun[name.replace(".weight", ".base_layer.weight")], model.state_dict()[name])


def test_an_export_holds_merged_weights(run: Path, tmp_path: Path) -> None:
    export(ExportConfig(checkpoint=run, out=tmp_path / "policy.pt", format=CheckpointFormat.STARVLA))
    tensors = torch.load(tmp_path / "policy.pt", weights_only=True)
    assert not any("lora" in name or "base_layer" in name or "token_adapter" in name for name in tensors)
    for name, tensor in load_model(run / "checkpoints" / "step-00000006").state_dict().items():
        if (foreign := foreign_name(name, "starvla")) is not None:
            assert torch.equal(tensors[foreign], tensor), name


def test_without_peft_nothing_is_written(robot_build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(adapters, "find_spec", lambda name: None if name == "peft" else found(name))
    with pytest.raises(SettingsError, match=r"needs the package peft: pip install 'vlajepa\[lora\]'"):
        train(adapted(tmp_path / "run", robot_build))
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_ranks_train_adapters_alike_whole_and_in_parts(robot_build: Build, tmp_path: Path) -> None:
    found = {}
    for strategy in ("ddp", "fsdp"):
        done = train_in_processes(tmp_path / strategy, [robot_build], *WORDS, f"trainer.strategy={strategy}", ranks=2)
        assert done.returncode == 0, done.stderr
        found[strategy] = load_model(list_checkpoints(tmp_path / strategy / "checkpoints")[-1]).state_dict()
    assert dict(losses_of(tmp_path / "fsdp")) == pytest.approx(dict(losses_of(tmp_path / "ddp")), rel=1e-4)
    for name, tensor in found["ddp"].items():
        assert torch.allclose(tensor, found["fsdp"][name], rtol=1e-3, atol=1e-4), name
