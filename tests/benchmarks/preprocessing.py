"""Wall time of the Ray tasks of a build against the processor time of the work itself, on one core and on all."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import VJEPA2Config, VJEPA2Model

from jobs.cluster.settings import ClusterSettings
from jobs.datasets.configured_source import configured_source
from jobs.preprocess.preprocess import preprocess
from jobs.preprocess.settings import BuildConfig
from pipeline.format.build_settings import EncoderSettings, InputSettings, ShardSettings, WindowPolicy
from pipeline.sample_world.ssv2 import write_ssv2
from tests.benchmarks.report import Series, Target, busy_share, cores, print_table, quietly

CLIPS = 60
WINDOWS_PER_CLIP = 8
SHARDS = ShardSettings(samples=32, group_samples=16)
SHARE_OF_IDEAL = 0.85
ENCODER = {
    "crop_size": 64,
    "frames_per_clip": 8,
    "hidden_size": 384,
    "num_hidden_layers": 6,
    "num_attention_heads": 6,
    "pred_hidden_size": 32,
    "pred_num_attention_heads": 2,
    "pred_num_hidden_layers": 1,
}
"""Random weights of a V-JEPA2 that takes several times as long to encode a window as decoding it takes."""

DRIVE = """
import os, sys
from pathlib import Path
os.sched_setaffinity(0, {int(core) for core in sys.argv[4].split(",")})
from tests.benchmarks.preprocessing import build
build(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], len(sys.argv[4].split(",")))
"""
"""A driver and its Ray on some of the cores: what it starts inherits them."""


@dataclass(frozen=True)
class Timing:
    """What logs/preprocess-*.json of a build says, seconds; and its samples."""

    ray_startup_s: float
    shards_s: float
    inputs_cpu_s: float
    decode_cpu_s: float
    encode_cpu_s: float
    commit_s: float
    samples: int

    @classmethod
    def read(cls, build: Path) -> Timing:
        (path,) = (build / "logs").glob("preprocess-*.json")
        content: dict[str, Any] = json.loads(path.read_bytes())
        return cls(**{name: content[name] for name in cls.__dataclass_fields__})

    @property
    def work_s(self) -> float:
        """Processor time of inputs, decoding, resizing and the encoder."""
        return self.decode_cpu_s + self.encode_cpu_s


def run(folder: Path, repeats: int) -> None:
    """Measure and print a table for each of two encoders and for one core and all."""
    root, weights = folder / "ssv2", folder / "encoder"
    write_ssv2(root, CLIPS, seed=0)
    with quietly(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        VJEPA2Model(VJEPA2Config(**ENCODER)).save_pretrained(weights)
    available = sorted(os.sched_getaffinity(0))
    encoders = {
        "an encoder of 6 layers, width 384 (inputs and decoding a tenth of the work)": str(weights),
        "the tiny encoder (far cheaper than any real one, to show the overhead)": "",
    }
    for name, encoder in encoders.items():
        for used in dict.fromkeys((tuple(available[:1]), tuple(available))):
            others, timings = [], []
            for i in range(repeats):
                others.append(f"{busy_share():.0%}")
                timings.append(_measure(root, folder / f"{bool(encoder)}-{len(used)}-{i}", encoder, used))
            note = f"other programs took {', '.join(others)} of the processors before each run"
            _print(name, bool(encoder), timings, len(used), note)


def build(root: Path, out: Path, encoder: str, workers: int) -> None:
    """Make the build on a local Ray of so many processors, an encoder for each."""
    kind = EncoderSettings(name_or_path=encoder) if encoder else EncoderSettings(kind="tiny")
    config = BuildConfig(
        out=out,
        source=configured_source({"type": "ssv2", "name": "ssv2", "root": str(root)}),
        window=WindowPolicy(interval=2, every=0, per_episode=WINDOWS_PER_CLIP),
        inputs=InputSettings(),
        encoder=EncoderSettings(**{**vars(kind), "resize": "squash"}),
        shards=SHARDS,
        cluster=ClusterSettings(num_cpus=workers, encoders=workers, encoder_cpus=0.0),
    )
    preprocess(config)


def _measure(root: Path, out: Path, encoder: str, used: Sequence[int]) -> Timing:
    words = [sys.executable, "-c", DRIVE, str(root), str(out), encoder, ",".join(map(str, used))]
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"preprocessing on {len(used)} cores failed: {done.stderr[-2000:]}")
    return Timing.read(out)


def _print(name: str, target: bool, timings: Sequence[Timing], used: int, note: str) -> None:
    columns = {
        "Ray start-up and loading of encoders (not in the ratio)": [t.ray_startup_s for t in timings],
        "wall time of the tasks": [t.shards_s for t in timings],
        "processor time of inputs (decoding, resizing, JPEG)": [t.inputs_cpu_s for t in timings],
        "processor time of decoding and resizing for the encoder": [t.decode_cpu_s - t.inputs_cpu_s for t in timings],
        "processor time of the encoder": [t.encode_cpu_s for t in timings],
        "Ray, waiting, hashing and writing: wall x cores - the above": [t.shards_s * used - t.work_s for t in timings],
        "commit (not in the ratio)": [t.commit_s for t in timings],
        "ideal: processor time / cores": [t.work_s / used for t in timings],
    }
    series = [Series(label, tuple(values)) for label, values in columns.items()]
    share = series[-1].over(series[1], "ideal / wall time of the tasks")
    title = f"Preprocessing with {name}: {timings[0].samples} windows, {used} of {cores()} cores"
    print_table(title, "s", series, [Target(share, SHARE_OF_IDEAL) if target else share], [note])
