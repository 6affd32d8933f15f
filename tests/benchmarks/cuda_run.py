"""The whole way at full size on one CUDA device: clips, robot episodes, targets by ViT-L, audit, training, checkpoint.

Episodes are those of the sample world; encoder and model have the reference's sizes and random weights.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

import torch

from jobs.training.loop.checkpointing import CheckpointWriter
from jobs.training.loop.settings import TrainerSettings
from jobs.training.run import train
from jobs.training.settings import TrainConfig
from model.settings import ModelSettings
from pipeline.encoder.encoder import Encoder
from pipeline.format.build import Build
from pipeline.format.build_settings import EncoderSettings, InputSettings, ShardSettings, WindowPolicy
from pipeline.sample_world.lerobot import write_lerobot
from pipeline.sample_world.ssv2 import write_ssv2
from tests.benchmarks.packing import FULL, small_settings
from tests.benchmarks.random_encoder import TINY_ENCODER, save_random_encoder
from tests.benchmarks.report import Series, print_table, quietly
from tests.jobs.runs import build_config, make_here, robot_source, ssv2_source, with_verdict


@dataclass(frozen=True)
class Scale:
    """What is made and trained, and where.

    clips, episodes  of the sample world; episodes have two cameras
    every            frame of them that is the present of a window
    side             of their frames, pixels;  image_size: of the student's images
    encoder          settings of the V-JEPA2 that makes targets; none: ViT-L
    batch            samples of each build;  steps of a run, the first `warmup` left out of what is shown
    compiled         of each run of the trainer;  count_flops: for its MFU
    device           "cpu" shows that everything runs
    """

    clips: int = 24
    episodes: int = 6
    every: int = 3
    side: int = 256
    image_size: int = 224
    encoder: Mapping[str, Any] = field(default_factory=dict)
    model: ModelSettings = FULL
    batch: int = 16
    steps: int = 40
    warmup: int = 10
    compiled: tuple[bool, ...] = (False, True)
    count_flops: bool = True
    device: str = "cuda"


TINY = Scale(
    clips=8,
    episodes=4,
    every=20,
    side=64,
    image_size=64,
    encoder=TINY_ENCODER,
    model=small_settings(),
    batch=2,
    steps=3,
    warmup=1,
    compiled=(False,),
    count_flops=False,
    device="cpu",
)


def run(folder: Path, repeats: int, scale: Scale) -> None:
    """Print what each part took, or say that there is no device. Every part runs once, whatever `repeats` says."""
    if scale.device == "cuda" and not torch.cuda.is_available():
        print("\ncuda-run: PyTorch finds no CUDA device here, nothing is measured")
        return
    with quietly():
        write_ssv2(folder / "ssv2", clips=scale.clips, seed=0, size=scale.side)
        write_lerobot(folder / "lerobot", episodes=scale.episodes, seed=0, size=scale.side)
    weights = save_random_encoder(folder / "encoder", scale.encoder)
    builds = [
        _build(folder / "build-ssv2", ssv2_source(folder / "ssv2"), weights, scale),
        _build(folder / "build-robot", robot_source(folder / "lerobot"), weights, scale),
    ]
    for compiled in scale.compiled:
        _train(folder / f"run-{compiled}", builds, compiled, scale)


def _build(out: Path, source: Mapping[str, Any], weights: Path, scale: Scale) -> Build:
    """Preprocess and audit, and print how many windows a second of each."""
    config = build_config(
        out,
        dict(source),
        window=WindowPolicy(interval=1, every=scale.every),
        inputs=InputSettings(image_size=scale.image_size),
        encoder=EncoderSettings(name_or_path=str(weights), dtype="bfloat16"),
        shards=ShardSettings(samples=128, group_samples=32),
    )
    config = replace(config, cluster=replace(config.cluster, encoder_gpus=float(scale.device == "cuda")))
    with _timed(Encoder, "encode") as encoding:
        began = time.perf_counter()
        made = make_here(config, scale.device)
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
        [
            Series(
                "decoding and writing / encoding: processors that feed a device",
                ((seconds - sum(encoding)) / sum(encoding),),
            )
        ],
        [f"{len(encoding)} blocks encoded in {sum(encoding):.1f} of {seconds:.1f} s; audit {audit:.1f} s"],
    )
    return build


def _train(out: Path, builds: list[Build], compiled: bool, scale: Scale) -> None:
    """A run of the trainer with its checkpoint, and what its metrics say."""
    trainer = TrainerSettings(
        steps=scale.steps,
        warmup_steps=scale.warmup,
        batch_size=scale.batch,
        compile=compiled,
        eval_every=0,
        eval_samples=scale.batch,
        save_every=scale.steps,
        keep=1,
        log_every=1,
        threads=4,
        async_save=False,
        count_flops=scale.count_flops,
    )
    config = TrainConfig(out=out, builds=tuple(build.path for build in builds), model=scale.model, trainer=trainer)
    with _timed(CheckpointWriter, "save") as saving, quietly():
        train(config)
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    rows = [row for row in rows if "samples_per_s" in row][scale.warmup :]
    found = {name: [row[name] for row in rows if name in row] for name in ("samples_per_s", "data_wait_share", "mfu")}
    checkpoint = sum(file.stat().st_size for file in (out / "checkpoints").rglob("*") if file.is_file())
    said = (out / "log.txt").read_text()
    print_table(
        f"Trainer, {scale.batch} robot and {scale.batch} video samples, compile={compiled}",
        "samples/s",
        [Series(f"steps {scale.warmup + 1} to {scale.steps}", tuple(found["samples_per_s"]))],
        [
            Series("waiting for data / step", tuple(found["data_wait_share"])),
            *([Series("MFU", tuple(found["mfu"]))] if found["mfu"] else []),
        ],
        [
            next(line for line in said.splitlines() if line.startswith("model on")),
            f"memory {max(row.get('memory_gib', 0) for row in rows):.1f} GiB; loss {rows[0]['loss']:.3f} -> "
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
