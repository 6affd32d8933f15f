"""`vlajepa export`, `vlajepa import` and `train init_from=` on a real run."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from jobs.cli import main
from jobs.common.policy.load_model import load_model
from jobs.training.run import train
from model.checkpoint.folders import list_checkpoints
from pipeline.errors import BuildError
from pipeline.format.build import Build
from tests.jobs.runs import train_config

pytestmark = pytest.mark.slow  # a run of its own


@pytest.fixture(scope="module")
def checkpoint(robot_build: Build, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a model that LeRobot's policy can hold."""
    config = train_config(tmp_path_factory.mktemp("run"), [robot_build], steps=2, save_every=2, warmup_steps=1)
    model = replace(
        config.model,
        prompt=replace(config.model.prompt, action_token_groups=4 * robot_build.sizes.chunk, embodied_tokens=4),
        predictor=replace(config.model.predictor, dim=robot_build.sizes.width, init="reference"),
        action_head=replace(config.model.action_head, max_positions=1024),
    )
    train(replace(config, model=model))
    return list_checkpoints(config.out / "checkpoints")[-1]


def settings_words(checkpoint: Path) -> list[str]:
    """The command line's settings for the model of the fixture."""
    state = json.loads((checkpoint / "state.json").read_text())
    prompt, sizes = state["model"]["prompt"], state["model_sizes"]
    return [
        "model=tiny",
        f"model.prompt.action_token_groups={prompt['action_token_groups']}",
        f"model.prompt.embodied_tokens={prompt['embodied_tokens']}",
        f"model.predictor.dim={state['model']['predictor']['dim']}",
        "model.predictor.init=reference",
        "model.action_head.max_positions=1024",
        *(f"sizes.{name}={value}" for name, value in sizes.items()),
    ]


@pytest.mark.parametrize("style", ["starvla", "lerobot"])
def test_exported_and_imported_again_the_weights_are_the_same(checkpoint: Path, tmp_path: Path, style: str) -> None:
    released, back = tmp_path / "released", tmp_path / "back"
    main(["export", f"checkpoint={checkpoint}", f"out={released}", f"format={style}", "cameras=[front,wrist]"])
    main(["import", f"checkpoint={released}", f"out={back}", *settings_words(checkpoint)])
    ours, theirs = load_file(checkpoint / "model.safetensors"), load_file(back / "model.safetensors")
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        if style == "lerobot" or "scaler" not in name:  # a .pt has no ranges
            assert torch.equal(tensor, theirs[name]), name
    assert not load_model(back).training
    assert not list(tmp_path.glob(".*"))


def test_a_run_starts_from_an_imported_checkpoint(
    checkpoint: Path, robot_build: Build, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(
        ["export", f"checkpoint={checkpoint.parents[1]}", f"out={tmp_path / 'released.pt'}", "format=starvla"]
    )  # of a run
    state = load_model(checkpoint)
    config = train_config(tmp_path / "run", [robot_build], steps=1, warmup_steps=0, lr_backbone=1e-12, lr_rest=1e-12)
    config = replace(config, model=replace(state.settings, seed=7), init_from=tmp_path / "released.pt")
    config = replace(config, reinitialise=("action_decoder",))
    capsys.readouterr()
    train(
        replace(
            config, trainer=replace(config.trainer, lr_final_backbone=0.0, lr_final_rest=0.0, lr_final_action_head=0.0)
        )
    )
    out = capsys.readouterr().out
    assert "left out 1: the same as the embeddings" in out
    assert "fresh weights for 4: action_head.action_decoder" in out
    trained = load_file(list_checkpoints(tmp_path / "run" / "checkpoints")[-1] / "model.safetensors")
    source = load_file(checkpoint / "model.safetensors")
    name = "student.model.language_model.layers.0.mlp.up_proj.weight"
    torch.testing.assert_close(trained[name], source[name], atol=1e-6, rtol=0)
    decoder = "action_head.action_decoder.layer2.weight"
    assert (trained[decoder] - source[decoder]).abs().max() > 1e-3


def test_an_existing_target_and_a_wrong_checkpoint_are_refused(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        main(["export", f"checkpoint={checkpoint}", f"out={tmp_path}", "cameras=[front,wrist]"])
    assert end.value.code == 2
    assert "exists; choose another out=" in capsys.readouterr().err
    with pytest.raises(BuildError, match=r"state\.json cannot be read"):
        load_model(tmp_path)


def test_adapters_are_none_of_an_import(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.pt").write_bytes(b"")
    sizes = "sizes={views: 1, image_size: 64, steps: 3, tokens: 16, width: 96, state: 8, chunk: 7, action: 7}"
    words = [f"checkpoint={tmp_path}/a.pt", f"out={tmp_path}/out", "model=tiny", "model.backbone.lora.rank=4", sizes]
    with pytest.raises(SystemExit):
        main(["import", *words])
    assert "model.backbone.lora.rank is of a training" in capsys.readouterr().err
