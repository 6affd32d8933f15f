"""What the stream costs a training step: against the same step on one fixed batch, and the share spent waiting."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

from jobs.training.loop.settings import TrainerSettings
from jobs.training.loop.step.micro_batches import MicroBatch, micro_batches
from jobs.training.run import train
from pipeline.format.build import Build
from pipeline.format.build_settings import WindowPolicy
from pipeline.sample_world.lerobot import write_lerobot
from pipeline.sample_world.ssv2 import write_ssv2
from pipeline.streaming.stream import Stream
from tests.benchmarks.report import Series, Target, interleaved, print_table, quietly
from tests.jobs.runs import audited, build_config, robot_source, ssv2_source, train_config

DEFAULTS = TrainerSettings()
WAIT_SHARE = 0.05
OVERHEAD = 1.03


@dataclass(frozen=True)
class Scale:
    """Raw data, and the training runs.

    every         frame of an episode that is the present of a window
    steps, batch  of a run; samples of each build
    warmup        steps left out of the median: files are opened and memory is touched for the first time
    """

    clips: int = 16
    episodes: int = 6
    every: int = 3
    steps: int = 60
    warmup: int = 10
    batch: int = 16


TINY = Scale(clips=8, episodes=4, every=20, steps=3, warmup=1, batch=2)


def run(folder: Path, repeats: int, scale: Scale) -> None:
    """Train the tiny model on a human and a robot build, and print the table."""
    with quietly():
        builds = _builds(folder, scale)
        number = itertools.count()
        rows: dict[str, list[list[dict[str, float]]]] = {"stream": [], "fixed": []}

        def measure(kind: str) -> float:
            rows[kind].append(_train(folder / f"run-{next(number)}", builds, scale, fixed=kind == "fixed"))
            return _median_ms(rows[kind][-1], scale.batch)

        times = interleaved(
            {
                "a step with the stream (median of a run)": lambda: measure("stream"),
                "the same on one fixed batch": lambda: measure("fixed"),
            },
            repeats,
        )
    stream, fixed = times.values()
    shares = [Series("", tuple(row["data_wait_share"] for row in run)).median for run in rows["stream"]]
    print_table(
        f"Training: what the stream costs, model=tiny, 2 builds, batch {scale.batch} and {DEFAULTS.threads} threads "
        "each",
        "ms",
        [stream, fixed],
        [
            Target(stream.over(fixed, "step with the stream / on a fixed batch"), OVERHEAD, at_most=True),
            Target(Series("waiting for data / step (median of a run)", tuple(shares)), WAIT_SHARE, at_most=True),
        ],
        [
            f"steps {scale.warmup + 1} to {scale.steps} of {repeats} runs each, every sample hashed",
            "reading, decoding and hashing take processors from the step here, which on CUDA they do not",
        ],
    )


def _builds(folder: Path, scale: Scale) -> list[Build]:
    write_ssv2(folder / "ssv2", clips=scale.clips, seed=0, size=64)
    write_lerobot(folder / "lerobot", episodes=scale.episodes, seed=0, size=64)
    policy = WindowPolicy(interval=2, every=scale.every)
    return [
        audited(build_config(folder / "build-ssv2", ssv2_source(folder / "ssv2"), window=policy)),
        audited(build_config(folder / "build-robot", robot_source(folder / "lerobot"), window=policy)),
    ]


def _train(out: Path, builds: Sequence[Build], scale: Scale, fixed: bool) -> list[dict[str, float]]:
    """Rows of the steps after the warm-up."""
    config = train_config(
        out,
        builds,
        steps=scale.steps,
        batch_size=scale.batch,
        save_every=scale.steps,
        threads=DEFAULTS.threads,
        ahead=DEFAULTS.ahead,
    )
    with patch("jobs.training.loop.loop.micro_batches", _one_step if fixed else micro_batches):
        train(config)
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [row for row in rows if row["step"] > scale.warmup and "data_wait_share" in row]


def _one_step(streams: Sequence[Stream], start: int, stop: int, pieces: int) -> Iterator[list[list[MicroBatch]]]:
    """The first step again and again."""
    return itertools.repeat(next(micro_batches(streams, start, start + 1, pieces)), stop - start)


def _median_ms(rows: Sequence[dict[str, float]], batch: int) -> float:
    return Series("", tuple(1e3 * 2 * batch / row["samples_per_s"] for row in rows)).median
