"""Share of a training step spent waiting for data, from the run's own metrics."""

from __future__ import annotations

import json
from pathlib import Path

from jobs.train import train
from jobs.train_settings import TrainerSettings
from pipeline.sample_world.lerobot import write_lerobot
from pipeline.sample_world.ssv2 import write_ssv2
from pipeline.windows import WindowPolicy
from tests.benchmarks.report import Series, Target, print_table, quietly
from tests.jobs.runs import audited, build_config, robot_source, ssv2_source, train_config

STEPS = 60
WARMUP = 10
"""Steps left out of the median: files are opened and memory is touched for the first time."""

BATCH = 16
DEFAULTS = TrainerSettings()
WAIT_SHARE = 0.05


def run(folder: Path, repeats: int) -> None:
    """Train the tiny model on a human and a robot build, and print the table."""
    write_ssv2(folder / "ssv2", clips=16, seed=0, size=64)
    write_lerobot(folder / "lerobot", episodes=6, seed=0, size=64)
    policy = WindowPolicy(interval=2, every=3)
    with quietly():
        builds = [
            audited(build_config(folder / "build-ssv2", ssv2_source(folder / "ssv2"), window=policy)),
            audited(build_config(folder / "build-robot", robot_source(folder / "lerobot"), window=policy)),
        ]
        shares: list[float] = []
        steps_ms: list[float] = []
        waits_ms: list[float] = []
        for i in range(repeats):
            config = train_config(
                folder / f"run-{i}",
                builds,
                steps=STEPS,
                batch_size=BATCH,
                save_every=STEPS,
                threads=DEFAULTS.threads,
                ahead=DEFAULTS.ahead,
            )
            train(config)
            rows = [json.loads(line) for line in (config.out / "metrics.jsonl").read_text().splitlines()]
            steps = [row for row in rows if row["step"] > WARMUP and "data_wait_share" in row]
            shares.append(Series("", tuple(row["data_wait_share"] for row in steps)).median)
            step_ms = [1e3 * 2 * BATCH / row["samples_per_s"] for row in steps]
            waits = tuple(row["data_wait_share"] * ms for row, ms in zip(steps, step_ms, strict=True))
            steps_ms.append(Series("", tuple(step_ms)).median)
            waits_ms.append(Series("", waits).median)
    print_table(
        f"Training: waiting for data, model=tiny, 2 builds, batch {BATCH} of each, {DEFAULTS.threads} threads a build",
        "ms",
        [
            Series("a step (median of a run)", tuple(steps_ms)),
            Series("waiting for data in it (median of a run)", tuple(waits_ms)),
        ],
        [Target(Series("waiting for data / step (median of a run)", tuple(shares)), WAIT_SHARE, at_most=True)],
        [f"steps {WARMUP + 1} to {STEPS} of {repeats} runs"],
    )
