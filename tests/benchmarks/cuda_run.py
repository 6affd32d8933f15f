"""The whole way at full size on one CUDA device: clips, robot episodes, targets by ViT-L, audit, training, checkpoint.

Episodes are those of the sample world; encoder and model have the reference's sizes and random weights.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

import torch
from transformers import VJEPA2Config, VJEPA2Model

from jobs.training.loop.checkpointing import CheckpointWriter
from jobs.training.loop.settings import TrainerSettings
from jobs.training.run import train
from jobs.training.settings import TrainConfig
from model.settings import BackboneSettings, ModelSettings
from pipeline.encoder.encoder import Encoder
from pipeline.format.build import Build
from pipeline.format.build_settings import EncoderSettings, InputSettings, ShardSettings, WindowPolicy
from pipeline.sample_world.lerobot import write_lerobot
from pipeline.sample_world.ssv2 import write_ssv2
from tests.benchmarks.report import Series, print_table, quietly
from tests.jobs.runs import build_config, make_here, robot_source, ssv2_source, with_verdict

CLIPS, EPISODES, SIZE = 24, 6, 256
"""Clips, robot episodes of two cameras, and pixels of their sides."""

BATCH = 16
STEPS, WARMUP = 40, 10
SETTINGS = ModelSettings(backbone=BackboneSettings(kind="random"))


def run(folder: Path, repeats: int) -> None:
    """Print what each part took, or say that there is no device. Every part runs once, whatever `repeats` says."""
    if not torch.cuda.is_available():
        print("\ncuda-run: PyTorch finds no CUDA device here, nothing is measured")
        return
    with quietly():
        write_ssv2(folder / "ssv2", clips=CLIPS, seed=0, size=SIZE)
        write_lerobot(folder / "lerobot", episodes=EPISODES, seed=0, size=SIZE)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            VJEPA2Model(VJEPA2Config()).save_pretrained(folder / "vitl")
    builds = [
        _build(folder / "build-ssv2", ssv2_source(folder / "ssv2"), folder / "vitl"),
        _build(folder / "build-robot", robot_source(folder / "lerobot"), folder / "vitl"),
    ]
    for compiled in (False, True):
        _train(folder / f"run-{compiled}", builds, compiled)


def _build(out: Path, source: Mapping[str, Any], weights: Path) -> Build:
    """Preprocess and audit, and print how many windows a second of each."""
    config = build_config(
        out,
        dict(source),
        window=WindowPolicy(interval=1, every=3),
        inputs=InputSettings(),
        encoder=EncoderSettings(name_or_path=str(weights), dtype="bfloat16"),
        shards=ShardSettings(samples=128, group_samples=32),
    )
    config = replace(config, cluster=replace(config.cluster, encoder_gpus=1.0))
    with _timed(Encoder, "encode") as encoding:
        began = time.perf_counter()
        made = make_here(config, "cuda")
        seconds = time.perf_counter() - began
    began = time.perf_counter()
    build = with_verdict(made)
    audit = time.perf_counter() - began
    windows = sum(counts["samples"] for counts in build.manifest["counts"].values())
    print_table(
        f"{build.name}: {windows} windows of {build.sizes.views} views, one process",
        "windows/s",
        [
            Series("preprocess", (windows / seconds,)),
            Series("of that, encoding (with copies to and from the device)", (windows / sum(encoding),)),
            Series("audit", (windows / audit,)),
        ],
        notes=[f"{len(encoding)} blocks encoded in {sum(encoding):.1f} of {seconds:.1f} s; audit {audit:.1f} s"],
    )
    return build


def _train(out: Path, builds: list[Build], compiled: bool) -> None:
    """A run of the trainer with its checkpoint, and what its metrics say."""
    trainer = TrainerSettings(
        steps=STEPS,
        warmup_steps=WARMUP,
        batch_size=BATCH,
        compile=compiled,
        eval_every=0,
        eval_samples=BATCH,
        save_every=STEPS,
        keep=1,
        log_every=1,
        threads=4,
        async_save=False,
    )
    config = TrainConfig(out=out, builds=tuple(str(build.path) for build in builds), model=SETTINGS, trainer=trainer)
    with _timed(CheckpointWriter, "save") as saving, quietly():
        train(config)
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    rows = [row for row in rows if "samples_per_s" in row][WARMUP:]
    found = {name: [row[name] for row in rows if name in row] for name in ("samples_per_s", "data_wait_share", "mfu")}
    checkpoint = sum(file.stat().st_size for file in (out / "checkpoints").rglob("*") if file.is_file())
    said = (out / "log.txt").read_text()
    print_table(
        f"Trainer at full size, {BATCH} robot and {BATCH} video samples, compile={compiled}",
        "samples/s",
        [Series(f"steps {WARMUP + 1} to {STEPS}", tuple(found["samples_per_s"]))],
        [
            Series("waiting for data / step", tuple(found["data_wait_share"])),
            *([Series("MFU", tuple(found["mfu"]))] if found["mfu"] else []),
        ],
        [
            next(line for line in said.splitlines() if line.startswith("model on")),
            f"memory {max(row['memory_gib'] for row in rows):.1f} GiB; loss {rows[0]['loss']:.3f} -> "
            f"{median(row['loss'] for row in rows[-5:]):.3f}",
            f"checkpoint {checkpoint / 1e9:.1f} GB in {sum(saving):.1f} s",
        ],
    )
    shutil.rmtree(out)


@contextmanager
def _timed(owner: type, method: str) -> Iterator[list[float]]:
    """Seconds of every call of a method while the context is open."""
    seconds: list[float] = []
    original: Callable[..., Any] = getattr(owner, method)

    def measured(*arguments: Any, **named: Any) -> Any:
        began = time.perf_counter()
        try:
            return original(*arguments, **named)
        finally:
            seconds.append(time.perf_counter() - began)

    with patch.object(owner, method, measured):
        yield seconds
