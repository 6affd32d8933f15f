"""The loop on one rank: what it measures, how it ends early, co-training, corrupt samples, checkpoints."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import threading
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from jobs.common.policy.image_ablation import GREY_LEVEL, ImageAblation
from jobs.training.loop.guards import SMOOTHING, LossGuard
from jobs.training.loop.settings import TrainerSettings
from jobs.training.loop.step.optimiser import learning_rate
from jobs.training.run import train
from model.checkpoint.folders import list_checkpoints
from model.student.images import image_patches
from pipeline.errors import BuildError, RunError, SettingsError
from pipeline.format.build import Build
from tests.jobs.launch import losses_of, stop_at, wait_for_step
from tests.jobs.runs import train_config


def rows_of(out: Path, key: str = "loss") -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [row for row in rows if key in row]


def test_what_a_step_measures(robot_build: Build, video_build: Build, tmp_path: Path) -> None:
    config = train_config(
        tmp_path / "run", [robot_build, video_build], steps=3, eval_every=1, count_flops=True, device_flops=1e12
    )
    train(config)
    rows = rows_of(config.out)
    for row in rows:
        for name, first in (("robot", row["robot/action"] + 0.1 * row["robot/world_model"]), ("ssv2", 0.0)):
            steps = [row[f"{name}/step_{k}"] for k in (1, 2, 3)]
            assert sum(steps) / 3 == pytest.approx(row[f"{name}/world_model"], rel=1e-5)
            assert all(row[f"{name}/nothing_changes_{k}"] > 0 for k in (1, 2, 3))
            assert first >= 0
        parts = row["robot/action"] + 0.1 * row["robot/world_model"] + row["ssv2/world_model"]
        assert row["loss"] == pytest.approx(parts, rel=1e-5)
        groups = [row[f"grad_norm_{name}"] for name in ("backbone", "action_head", "rest")]
        assert row["grad_norm"] == pytest.approx(sum(g**2 for g in groups) ** 0.5)
        assert 0.05 < row["memory_gib"] < 30
        assert row["mfu"] == pytest.approx(row["tflops"])  # of a device with 1 TFLOP/s
        assert row["tflops"] > 0
        assert 0 <= row["data_wait_share"] < 1
    held_out = rows_of(config.out, "held_out")
    assert [row["step"] for row in held_out] == [1, 2, 3]
    for numbers in held_out[-1]["held_out"].values():
        assert all(0.5 < each["all"]["value"] < 2 for each in numbers["latent_action_reliance"].values())
        assert "by_episode" not in numbers
    robot, video = (held_out[-1]["held_out"][name] for name in ("robot", "ssv2"))
    other = robot["latent_action_reliance"]["other_episode"]["all"]
    assert other["value"] == pytest.approx(robot["shuffled"] / robot["model"])
    assert other["groups"] == 2
    assert robot["image_reliance"]["other_episode"]["value"] != 1
    assert video["image_reliance"] == {}
    final = json.loads((config.out / "held_out.json").read_text())["robot"]
    episodes = final["by_episode"]
    assert len(episodes) == final["episodes"] == 2
    one, two = (each["samples"] for each in episodes.values())
    assert other["pairs"] == one * min(4, two) + two * min(4, one)
    total = sum(e["model"] * e["samples"] for e in episodes.values())
    assert total / final["samples"] == pytest.approx(final["model"])
    assert json.loads((config.out / "run.json").read_text())["build_paths"]["robot"] == str(robot_build.path)


def test_the_image_reliance_of_a_policy_that_gets_no_image_is_one(
    robot_build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = train_config(tmp_path / "run", [robot_build], steps=1, warmup_steps=1, save_every=1)
    monkeypatch.setattr("model.student.backbone.image_patches", lambda images, size: image_patches(images * 0, size))
    result = train(config)["robot"]
    assert {kind: each.value for kind, each in result.image_reliance.items()} == {
        "other_episode": 1,
        "same_episode": 1,
    }


def test_a_run_without_images_sees_grey_alone_in_training_and_in_held_out_losses(
    robot_build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: set[int] = set()

    def remembered(images: torch.Tensor, size: int) -> Any:
        seen.update(images.unique().tolist())
        return image_patches(images, size)

    monkeypatch.setattr("model.student.backbone.image_patches", remembered)
    result = train(train_config(tmp_path / "run", [robot_build], steps=2, image_ablation=ImageAblation.GREY, shift=2))[
        "robot"
    ]
    assert seen == {GREY_LEVEL}
    assert {each.value for each in result.image_reliance.values()} == {1}


@pytest.mark.slow
def test_alternating_steps_run_the_schedule_twice_as_fast(
    robot_build: Build, video_build: Build, tmp_path: Path
) -> None:
    """The reference's co-training: robot step, then video step, each moves the schedule on."""
    builds = [robot_build, video_build]
    config = train_config(
        tmp_path / "run", builds, co_training="alternate", steps=8, warmup_steps=2, lr_final_rest=1e-5
    )
    train(config)
    rates = [row["lr_rest"] for row in rows_of(config.out)]
    assert rates == [learning_rate(2 * step + 1, 8, 2, 1e-3, 1e-5) for step in range(8)]
    assert rates[4:] == [1e-5] * 4  # over after half of the iterations
    for row in rows_of(config.out):
        parts = row["robot/action"] + 0.1 * row["robot/world_model"] + row["ssv2/world_model"]
        assert row["loss"] == pytest.approx(parts, rel=1e-5)
    train(replace(config, out=tmp_path / "parts", trainer=replace(config.trainer, stop_after=3)))
    train(replace(config, out=tmp_path / "parts"))
    assert losses_of(tmp_path / "parts") == losses_of(config.out)


def test_sigterm_ends_a_run_at_the_next_step(video_build: Build, tmp_path: Path) -> None:
    config = train_config(tmp_path / "run", [video_build], steps=60, save_every=1000)

    def terminate() -> None:
        wait_for_step(config.out, 2)
        os.kill(os.getpid(), signal.SIGTERM)

    missed: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: missed.append(number))
    sender = threading.Thread(target=terminate)
    sender.start()
    try:
        train(config)
        sender.join()
    finally:
        signal.signal(signal.SIGTERM, before)
    assert not missed, "the signal came when the run did not listen"
    require_ended_early(config.out)


@pytest.mark.slow
def test_sigterm_ends_the_command_with_exit_code_0(robot_build: Build, video_build: Build, tmp_path: Path) -> None:
    builds = [robot_build, video_build]
    code, text = stop_at(tmp_path / "run", builds, 2, "trainer.save_every=1000", "trainer.steps=60")
    assert code == 0, text
    assert "the same command continues from here" in text
    require_ended_early(tmp_path / "run")


def require_ended_early(out: Path) -> None:
    """A run of 60 steps that was stopped has its checkpoint of the last step it took."""
    step = json.loads((out / "ended.json").read_text())["step"]
    assert 2 <= step < 60
    assert [path.name for path in list_checkpoints(out / "checkpoints")] == [f"step-{step:08d}"]
    assert losses_of(out)[-1][0] == step


def test_a_diverging_loss_stops_the_run_and_saves_its_samples() -> None:
    guard, dumped = LossGuard(10.0), []

    def dump(numbers: Any) -> str:
        dumped.append(numbers)
        return "at step 3"

    for loss in (2.0, 1.0, 1.5):
        guard.require_converging({"loss": loss}, dump)
    mean = SMOOTHING * (SMOOTHING * 2.0 + (1 - SMOOTHING) * 1.0) + (1 - SMOOTHING) * 1.5
    assert guard.loss_mean == pytest.approx(mean)
    guard.require_converging({"loss": 10 * mean - 0.1}, dump)
    with pytest.raises(
        RunError, match=r"the loss is 30, more than trainer.divergence=10 times its running mean of 2\.3"
    ):
        guard.require_converging({"loss": 30.0}, dump)
    assert dumped == [{"loss": 30.0}]
    LossGuard(None).require_converging({"loss": 1e30}, dump)


def test_a_divergence_is_found_in_a_run_and_survives_a_restart(video_build: Build, tmp_path: Path) -> None:
    config = train_config(tmp_path / "run", [video_build], steps=40, stop_after=1, lr_rest=0.3, divergence=1.5)
    train(config)
    with pytest.raises(RunError, match=r"trainer.divergence=1\.5 .* at step \d+; samples of the batch: ssv2-"):
        train(replace(config, trainer=replace(config.trainer, stop_after=None)))
    content = json.loads((config.out / "stopped_batch.json").read_text())
    assert len(content["keys_by_rank"][0]["ssv2"]) == 4
    assert content["numbers"]["loss"] > 1


def damaged(build: Build, path: Path, samples: int) -> Build:
    """A copy in which the first so many train samples have other latents than the audited ones."""
    shutil.copytree(build.path, path)
    left = samples
    for shard in (s for s in build.manifest["shards"] if s["split"] == "train"):
        file = path / shard["inputs"]["file"]
        data = bytearray(file.read_bytes())
        place = -1
        while left and (place := data.find(b"\xff\xda", place + 1)) >= 0:  # the scan of a JPEG
            data[place + 40] ^= 0x10
            left -= 1
        file.write_bytes(data)
    assert not left
    return replace(build, path=path)


def test_corrupt_samples_are_skipped_recorded_and_limited(video_build: Build, tmp_path: Path) -> None:
    build = damaged(video_build, tmp_path / "build", 2)
    config = train_config(tmp_path / "run", [build], steps=12, on_corrupt="skip", max_skipped_share=0.5)
    train(config)
    lines = [json.loads(line) for line in (config.out / "skipped.jsonl").read_text().splitlines()]
    assert len({line["key"] for line in lines}) == 2
    assert len(lines) == 4  # twelve steps of four are two epochs
    assert all("have SHA-256" in line["reason"] for line in lines)
    assert rows_of(config.out)[-1]["skipped"] == 4
    train(replace(config, out=tmp_path / "parts", trainer=replace(config.trainer, stop_after=7, save_every=4)))
    train(replace(config, out=tmp_path / "parts"))
    assert losses_of(tmp_path / "parts") == losses_of(config.out)
    assert (tmp_path / "parts" / "skipped.jsonl").read_text() == (config.out / "skipped.jsonl").read_text()
    few = replace(config.trainer, max_skipped_share=0.01)
    with pytest.raises(BuildError, match=r"2 of \d+ samples are corrupt, more than trainer.max_skipped_share=0.01"):
        train(replace(config, out=tmp_path / "few", trainer=few))
    with pytest.raises(BuildError, match="have SHA-256"):
        train(replace(config, out=tmp_path / "stop", trainer=replace(config.trainer, on_corrupt="stop")))


@pytest.mark.slow
def test_checkpoints_in_the_background_are_the_same_bytes(video_build: Build, tmp_path: Path) -> None:
    """The copy is taken at once: training on while it is written changes nothing in it."""
    for name, background in (("now", False), ("later", True)):
        train(train_config(tmp_path / name, [video_build], save_every=1, keep=6, async_save=background))
    now, later = (list_checkpoints(tmp_path / name / "checkpoints") for name in ("now", "later"))
    assert len(now) == len(later) == 6
    for a, b in zip(now, later, strict=True):
        for file in ("model.safetensors", "optimizer.safetensors"):
            assert (a / file).read_bytes() == (b / file).read_bytes()


@pytest.mark.slow
def test_some_checkpoints_are_kept_for_good(video_build: Build, tmp_path: Path) -> None:
    train(train_config(tmp_path / "run", [video_build], save_every=1, keep=1, keep_every=2))
    kept = [int(path.name[5:]) for path in list_checkpoints(tmp_path / "run" / "checkpoints")]
    assert kept == [2, 4, 6]


def test_a_checkpoint_that_cannot_be_written_stops_the_run(
    video_build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("jobs.training.loop.checkpointing.write_checkpoint", full)
    with pytest.raises(RunError, match=r"could not be written to .*checkpoints: .*No space left"):
        train(train_config(tmp_path / "run", [video_build], save_every=1))
    assert not list_checkpoints(tmp_path / "run" / "checkpoints")


def test_another_run_is_refused_with_the_first_difference(
    video_build: Build, robot_build: Build, tmp_path: Path
) -> None:
    config = train_config(tmp_path / "run", [video_build, robot_build], steps=1, warmup_steps=0)
    train(config)
    for change, message in (
        ({"streams": 32}, r"trainer\.streams was 64, now 32"),
        ({"mixture_unit": 4}, r"trainer\.mixture_unit was 8, now 4"),
        ({"on_corrupt": "skip"}, r"trainer\.on_corrupt was 'stop', now 'skip'"),
    ):
        with pytest.raises(BuildError, match=message):
            train(replace(config, trainer=replace(config.trainer, **change)))
    with pytest.raises(BuildError, match=r"weights was \[\], now \[1.0, 2.0\]"):
        train(replace(config, weights=(1.0, 2.0)))
    changed = replace(config.trainer, threads=3, ahead=2, keep=1, async_save=False, log_every=2, eval_batch=4)
    train(replace(config, trainer=changed))  # what does not change the run may change


@pytest.mark.slow
def test_a_run_starts_from_the_newest_checkpoint_of_another(video_build: Build, tmp_path: Path) -> None:
    first = train_config(tmp_path / "first", [video_build], save_every=2)
    train(first)
    config = replace(train_config(tmp_path / "second", [video_build], steps=1, warmup_steps=0), init_from=first.out)
    trainer_rates = replace(config.trainer, lr_rest=1e-12, lr_backbone=1e-12, lr_action_head=1e-12)
    train(replace(config, trainer=trainer_rates))
    a, b = (list_checkpoints(out / "checkpoints")[-1] / "model.safetensors" for out in (first.out, config.out))
    before, after = load_file(a), load_file(b)
    assert all(torch.allclose(before[name], after[name], atol=1e-7) for name in before)


@pytest.mark.slow
def test_wandb_gets_what_tensorboard_gets(video_build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []
    run = SimpleNamespace(
        log=lambda values, step: calls.append((step, set(values))), finish=lambda exit_code: calls.append(exit_code)
    )
    opened: list[dict[str, Any]] = []
    monkeypatch.setitem(
        sys.modules, "wandb", SimpleNamespace(init=lambda **settings: (opened.append(settings), run)[1])
    )
    train(train_config(tmp_path / "run", [video_build], steps=2, warmup_steps=0, wandb="vla"))
    assert opened[0]["project"] == "vla"
    assert opened[0]["config"]["builds"] == {"ssv2": video_build.fingerprint}
    assert [entry[0] for entry in calls[:-1]] == [1, 2, 2]
    assert "train/loss" in calls[0][1]
    assert "held_out/ssv2/latent_action_reliance/same_episode" in calls[2][1]
    assert calls[-1] == 0
    monkeypatch.setitem(sys.modules, "wandb", None)
    monkeypatch.setattr("jobs.training.run.open_builds", lambda _: pytest.fail("builds were opened first"))
    with pytest.raises(SettingsError, match=r"trainer\.wandb=vla needs the package wandb"):
        train(train_config(tmp_path / "other", [video_build], steps=2, warmup_steps=0, wandb="vla"))


@pytest.mark.slow
def test_compiled_blocks_take_the_same_steps(video_build: Build, tmp_path: Path) -> None:
    """torch.compile of every block, by its eager backend: names and numbers stay."""
    plain = train_config(tmp_path / "plain", [video_build], steps=2, warmup_steps=0)
    train(plain)
    torch.compiler.reset()
    original = torch.nn.Module.compile
    compiled: list[str] = []

    def eager(self: torch.nn.Module, **options: Any) -> None:
        compiled.append(type(self).__name__)
        original(self, backend="aot_eager", **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.nn.Module, "compile", eager)
        train(replace(plain, out=tmp_path / "compiled", trainer=replace(plain.trainer, compile=True)))
    assert sorted(set(compiled)) == ["PredictorBlock", "Qwen3VLTextDecoderLayer", "Qwen3VLVisionBlock"]
    assert dict(losses_of(tmp_path / "compiled")) == pytest.approx(dict(losses_of(plain.out)), rel=1e-4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"co_training": "both"}, "co_training must be one of joint, alternate, got 'both'"),
        ({"strategy": "tp"}, "strategy must be one of ddp, fsdp"),
        ({"num_workers": 0}, "num_workers must be null or at least 1, got 0"),
        ({"divergence": 1.0}, "divergence must be null or above 1"),
        ({"cache_gb": 0.0}, "cache_gb must be above 0"),
        ({"eval_batch": 1}, "eval_batch must be at least 2"),
    ],
)
def test_settings_are_checked(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TrainerSettings(**change)
