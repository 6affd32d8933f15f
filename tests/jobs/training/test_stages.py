"""The stages of the reference as experiments, and several of them in a row."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hydra import initialize_config_dir

from jobs.common.config import FOLDER
from jobs.training.settings import Stage, TrainConfig
from jobs.training.stages import train_stages
from jobs.training.train import train_anywhere
from model.checkpoint.folders import list_checkpoints
from model.checkpoint.state_file import read_state
from pipeline.errors import SettingsError
from tests.jobs.composed import compose_settings
from tests.jobs.launch import REPOSITORY, environment, losses_of


def composed(*words: str) -> TrainConfig:
    return compose_settings("train", TrainConfig, words)


@pytest.mark.parametrize(
    ("experiment", "steps", "batch"),
    [
        ("pretrain", 50_000, 128),
        ("finetune_libero", 30_000, 256),
        ("finetune_simpler", 30_000, 256),
        ("finetune_real", 20_000, 256),
    ],
)
def test_experiments_have_the_numbers_of_the_reference(experiment: str, steps: int, batch: int) -> None:
    words = (f"experiment={experiment}", "builds=[/b]", "out=/o")
    tuned = experiment != "pretrain"
    if tuned:
        with pytest.raises(SettingsError, match="init_from must name the weights that fine-tuning starts from"):
            composed(*words)
    trainer = composed(*words, *(["init_from=/runs/pretrain"] if tuned else [])).trainer
    assert (trainer.steps, trainer.batch_size, trainer.warmup_steps) == (steps, batch, 5_000)
    config = composed(*words, "init_from=/runs/pretrain")
    assert (config.model.use_state, config.reinitialise) == ((True, ("state_encoder",)) if tuned else (False, ()))
    assert (trainer.lr_backbone, trainer.lr_action_head, trainer.lr_rest) == (1e-5, 1e-4, 3e-5)
    assert (
        composed(*words, "init_from=/x", "trainer.steps=7000").trainer.steps == 7000
    )  # the command line has the last word


def test_a_wrong_experiment_is_answered_with_those_there_are() -> None:
    words = ["train", "experiment=pretraining", "out=/o"]
    done = subprocess.run([sys.executable, "-m", "jobs.cli", *words], cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 2
    assert "there are finetune_libero, finetune_real, finetune_simpler, pretrain, smoke" in done.stderr


@pytest.mark.slow
def test_stages_follow_each_other(ray_session: None, tmp_path: Path) -> None:
    """Two of them, on builds made of sample data; a second call has nothing left to do."""
    base = composed("experiment=smoke", f"out={tmp_path}")
    names = [stage.experiment for stage in base.stages]
    assert names == ["pretrain", "finetune_libero", "finetune_simpler", "finetune_real"]
    settings: dict[str, Any] = vars(base) | {
        "stages": (
            Stage(experiment="pretrain", builds=("ssv2", "droid")),
            Stage(experiment="finetune_real", builds=("real",), settings=("trainer.steps=4",)),
        ),
        "stage_settings": (*base.stage_settings, "trainer.num_workers=null"),
    }
    with initialize_config_dir(str(FOLDER), version_base="1.3"):
        train_stages(TrainConfig(**settings), train_anywhere)
        before = (tmp_path / "finetune_real" / "metrics.jsonl").read_text()
        train_stages(TrainConfig(**settings), train_anywhere)
    assert (tmp_path / "finetune_real" / "metrics.jsonl").read_text() == before
    assert losses_of(tmp_path / "pretrain")[-1][0] == 8
    assert losses_of(tmp_path / "finetune_real")[-1][0] == 4
    state = read_state(list_checkpoints(tmp_path / "finetune_real" / "checkpoints")[-1])
    assert state["init_from"] == str(tmp_path / "pretrain")
    log = (tmp_path / "finetune_real" / "log.txt").read_text()
    assert f"loaded {tmp_path / 'pretrain' / 'checkpoints' / 'step-00000008'}" in log


@pytest.mark.slow
def test_smoke_runs_all_four_stages(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "jobs.cli", "train", "experiment=smoke", f"out={tmp_path}", "trainer.steps=6"]
    done = subprocess.run(command, cwd=REPOSITORY, env=environment(), capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    for stage, builds in (("pretrain", 2), ("finetune_libero", 4), ("finetune_simpler", 2), ("finetune_real", 1)):
        assert losses_of(tmp_path / stage)[-1][0] == 6  # what was set on the command line goes to every stage
        assert len(json.loads((tmp_path / stage / "run.json").read_text())["builds"]) == builds
