"""Wall time of the Ray tasks of a build against the processor time of the work itself, spread over all cores."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import VJEPA2Config, VJEPA2Model

from jobs.preprocess import preprocess
from jobs.settings import BuildConfig, ClusterSettings
from pipeline.inputs import InputSettings
from pipeline.plan import ShardSettings
from pipeline.sample_world.ssv2 import write_ssv2
from pipeline.targets import EncoderSettings
from pipeline.windows import WindowPolicy
from tests.benchmarks.report import Series, Target, busy_share, cores, print_table, quietly

CLIPS = 60
WINDOWS_PER_CLIP = 8
SHARDS = ShardSettings(samples=32, chunk_samples=16)
SHARE_OF_IDEAL = 0.8
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


@dataclass(frozen=True)
class Timing:
    """What logs/preprocess-*.json of a build says, seconds; and its samples."""

    ray_startup_s: float
    shards_s: float
    decode_cpu_s: float
    encode_cpu_s: float
    samples: int

    @classmethod
    def read(cls, build: Path) -> Timing:
        (path,) = (build / "logs").glob("preprocess-*.json")
        content: dict[str, Any] = json.loads(path.read_bytes())
        return cls(**{name: content[name] for name in cls.__dataclass_fields__})

    @property
    def ideal_s(self) -> float:
        """All cores busy with decoding, resizing, JPEG and the encoder from the first moment to the last."""
        return (self.decode_cpu_s + self.encode_cpu_s) / cores()


def run(folder: Path, repeats: int) -> None:
    """Measure and print one table for each of two encoders."""
    root, weights = folder / "ssv2", folder / "encoder"
    write_ssv2(root, CLIPS, seed=0)
    with quietly(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        VJEPA2Model(VJEPA2Config(**ENCODER)).save_pretrained(weights)
    encoders = {
        "an encoder of 6 layers, width 384 (inputs and decoding a tenth of the work)": EncoderSettings(
            name_or_path=str(weights), resize="squash"
        ),
        "the tiny encoder (far cheaper than any real one, to show the overhead)": EncoderSettings(
            kind="tiny", resize="squash"
        ),
    }
    for name, encoder in encoders.items():
        others, timings = [], []
        for i in range(repeats):
            others.append(f"{busy_share():.0%}")
            timings.append(_build(root, folder / f"{encoder.kind}-{i}", encoder))
        _print(name, encoder, timings, f"other programs took {', '.join(others)} of the processors before each run")


def _build(root: Path, out: Path, encoder: EncoderSettings) -> Timing:
    config = BuildConfig(
        out=out,
        source={"type": "ssv2", "name": "ssv2", "root": str(root)},
        window=WindowPolicy(interval=2, every=0, per_episode=WINDOWS_PER_CLIP),
        inputs=InputSettings(),
        encoder=encoder,
        shards=SHARDS,
        cluster=ClusterSettings(num_cpus=cores(), encoders=2, encoder_cpus=0.0),
    )
    with quietly():
        preprocess(config)
    return Timing.read(out)


def _print(name: str, encoder: EncoderSettings, timings: Sequence[Timing], note: str) -> None:
    columns = {
        "Ray start-up and loading of encoders (not in the ratio)": [t.ray_startup_s for t in timings],
        "wall time of the tasks": [t.shards_s for t in timings],
        "processor time of inputs, decoding and resizing": [t.decode_cpu_s for t in timings],
        "processor time of the encoder": [t.encode_cpu_s for t in timings],
        "ideal: processor time / cores": [t.ideal_s for t in timings],
    }
    series = [Series(label, tuple(values)) for label, values in columns.items()]
    share = series[-1].over(series[1], "ideal / wall time of the tasks")
    title = f"Preprocessing with {name}: {timings[0].samples} windows, {cores()} cores"
    print_table(title, "s", series, [share if encoder.kind == "tiny" else Target(share, SHARE_OF_IDEAL)], [note])
