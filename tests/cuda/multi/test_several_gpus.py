"""Two GPUs by NCCL against one: DDP and FSDP2, resuming on another number of ranks, a rank that hangs.

The same on two processes of the CPU by gloo, as slow tests. Human video alone where losses are compared: it has no
noise, of which each rank draws its own.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
import torch

from jobs.common.policy.load_model import load_model
from jobs.training.loop.rank_watch import EXIT_CODE
from model.checkpoint.folders import list_checkpoints
from pipeline.format.build import Build
from tests.cuda.multi.hanging import BATCHES, HANGS
from tests.jobs.launch import REPOSITORY, environment, losses_of, train_command, train_in_processes, wait_for_step

GPUS = torch.cuda.device_count()
TIMEOUT = 20
"""Seconds after which a rank counts as hung."""

ENDING = 45
"""More seconds at most: two looks at all ranks, and 30 s that torchrun gives a stopped process to end itself."""


@dataclass(frozen=True)
class Setup:
    """Device and arithmetic, and how far losses (relative) and weights (share of their change) may be from one rank's.

    Sums of gradients over ranks round differently; AdamW divides by their size, and so a small gradient's last bits
    count.
    """

    device: str
    bf16: bool
    losses: float
    weights: float

    @property
    def words(self) -> tuple[str, ...]:
        return f"trainer.device={self.device}", f"trainer.bf16={str(self.bf16).lower()}"


SKIP = pytest.mark.skipif(GPUS < 2, reason=f"PyTorch finds {GPUS} CUDA devices here, two ranks need two")
SETUPS = [
    pytest.param(Setup("cpu", False, 1e-4, 0.02), id="gloo", marks=pytest.mark.slow),
    pytest.param(Setup("cuda", False, 1e-3, 0.05), id="nccl-float32", marks=SKIP),
    pytest.param(Setup("cuda", True, 5e-2, 0.5), id="nccl-bfloat16", marks=SKIP),
]
STRATEGIES = pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
RATES = ("trainer.lr_rest=0.001", "trainer.lr_final_rest=1e-6")


@pytest.fixture(scope="module", params=SETUPS)
def setup(request: pytest.FixtureRequest) -> Setup:
    found: Setup = request.param
    return found


@pytest.fixture(scope="module")
def alone(setup: Setup, video_build: Build, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 6 steps on one device; read only."""
    return run(tmp_path_factory.mktemp("alone") / setup.device, video_build, *setup.words, ranks=1)


def run(out: Path, build: Build, *settings: str, ranks: int) -> Path:
    done = train_in_processes(out, [build], *RATES, *settings, ranks=ranks)
    assert done.returncode == 0, done.stderr
    return out


def weights_of(out: Path, which: int = -1) -> torch.Tensor:
    """All weights of a checkpoint in a row, float32."""
    state = load_model(list_checkpoints(out / "checkpoints")[which]).state_dict()
    return torch.cat([tensor.float().flatten() for tensor in state.values() if tensor.is_floating_point()])


def require_as_alone(out: Path, alone: Path, setup: Setup) -> None:
    assert dict(losses_of(out)) == pytest.approx(dict(losses_of(alone)), rel=setup.losses)
    middle, expected, found = weights_of(alone, 0), weights_of(alone), weights_of(out)
    assert float((found - expected).norm() / (expected - middle).norm()) < setup.weights


@STRATEGIES
def test_two_ranks_learn_what_one_does(
    setup: Setup, strategy: str, alone: Path, video_build: Build, tmp_path: Path
) -> None:
    out = run(tmp_path / "two", video_build, *setup.words, f"trainer.strategy={strategy}", ranks=2)
    assert f"model on {setup.device}, 2 ranks ({strategy})" in (out / "log.txt").read_text()
    require_as_alone(out, alone, setup)


@STRATEGIES
def test_a_run_goes_on_on_another_number_of_ranks(
    setup: Setup, strategy: str, alone: Path, video_build: Build, tmp_path: Path
) -> None:
    """Two ranks, one, two again: what a run that never stopped comes to."""
    for last, ranks in ((2, 2), (4, 1), (6, 2)):
        words = (*setup.words, f"trainer.strategy={strategy}", f"trainer.stop_after={last}", "trainer.keep=9")
        out = run(tmp_path / "parts", video_build, *words, ranks=ranks)
        in_parts = (list_checkpoints(out / "checkpoints")[-1] / "sharded").exists()
        assert in_parts == (strategy == "fsdp" and ranks == 2)
    log = (out / "log.txt").read_text()
    assert all(f"resumed at step {step}" in log for step in (2, 4))
    require_as_alone(out, alone, setup)


@dataclass(frozen=True)
class Ended:
    """Of a run in which a rank hung: exit code, seconds until it ended, what it printed and logged."""

    code: int
    seconds: float
    printed: str
    log: str


@pytest.fixture
def endless(setup: Setup) -> tuple[str, ...]:
    """Settings of a run that only a hung rank ends."""
    return (*RATES, *setup.words, f"trainer.rank_timeout_s={TIMEOUT}", "trainer.steps=100000")


def start(command: list[str], **variables: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command,
        cwd=REPOSITORY,
        env=environment() | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def ended(process: subprocess.Popen[str], out: Path) -> Ended:
    """Wait for a run whose rank hangs now."""
    began = time.monotonic()
    printed, _ = process.communicate(timeout=TIMEOUT + 2 * ENDING)
    return Ended(process.returncode, time.monotonic() - began, printed, (out / "log.txt").read_text())


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def rank_of(process: subprocess.Popen[str], rank: int) -> psutil.Process:
    children = psutil.Process(process.pid).children(recursive=True)
    return next(child for child in children if child.environ().get("RANK") == str(rank))


@pytest.mark.parametrize("rank", [0, 1])
def test_a_stopped_process_ends_the_run_and_is_named(
    setup: Setup, endless: tuple[str, ...], rank: int, video_build: Build, tmp_path: Path
) -> None:
    """As a machine that is lost: nothing of it runs."""
    out = tmp_path / "run"
    with start(train_command(out, [video_build], *endless, ranks=2)) as process:
        try:
            wait_for_step(out, 2, process=process)
            stopped = rank_of(process, rank)
            stopped.send_signal(signal.SIGSTOP)
            found = ended(process, out)
        finally:
            process.kill()
    assert found.code != 0
    assert found.seconds < TIMEOUT + ENDING
    for text in (found.printed, found.log):
        assert f"rank {rank} ({os.uname().nodename}, process {stopped.pid}; " in text
        assert f"gives no sign of life. No rank has come further for trainer.rank_timeout_s={TIMEOUT}" in text
        assert f"rank {1 - rank} (" not in text


def test_a_stopped_rank_0_that_keeps_the_store_is_named(
    setup: Setup, endless: tuple[str, ...], video_build: Build, tmp_path: Path
) -> None:
    """As Slurm starts ranks, without torchrun: what the ranks speak through is gone."""
    out, words = tmp_path / "run", train_command(tmp_path / "run", [video_build], *endless)
    world = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    with (
        start(words, **world, RANK="0", LOCAL_RANK="0") as first,
        start(words, **world, RANK="1", LOCAL_RANK="1") as other,
    ):
        try:
            wait_for_step(out, 2, process=first)
            first.send_signal(signal.SIGSTOP)
            found = ended(other, out)
        finally:
            first.kill()
            other.kill()
    assert found.code == EXIT_CODE
    assert found.seconds < TIMEOUT + ENDING
    for text in (found.printed, found.log):
        assert "rank 0 gives no sign of life: what it keeps for all ranks" in text


@STRATEGIES
def test_a_rank_that_reads_for_ever_ends_the_run_and_is_named(
    setup: Setup, endless: tuple[str, ...], strategy: str, video_build: Build, tmp_path: Path
) -> None:
    """Its threads live: what it did last is said, and where it hangs."""
    out = tmp_path / "run"
    words = train_command(out, [video_build], *endless, f"trainer.strategy={strategy}", "trainer.threads=0", ranks=2)
    command = [word.replace("jobs.cli", "tests.cuda.multi.hanging") for word in words]
    assert command != words, sys.argv
    with start(command, **{HANGS: "1"}) as process:
        try:
            wait_for_step(out, BATCHES, process=process)
            found = ended(process, out)
        finally:
            process.kill()
    assert found.code != 0
    assert found.seconds < TIMEOUT + ENDING
    for text in (found.printed, found.log):
        assert f"; reads the samples of step {BATCHES}) hangs. No rank has come further" in text
        assert "rank 1 (" in text
        assert "rank 0 (" not in text
    assert "in _hanging" in found.printed
    assert found.log.count("No rank has come further") == 1
