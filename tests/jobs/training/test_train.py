"""Training on real builds: the gate, the loss curve after a restart, held-out numbers, and refusals."""

from __future__ import annotations

import itertools
import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load, load_file
from transformers import get_scheduler

from jobs.common.driver_lock import DriverLock
from jobs.common.policy.load_model import load_model
from jobs.training.loop.loop import Trainer
from jobs.training.loop.settings import TrainerSettings
from jobs.training.loop.step.optimiser import Optimiser, learning_rate
from jobs.training.run import train
from model.checkpoint.folders import list_checkpoints
from model.normalize import BuildStats, ChannelRange, merge_stats
from model.settings import LossSettings
from pipeline.errors import AuditRefusedError, BuildError, RunError, SettingsError
from pipeline.format.build import Build
from pipeline.storage.store import open_store
from tests.conftest import SampleData
from tests.jobs.runs import audited, build_config, make_here, robot_source, ssv2_source, train_config
from tests.model.helpers import small_model


def losses_of(out: Path) -> list[tuple[int, float]]:
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [(row["step"], row["loss"]) for row in rows if "loss" in row]


def weights_of(out: Path) -> bytes:
    return (list_checkpoints(out / "checkpoints")[-1] / "model.safetensors").read_bytes()


@pytest.mark.slow
def test_a_resumed_run_continues_bit_for_bit(robot_build: Build, video_build: Build, tmp_path: Path) -> None:
    builds = [robot_build, video_build]
    train(train_config(tmp_path / "whole", builds))
    train(train_config(tmp_path / "parts", builds, stop_after=3))
    assert [step for step, _ in losses_of(tmp_path / "parts")] == [1, 2, 3]
    train(train_config(tmp_path / "parts", builds))
    assert losses_of(tmp_path / "parts") == losses_of(tmp_path / "whole")
    assert weights_of(tmp_path / "parts") == weights_of(tmp_path / "whole")


def test_samples_that_were_not_compared_stay_so_when_the_run_goes_on(video_build: Build, tmp_path: Path) -> None:
    for steps, verify in ((1, "off"), (2, "once")):
        train(train_config(tmp_path / "run", [video_build], stop_after=steps, save_every=1, verify=verify))
        state = json.loads((list_checkpoints(tmp_path / "run" / "checkpoints")[-1] / "state.json").read_text())
        assert state["step"] == steps
        assert [entry["compared"] for entry in state["vouched"]] == [False]


def test_a_run_that_goes_on_has_no_end_of_before(
    video_build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, ends = train_config(tmp_path / "run", [video_build], stop_after=1), ("held_out.json", "ended.json")
    train(config)
    assert all((config.out / name).exists() for name in ends)

    def die(*_: object) -> None:
        raise RuntimeError("the power went")

    monkeypatch.setattr(Trainer, "train", die)
    with pytest.raises(RuntimeError, match="the power went"):
        train(replace(config, trainer=replace(config.trainer, stop_after=2)))
    assert not any((config.out / name).exists() for name in ends)


@pytest.mark.slow
def test_rows_after_the_checkpoint_are_written_once(video_build: Build, tmp_path: Path) -> None:
    """A run killed between checkpoints leaves rows that the resumed run computes again."""
    train(train_config(tmp_path / "run", [video_build], stop_after=3))
    with open(tmp_path / "run" / "metrics.jsonl", "a") as file:
        file.write('{"step": 4, "loss": 99.0}\n{"step": 5, "lo')
    train(train_config(tmp_path / "run", [video_build]))
    rows = losses_of(tmp_path / "run")
    assert [step for step, _ in rows] == [1, 2, 3, 4, 5, 6]
    assert 99.0 not in dict(rows).values()


@pytest.mark.slow
def test_training_moves_every_part_of_the_model(robot_build: Build, tmp_path: Path) -> None:
    train(train_config(tmp_path / "run", [robot_build], steps=4, save_every=1, keep=4, lr_action_head=1e-3))
    paths = list_checkpoints(tmp_path / "run" / "checkpoints")[::3]
    first, last = (load((path / "model.safetensors").read_bytes()) for path in paths)
    for part in ("student.", "predictor.predictor_blocks.", "action_head.model."):
        names = [name for name in first if name.startswith(part) and first[name].is_floating_point()]
        assert names
        assert any(not torch.equal(first[name], last[name]) for name in names), part


@pytest.mark.slow
def test_held_out_numbers_compare_with_nothing_changes(robot_build: Build, tmp_path: Path) -> None:
    results = train(train_config(tmp_path / "run", [robot_build]))
    result = results["robot"]
    assert json.loads((tmp_path / "run" / "held_out.json").read_text())["robot"]["model"] == result.model
    assert result.nothing_changes == pytest.approx(persistence(robot_build), rel=1e-3)
    assert result.action is not None
    assert np.isfinite([result.model, result.shuffled, result.action]).all()
    assert len(result.per_step) == 3


@pytest.mark.slow
def test_rollout_and_freezing_are_settings_of_a_run(robot_build: Build, video_build: Build, tmp_path: Path) -> None:
    config = train_config(tmp_path / "run", [robot_build, video_build], steps=2, save_every=1, warmup_steps=1)
    model = replace(config.model, loss=LossSettings(rollout=0.5), freeze=("student.model.visual",))
    train(replace(config, model=model, trainer=replace(config.trainer, stop_after=1, log_every=1)))
    train(replace(config, model=model))  # an optimiser without moments for what is frozen resumes
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    for row in (row for row in rows if "loss" in row):
        parts = row["robot/action"] + 0.1 * (row["robot/world_model"] + 0.5 * row["robot/rollout"])
        assert row["loss"] == pytest.approx(parts + row["ssv2/world_model"] + 0.5 * row["ssv2/rollout"], rel=1e-5)
    first, last = (load_file(path / "model.safetensors") for path in list_checkpoints(tmp_path / "run" / "checkpoints"))
    for name, tensor in first.items():
        if name.startswith("student.model.visual."):
            assert torch.equal(tensor, last[name]), name
    name = "student.model.language_model.layers.0.mlp.up_proj.weight"
    assert not torch.equal(first[name], last[name])


@pytest.mark.parametrize(
    ("freeze", "message"),
    [
        (("student", "predictor"), "trains nothing: model.freeze holds all"),
        (("student", "predictor", "action_head"), "leaves nothing to train"),
    ],
)
def test_a_run_that_would_train_nothing_is_refused(
    robot_build: Build, video_build: Build, tmp_path: Path, freeze: tuple[str, ...], message: str
) -> None:
    config = train_config(tmp_path / "run", [robot_build, video_build])
    with pytest.raises(SettingsError, match=message):
        train(replace(config, model=replace(config.model, freeze=freeze)))


def persistence(build: Build) -> float:
    """Mean |z_k - z_{k-1}| over the first eight validation samples, from the Arrow files alone."""
    shards = [s for s in build.manifest["shards"] if s["split"] == "val"]
    tables = [pa.ipc.open_file(str(build.path / s["targets"]["file"])).read_all() for s in shards]
    latents, context = (
        np.concatenate([chunk.to_numpy_ndarray() for t in tables for chunk in t.column(name).chunks]).astype(np.float32)
        for name in ("latents", "context")
    )
    chosen = np.arange(8) * len(context) // 8
    steps = np.concatenate([context[:, None], latents], axis=1)[chosen]
    return float(np.abs(np.diff(steps, axis=1)).mean())


def copy_of(build: Build, path: Path) -> Path:
    shutil.copytree(build.path, path)
    return path


def with_builds(config: Any, *paths: Path) -> Any:
    return replace(config, builds=tuple(paths))


def test_a_build_without_a_clean_verdict_is_refused(video_build: Build, tmp_path: Path) -> None:
    path = copy_of(video_build, tmp_path / "build")
    shutil.rmtree(path / "audit")
    config = with_builds(train_config(tmp_path / "run", [video_build]), path)
    with pytest.raises(AuditRefusedError, match="vlajepa audit"):
        train(config)
    assert not (tmp_path / "run").exists()


def test_a_build_changed_after_its_audit_is_refused(video_build: Build, tmp_path: Path) -> None:
    path = copy_of(video_build, tmp_path / "build")
    manifest = json.loads((path / "build.json").read_text())
    manifest["counts"]["train"]["samples"] += 1
    (path / "build.json").write_text(json.dumps(manifest))
    with pytest.raises(AuditRefusedError, match=r"build\.json"):
        train(with_builds(train_config(tmp_path / "run", [video_build]), path))


@pytest.mark.parametrize("kind", ["inputs", "targets"])
def test_a_shard_changed_after_its_audit_stops_the_run(video_build: Build, tmp_path: Path, kind: str) -> None:
    """One byte of a payload, the size as before: only the sample's hash can tell."""
    path = copy_of(video_build, tmp_path / "build")
    for shard in video_build.manifest["shards"]:
        file = path / shard[kind]["file"]
        data = bytearray(file.read_bytes())
        data[len(data) // 3] ^= 1
        file.write_bytes(data)
    config = with_builds(train_config(tmp_path / "run", [video_build]), path)
    with pytest.raises(BuildError, match=r"the file was changed or is damaged|cannot be read|no targets shard"):
        train(config)


def test_instructions_changed_after_the_audit_stop_the_run(video_build: Build, tmp_path: Path) -> None:
    path = copy_of(video_build, tmp_path / "build")
    for shard in video_build.manifest["shards"]:
        file = path / shard["inputs"]["file"]
        data = file.read_bytes()
        assert b"ing" in data
        file.write_bytes(data.replace(b"ing ", b"ung "))
    config = with_builds(train_config(tmp_path / "run", [video_build]), path)
    with pytest.raises(BuildError, match=r"the inputs of sample .* have SHA-256"):
        train(config)


def test_two_runs_never_write_to_one_folder(video_build: Build, tmp_path: Path) -> None:
    config = train_config(tmp_path / "run", [video_build])
    with DriverLock(open_store(config.out)), pytest.raises(RunError, match=r"run is being written by another driver"):
        train(config)
    assert not (config.out / "checkpoints").exists()
    train(config)
    assert not (config.out / "lock").exists()


def test_a_run_never_goes_into_a_build(video_build: Build, tmp_path: Path) -> None:
    path = copy_of(video_build, tmp_path / "build")
    with pytest.raises(SettingsError, match="is a build"):
        train(replace(train_config(path, [video_build]), out=path))


@pytest.mark.slow
def test_a_leaky_build_has_to_be_asked_for(sample_data: SampleData, tmp_path: Path) -> None:
    base = build_config(tmp_path / "clip", ssv2_source(sample_data.ssv2))
    build = make_here(replace(base, encoder=replace(base.encoder, mode="clip")))
    assert build.manifest["leaky"]
    config = train_config(tmp_path / "run", [build], steps=2, warmup_steps=0)
    with pytest.raises(AuditRefusedError, match="stamped leaky"):
        train(config)
    train(replace(config, allow_leaky=True))
    state = json.loads((list_checkpoints(tmp_path / "run" / "checkpoints")[-1] / "state.json").read_text())
    unsigned = {"verdict": "leaky", "signed_by": "unsigned", "checked": False, "compared": True}
    assert state["vouched"] == [{"build": "ssv2", **unsigned}]


@pytest.mark.slow
def test_another_run_in_the_same_folder_is_refused(video_build: Build, robot_build: Build, tmp_path: Path) -> None:
    config = train_config(tmp_path / "run", [video_build], stop_after=3)
    train(config)
    with pytest.raises(BuildError, match=r"trainer\.seed was 0, now 1"):
        train(replace(config, trainer=replace(config.trainer, seed=1)))
    with pytest.raises(BuildError, match="belongs to another run"):
        train(with_builds(config, robot_build.path))
    with pytest.raises(SettingsError, match="resume=never"):
        train(replace(config, resume="never"))


@pytest.mark.parametrize(("style", "message"), [("lerobot", "LeRobot's vla_jepa"), ("starvla", "the reference's .pt")])
def test_what_export_would_refuse_is_refused_before_training(
    robot_build: Build, tmp_path: Path, style: str, message: str
) -> None:
    config = train_config(tmp_path / "run", [robot_build])
    head = replace(config.model.action_head, reads="latent")
    config = replace(config, for_export=style, model=replace(config.model, action_head=head))
    with pytest.raises(SettingsError, match=f"{message} cannot hold this model:\n.*action_head.reads=latent"):
        train(config)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("resume", ["never", "auto"])
def test_a_run_that_another_one_overtakes_while_it_starts_is_refused(
    video_build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, resume: str
) -> None:
    config = replace(train_config(tmp_path / "run", [video_build], steps=2, warmup_steps=0), resume=resume)
    other = replace(config, resume="auto")
    before = Trainer.__init__

    def slowly(self: Trainer, *arguments: Any) -> None:
        monkeypatch.undo()
        train(other)
        before(self, *arguments)

    monkeypatch.setattr(Trainer, "__init__", slowly)
    expected = r"holds checkpoints and resume=never|another run changed its checkpoints while this one started"
    with pytest.raises((RunError, SettingsError), match=expected):
        train(config)
    assert len(list_checkpoints(tmp_path / "run" / "checkpoints")) == 1
    assert json.loads((tmp_path / "run" / "ended.json").read_text())["step"] == 2


def test_a_loss_that_is_not_finite_stops_the_run(video_build: Build, tmp_path: Path) -> None:
    config = train_config(tmp_path / "run", [video_build], lr_rest=1e30, lr_backbone=1e30, warmup_steps=0)
    with pytest.raises(RunError, match=r"the loss is (nan|inf) at step \d+; samples of the batch: ssv2-"):
        train(config)


def test_a_gradient_that_is_not_finite_never_reaches_the_weights(
    video_build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def overflow(*_: object, **__: object) -> torch.Tensor:
        return torch.tensor(float("inf"))

    monkeypatch.setattr(torch.nn.utils, "get_total_norm", overflow)
    with pytest.raises(RunError, match="the gradient norm is inf at step 0"):
        train(train_config(tmp_path / "run", [video_build], save_every=1))
    assert not list_checkpoints(tmp_path / "run" / "checkpoints")


def test_two_robots_share_ranges_that_cover_both() -> None:
    small = BuildStats(ChannelRange((0.0, -1.0), (1.0, 1.0)), ChannelRange((0.0,), (1.0,)))
    large = BuildStats(ChannelRange((-2.0, 0.0), (0.5, 3.0)), ChannelRange((-5.0,), (0.5,)))
    assert merge_stats([small, large]) == BuildStats(
        ChannelRange((-2.0, -1.0), (1.0, 3.0)), ChannelRange((-5.0,), (1.0,))
    )


@pytest.mark.slow
def test_a_finished_run_adds_no_row_when_it_is_called_again(video_build: Build, tmp_path: Path) -> None:
    config = train_config(tmp_path / "run", [video_build])
    train(config)
    before = (tmp_path / "run" / "metrics.jsonl").read_text()
    train(config)
    assert (tmp_path / "run" / "metrics.jsonl").read_text() == before


def test_a_split_smaller_than_a_batch_is_refused(video_build: Build, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"fewer than the 4096 it gives to one global batch"):
        train(train_config(tmp_path / "run", [video_build], batch_size=4096))


@pytest.mark.slow
def test_a_build_without_train_samples_is_refused(sample_data: SampleData, tmp_path: Path) -> None:
    build = audited(build_config(tmp_path / "val", robot_source(sample_data.lerobot, val_share=0.999)))
    assert set(build.manifest["counts"]) == {"val"}
    with pytest.raises(SettingsError, match=r"val has no train samples, only val; .*lower source\.val_share"):
        train(train_config(tmp_path / "run", [build]))


@pytest.mark.slow
def test_a_build_without_held_out_samples_is_said(
    sample_data: SampleData, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    build = audited(build_config(tmp_path / "all", robot_source(sample_data.lerobot, val_share=0.0)))
    assert train(train_config(tmp_path / "run", [build], steps=1, warmup_steps=0)) == {}
    assert "WARNING: robot has no two samples to hold out (split val)" in capsys.readouterr().out


@pytest.mark.slow
def test_checkpoints_are_kept_by_number(video_build: Build, tmp_path: Path) -> None:
    train(train_config(tmp_path / "run", [video_build], save_every=1, keep=2))
    assert [p.name for p in list_checkpoints(tmp_path / "run" / "checkpoints")] == ["step-00000005", "step-00000006"]


def test_learning_rate_warms_up_and_decays() -> None:
    rates = [learning_rate(step, 101, 10, 1.0, 0.1) for step in range(101)]
    assert rates[:10] == pytest.approx([0.1 * (i + 1) for i in range(10)])
    assert rates[10] == 1.0
    assert rates[55] == pytest.approx(0.55)
    assert rates[100] == pytest.approx(0.1)
    assert all(a >= b for a, b in itertools.pairwise(rates[10:]))


def test_every_rate_ends_at_its_own_floor_and_by_default_at_a_thirtieth() -> None:
    """As by transformers' `cosine_with_min_lr`, which divides the floor by the optimiser's default rate."""
    model = small_model()
    reference = torch.optim.AdamW(model.param_groups(1e-5, 1e-4, 3e-5), lr=3e-5)
    floor = {"min_lr": 1e-6}
    scheduler = get_scheduler("cosine_with_min_lr", reference, 5, 50, scheduler_specific_kwargs=floor)
    for _ in range(50):
        reference.step()
        scheduler.step()
    rates = Optimiser(model, TrainerSettings(steps=50, warmup_steps=5)).begin(49)
    theirs = {f"lr_{group['name']}": group["lr"] for group in reference.param_groups}
    assert rates == pytest.approx(theirs, rel=1e-3)
    assert rates == pytest.approx({"lr_backbone": 3.333e-7, "lr_action_head": 3.333e-6, "lr_rest": 1e-6})
    finals = {"lr_final_backbone": 2e-7, "lr_final_action_head": 1e-3, "lr_final_rest": 0.0}
    own = TrainerSettings(steps=5, warmup_steps=0, **finals)
    assert Optimiser(model, own).begin(4) == pytest.approx(
        {"lr_backbone": 2e-7, "lr_action_head": 1e-4, "lr_rest": 0.0}  # a floor is never above its peak
    )


@pytest.mark.slow
def test_neither_training_nor_the_audit_loads_tensorflow(tmp_path: Path) -> None:
    """It is installed beside them where RLDS is written, and would take hold of the GPUs."""
    program = f"""
import sys
from pathlib import Path
import jobs.training.train, jobs.audit.options, jobs.cluster.build_tasks.scheduler
from jobs.training.metrics.tensorboard import TensorBoard
writer = TensorBoard(Path({str(tmp_path)!r}), 0)
writer.scalars({{"a": 1.0}}, 1)
writer.close(False)
print("tensorflow" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
    assert list(tmp_path.glob("events.*"))


@pytest.mark.slow
def test_a_run_whose_folder_another_took_over_writes_no_more(
    video_build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, seen = train_config(tmp_path / "run", [video_build], steps=6, save_every=2), []

    def taken_over(lock: DriverLock) -> None:
        seen.append(list_checkpoints(config.out / "checkpoints"))
        if len(seen) == 2:
            store = open_store(config.out)
            store.write("lock/2/driver.json", store.read("lock/1/driver.json").replace(b'"token": "', b'"token": "x'))
        check(lock)

    check = DriverLock.check
    monkeypatch.setattr(DriverLock, "check", taken_over)
    with pytest.raises(RunError, match="it was taken over by another driver"):
        train(config)
    assert [path.name for path in list_checkpoints(config.out / "checkpoints")] == ["step-00000002"]
    assert not (config.out / "ended.json").exists()
    assert open_store(config.out).names("lock") == ["2"]


@pytest.mark.slow
def test_a_run_goes_on_from_the_newest_whole_checkpoint(
    video_build: Build, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = train_config(tmp_path / "run", [video_build], steps=6, save_every=2, keep=3)
    train(config)
    whole = weights_of(config.out)
    newest = list_checkpoints(config.out / "checkpoints")[-1]
    damaged = bytearray((newest / "model.safetensors").read_bytes())
    damaged[-5] ^= 16
    (newest / "model.safetensors").write_bytes(damaged)
    with pytest.raises(BuildError, match=r"step-00000006 is damaged: model\.safetensors has SHA-256"):
        load_model(newest)
    with pytest.raises(BuildError, match="is damaged"):
        train(replace(config, out=tmp_path / "other", init_from=config.out))
    capsys.readouterr()
    train(config)
    assert "WARNING" in (said := capsys.readouterr().out)
    assert "step-00000006 is damaged" in said
    assert "resumed at step 4" in said
    assert weights_of(config.out) == whole
    assert (config.out / "checkpoints" / "damaged-step-00000006").is_dir()


@pytest.mark.slow
def test_a_full_disk_is_said(video_build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr("model.checkpoint.checkpoint.save_file", full)
    with pytest.raises(RunError, match=r"could not be written to .*No space left on device.*the one before is whole"):
        train(train_config(tmp_path / "run", [video_build]))
