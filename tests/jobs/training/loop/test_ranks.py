"""Training on several ranks: by torchrun and by Ray Train, whole and in parts, ended by signals and by sudden death."""

from __future__ import annotations

import json
import os
import shutil
import signal
import threading
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import torch

from jobs.common.policy.load_model import load_model
from jobs.training.builds.open_builds import open_builds
from jobs.training.run import train
from jobs.training.workers import train_on_ray
from model.checkpoint.folders import list_checkpoints
from model.checkpoint.state_file import read_state
from pipeline.errors import RunError
from pipeline.format.build import Build
from tests.jobs.launch import losses_of, stop_at, train_in_processes, wait_for_step
from tests.jobs.runs import train_config

pytestmark = pytest.mark.slow  # processes that import PyTorch each


@pytest.fixture(scope="module")
def two_ranks(robot_build: Build, video_build: Build, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 6 steps on two ranks by torchrun, with DDP; read only."""
    out = tmp_path_factory.mktemp("ranks") / "ddp"
    done = train_in_processes(out, [robot_build, video_build], ranks=2)
    assert done.returncode == 0, done.stderr
    assert "model on cpu, 2 ranks (ddp)" in done.stdout
    return out


def weights_of(out: Path) -> dict[str, torch.Tensor]:
    return load_model(list_checkpoints(out / "checkpoints")[-1]).state_dict()


def test_one_rank_writes_and_both_learn_the_same(two_ranks: Path) -> None:
    assert [step for step, _ in losses_of(two_ranks)] == [1, 2, 3, 4, 5, 6]
    assert set(json.loads((two_ranks / "held_out.json").read_text())) == {"robot", "ssv2"}
    assert json.loads((two_ranks / "ended.json").read_text()) == {"reason": "finished", "step": 6}


def test_video_loss_does_not_depend_on_the_number_of_ranks(video_build: Build, tmp_path: Path) -> None:
    """Human video has no noise: one rank, two ranks and pieces of a batch take the same steps."""
    train(train_config(tmp_path / "one", [video_build], batch_size=8))
    train(train_config(tmp_path / "pieces", [video_build], batch_size=8, accumulate=3))
    done = train_in_processes(
        tmp_path / "two",
        [video_build],
        "trainer.lr_rest=0.001",
        "trainer.lr_final_backbone=3.333e-7",
        "trainer.lr_final_action_head=3.333e-6",
        "trainer.lr_final_rest=1e-6",
        "trainer.accumulate=2",
        ranks=2,
    )
    assert done.returncode == 0, done.stderr
    one, two, pieces = (dict(losses_of(tmp_path / name)) for name in ("one", "two", "pieces"))
    assert one == pytest.approx(two, rel=1e-5)
    assert one == pytest.approx(pieces, rel=1e-5)


def test_held_out_numbers_do_not_depend_on_the_number_of_ranks(
    robot_build: Build, video_build: Build, two_ranks: Path, tmp_path: Path
) -> None:
    """The same weights evaluated by one rank and by two."""
    shutil.copytree(two_ranks, tmp_path / "run")
    (tmp_path / "run" / "held_out.json").unlink()
    done = train_in_processes(tmp_path / "run", [robot_build, video_build])
    assert done.returncode == 0, done.stderr
    one, two = (json.loads((path / "held_out.json").read_text()) for path in (tmp_path / "run", two_ranks))
    for name in ("robot", "ssv2"):
        for field in ("model", "nothing_changes", "shuffled"):
            found, wanted = one[name][field], two[name][field]
            assert found == (None if wanted is None else pytest.approx(wanted, rel=1e-6))
        for kind, found in one[name]["latent_action_reliance"].items():
            assert found["all"] == pytest.approx(two[name]["latent_action_reliance"][kind]["all"], rel=1e-6)
    assert one["robot"]["action"] == pytest.approx(two["robot"]["action"], rel=1e-6)


def test_sigterm_saves_and_the_curve_goes_on_bit_for_bit(
    robot_build: Build, video_build: Build, two_ranks: Path, tmp_path: Path
) -> None:
    builds = [robot_build, video_build]
    _, text = stop_at(tmp_path / "run", builds, 2, "trainer.save_every=1000", ranks=2)  # torchrun itself ends with 1
    assert "stopped by SIGTERM at step" in text
    ended = json.loads((tmp_path / "run" / "ended.json").read_text())
    saved = list_checkpoints(tmp_path / "run" / "checkpoints")
    assert ended["reason"] == "SIGTERM"
    assert [read_state(path)["step"] for path in saved] == [ended["step"]]
    assert 2 <= ended["step"] < 6
    done = train_in_processes(tmp_path / "run", builds, ranks=2)
    assert done.returncode == 0, done.stderr
    assert losses_of(tmp_path / "run") == losses_of(two_ranks)
    theirs, ours = weights_of(two_ranks), weights_of(tmp_path / "run")
    for name, tensor in theirs.items():
        assert torch.equal(tensor, ours[name]), name


def test_a_whole_checkpoint_goes_on_in_parts(
    robot_build: Build, video_build: Build, two_ranks: Path, tmp_path: Path
) -> None:
    """FSDP2 from the middle of a run with DDP: the same curve and the same weights, but for rounding."""
    out = tmp_path / "run"
    shutil.copytree(two_ranks, out)
    shutil.rmtree(list_checkpoints(out / "checkpoints")[-1])
    done = train_in_processes(out, [robot_build, video_build], "trainer.strategy=fsdp", ranks=2)
    assert done.returncode == 0, done.stderr
    assert "resumed at step 3" in done.stdout
    assert dict(losses_of(out)) == pytest.approx(dict(losses_of(two_ranks)), rel=1e-5)
    checkpoint = list_checkpoints(out / "checkpoints")[-1]
    assert len(list((checkpoint / "sharded").glob("*.distcp"))) == 2
    assert read_state(checkpoint)["vouched"][0]["verdict"].startswith("clean at level")
    theirs, ours = weights_of(two_ranks), weights_of(out)
    for name, tensor in theirs.items():
        assert torch.allclose(tensor, ours[name], rtol=1e-3, atol=1e-4), name


def test_an_error_on_one_rank_ends_all_with_its_message(video_build: Build, tmp_path: Path) -> None:
    path = tmp_path / "build"
    shutil.copytree(video_build.path, path)
    shard = next(s for s in video_build.manifest["shards"] if s["split"] == "train")
    (path / shard["targets"]["file"]).unlink()
    done = train_in_processes(tmp_path / "run", [replace(video_build, path=path)], ranks=2)
    assert done.returncode != 0
    assert f"vlajepa: {path / shard['targets']['file']} of the build is missing" in done.stderr


def ray_workers() -> list[psutil.Process]:
    return [p for p in psutil.process_iter(["cmdline"]) if "RayTrainWorker" in " ".join(p.info["cmdline"] or [])]


def kill_one_worker(out: Path, step: int) -> None:
    wait_for_step(out, step)
    os.kill(ray_workers()[-1].pid, signal.SIGKILL)


def test_ray_restarts_a_killed_worker_and_the_curve_goes_on_bit_for_bit(
    robot_build: Build, video_build: Build, two_ranks: Path, ray_session: None, tmp_path: Path
) -> None:
    """kill -9 after a step past the last checkpoint: the loop by Ray Train gives what torchrun gave."""
    config = train_config(tmp_path / "run", [robot_build, video_build], steps=6, save_every=2)
    base = json.loads((two_ranks / "run.json").read_text())["trainer"]
    config = replace(config, trainer=replace(config.trainer, **{k: base[k] for k in base}, eval_batch=4, num_workers=2))
    killer = threading.Thread(target=kill_one_worker, args=(config.out, 3))
    killer.start()
    train_on_ray(config, open_builds(config))
    killer.join()
    log = (config.out / "log.txt").read_text()
    assert log.count("from step 0 of 6") == 1
    assert "resumed at step" in log
    assert losses_of(config.out) == losses_of(two_ranks)
    ours, theirs = weights_of(config.out), weights_of(two_ranks)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_ray_does_not_restart_what_would_fail_again(video_build: Build, ray_session: None, tmp_path: Path) -> None:
    config = train_config(
        tmp_path / "run", [video_build], lr_rest=1e30, lr_backbone=1e30, warmup_steps=0, num_workers=2
    )
    with pytest.raises(RunError, match=r"the loss is (nan|inf) at step \d+; samples of the batch: ssv2-"):
        train_on_ray(config, open_builds(config))
    content = json.loads((config.out / "stopped_batch.json").read_text())
    assert [len(rank["ssv2"]) for rank in content["keys_by_rank"]] == [2, 2]


def test_a_cluster_without_room_is_said_at_once(video_build: Build, ray_session: None, tmp_path: Path) -> None:
    config = train_config(tmp_path / "run", [video_build], num_workers=2, use_gpu=True)
    with pytest.raises(RunError, match="the cluster has 0 GPU, 2 workers need 2"):
        train_on_ray(config, open_builds(config))
