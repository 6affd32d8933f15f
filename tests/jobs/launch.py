"""Training as a user starts it: `vlajepa train` in processes of its own, one or several."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from pipeline.format.build import Build

REPOSITORY = Path(__file__).resolve().parents[2]


def train_command(out: Path, builds: Sequence[Build], *settings: str, ranks: int = 1) -> list[str]:
    """The words of a tiny run; with several ranks by torchrun."""
    start = [sys.executable]
    if ranks > 1:
        start += ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks)]
    paths = ",".join(str(build.path) for build in builds)
    trainer = (
        "steps=6 warmup_steps=2 batch_size=8 eval_every=0 eval_samples=16 eval_batch=4 save_every=3 log_every=1 "
        "count_flops=false"
    )
    words = ["train", f"builds=[{paths}]", f"out={out}", "model=tiny", "trainer=demo"]
    return [*start, "-m", "jobs.cli", *words, *(f"trainer.{word}" for word in trainer.split()), *settings]


def environment() -> dict[str, str]:
    """One thread a process: with more, several of them on few processors get in each other's way."""
    return {**os.environ, "OMP_NUM_THREADS": "1"}


def train_in_processes(
    out: Path, builds: Sequence[Build], *settings: str, ranks: int = 1
) -> subprocess.CompletedProcess[str]:
    """Run to the end."""
    command = train_command(out, builds, *settings, ranks=ranks)
    return subprocess.run(command, cwd=REPOSITORY, env=environment(), capture_output=True, text=True, timeout=900)


def stop_at(out: Path, builds: Sequence[Build], step: int, *settings: str, ranks: int = 1) -> tuple[int, str]:
    """Start a run and send SIGTERM once it has logged a step; exit code and what it printed."""
    command = train_command(out, builds, *settings, ranks=ranks)
    with subprocess.Popen(
        command, cwd=REPOSITORY, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        wait_for_step(out, step)
        process.send_signal(signal.SIGTERM)
        text, _ = process.communicate(timeout=600)
    return process.returncode, text


def wait_for_step(out: Path, step: int, seconds: float = 600, process: subprocess.Popen[str] | None = None) -> None:
    """Return once a run has logged a step; an error if its process ends before."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if any(logged >= step for logged, _ in losses_of(out)):
            return
        if process is not None and process.poll() is not None:
            raise RuntimeError(
                f"the run ended with {process.returncode} before step {step}: {process.communicate()[0]}"
            )
        time.sleep(0.05)
    raise TimeoutError(f"{out} has not come to step {step} within {seconds} s")


def losses_of(out: Path) -> list[tuple[int, float]]:
    """Step and loss of every whole row of a run's metrics."""
    path = out / "metrics.jsonl"
    if not path.exists():
        return []
    rows = [json.loads(line) for line in path.read_text().split("\n")[:-1]]
    return [(row["step"], row["loss"]) for row in rows if "loss" in row]
