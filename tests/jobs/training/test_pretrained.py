"""A backbone of kind "pretrained": whose weights a checkpoint holds, its own are not read again."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from jobs.common.policy.checkpoint_policy import CheckpointPolicy
from jobs.training.export_checkpoint import run as export
from jobs.training.import_checkpoint import run as import_checkpoint
from jobs.training.run import train
from jobs.training.settings import CheckpointFormat, ExportConfig, ImportConfig, TrainConfig
from model.checkpoint.folders import list_checkpoints
from model.settings import BackboneKind, ModelSettings
from model.student.loading import load_backbone
from model.student.tokenizer import byte_tokenizer
from pipeline.errors import SettingsError
from pipeline.format.build import Build
from pipeline.format.schema import Sizes
from tests.jobs.launch import losses_of
from tests.jobs.runs import train_config
from tests.model.helpers import small_settings

WEIGHTS = "model.safetensors"


@pytest.fixture
def released(tmp_path: Path) -> Path:
    """A folder as the hub has it: configuration, tokenizer, weights."""
    settings = small_settings()
    _, model = load_backbone(settings.backbone, settings.prompt)
    folder = tmp_path / "qwen"
    model.save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    assert (folder / WEIGHTS).is_file()
    return folder


def config_of(out: Path, build: Build, released: Path, **trainer: object) -> TrainConfig:
    config = train_config(out, [build], **trainer)
    backbone = replace(config.model.backbone, kind=BackboneKind.PRETRAINED, name_or_path=str(released))
    return replace(config, model=replace(config.model, backbone=backbone))


def test_runs_that_load_a_checkpoint_do_not_open_the_released_weights(
    robot_build: Build, released: Path, tmp_path: Path
) -> None:
    config = config_of(tmp_path / "run", robot_build, released)
    train(config)
    shutil.copytree(config.out, tmp_path / "again")
    shutil.rmtree(list_checkpoints(tmp_path / "again" / "checkpoints")[-1])
    (released / WEIGHTS).write_bytes(b"no weights")  # whoever opens it fails

    train(replace(config, out=tmp_path / "again"))
    assert losses_of(tmp_path / "again") == losses_of(config.out)
    ours, theirs = (list_checkpoints(path / "checkpoints")[-1] for path in (tmp_path / "again", config.out))
    assert (ours / WEIGHTS).read_bytes() == (theirs / WEIGHTS).read_bytes()
    policy = CheckpointPolicy(config.out, "cpu")
    assert all(tensor.isfinite().all() for tensor in policy.model.state_dict().values())
    export(ExportConfig(checkpoint=config.out, out=tmp_path / "policy.pt", format=CheckpointFormat.STARVLA))
    for source in (config.out, tmp_path / "policy.pt"):
        tuned = config_of(tmp_path / f"from-{source.name}", robot_build, released, steps=1, warmup_steps=0)
        train(replace(tuned, init_from=source))
    state = json.loads((theirs / "state.json").read_text())
    sizes, model = Sizes(**state["model_sizes"]), config.model
    words = {"checkpoint": tmp_path / "policy.pt", "out": tmp_path / "imported"}
    import_checkpoint(ImportConfig(**words, model=model, sizes=sizes))
    imported = load_file(tmp_path / "imported" / WEIGHTS)
    weights = load_file(theirs / WEIGHTS)
    assert all(torch.equal(weights[name], tensor) for name, tensor in imported.items() if "scaler" not in name)

    with pytest.raises(SettingsError, match="gives no Qwen3-VL"):  # and whoever needs it says so
        train(config_of(tmp_path / "fresh", robot_build, released))


def test_weights_that_are_not_read_leave_the_tables_of_positions_right() -> None:
    settings = ModelSettings(backbone=small_settings().backbone)
    _, drawn = load_backbone(settings.backbone, settings.prompt)
    _, empty = load_backbone(settings.backbone, settings.prompt, weights=False)
    buffers = dict(empty.named_buffers())
    assert buffers
    for name, buffer in drawn.named_buffers():
        assert torch.equal(buffer, buffers[name]), name
    assert [(name, p.shape, p.dtype) for name, p in drawn.named_parameters()] == [
        (name, p.shape, p.dtype) for name, p in empty.named_parameters()
    ]


def test_weights_that_are_not_read_are_not_drawn() -> None:
    settings = small_settings()
    before = torch.random.get_rng_state()
    load_backbone(settings.backbone, settings.prompt, weights=False)
    assert torch.equal(torch.random.get_rng_state(), before)
