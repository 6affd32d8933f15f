"""On paper: what a node of GPUs asks of storage, and when a cache of targets is worth its bytes.

Bytes are those of written shards, FLOPs those that PyTorch counts for the real step. A GPU's speed is assumed: the peak
on the data sheet times a utilisation. Every line shows its formula. Encoding in the step would also have to read and
decode raw video; that work of the CPU is not counted.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from jobs.training.estimate import VITL_ENCODER
from model.estimate import estimate_step
from model.settings import BackboneSettings, ModelSettings
from pipeline.format.encoder_settings import encoder_flops
from pipeline.format.file_names import inputs_file, targets_file
from pipeline.format.input_sample import InputSample
from pipeline.format.schema import SCHEMA_VERSION
from pipeline.shards.inputs_tar import InputsWriter
from pipeline.shards.targets_arrow import TargetRows, TargetsWriter
from pipeline.storage.atomic import atomic_file
from tests.benchmarks.full_size_build import CHUNK, FINGERPRINT, SIZES, VIEWS, RandomSamples, write_full_size_build

SAMPLES = 64
"""Samples of the shards that are measured."""

PEAK, UTILISATION, GPUS = 312e12, 0.4, 8
"""A100: dense bfloat16 FLOP/s of its data sheet."""

BATCH, STEPS = 32, 50_000
"""Samples of each kind, robot and video, a GPU and step, as in `vlajepa estimate`; steps of the reference."""

CLIPS, EPISODES = 220_000, 76_000
"""SSv2 and DROID."""

WINDOWS = (1, 4, 16, 64)
"""Windows of a DROID episode."""

HOUR = 3600


@dataclass(frozen=True)
class Costs:
    """What everything else is computed from.

    robot, video  bytes of a sample
    step          FLOPs of a training step of BATCH robot and BATCH video samples on one GPU
    view          FLOPs to encode the targets of one view of one sample
    """

    robot: float
    video: float
    step: float
    view: float

    @property
    def speed(self) -> float:
        """FLOP/s of a GPU."""
        return PEAK * UTILISATION

    @property
    def step_seconds(self) -> float:
        return self.step / self.speed

    @property
    def step_bytes(self) -> float:
        return BATCH * (self.robot + self.video)

    @property
    def encode_seconds(self) -> float:
        """To encode the targets of a step's samples, on one GPU."""
        return BATCH * (SIZES.views + 1) * self.view / self.speed


def run(folder: Path, repeats: int) -> None:
    """Print the tables. Nothing is timed, so `repeats` changes nothing."""
    costs = measure(folder)
    print("\nStorage needs, on paper (bytes and FLOPs are counted, the speed of a GPU is assumed)")
    for title, rows in (
        ("assumed and measured", _basis(costs)),
        ("what training asks of storage", _needs(costs)),
        ("space, and encoding once", _space(costs)),
        ("encoding in every step instead", _online(costs)),
        ("break-even", _break_even(costs)),
    ):
        print(f"\n  {title}")
        for name, value, formula in rows:
            print(f"  {name:58} {value:>18}   {formula}")


def measure(folder: Path) -> Costs:
    """Bytes by writing a shard of each kind, FLOPs by counting them."""
    build = write_full_size_build(folder / "robot", 1, SAMPLES).path
    settings = ModelSettings(backbone=BackboneSettings(kind="random"))
    return Costs(
        robot=_bytes_of(build) / SAMPLES,
        video=_bytes_of(_write_video(folder / "video")) / SAMPLES,
        step=estimate_step(settings, SIZES, BATCH, ("robot", "video")).flops,
        view=encoder_flops({**VITL_ENCODER, "tokens": SIZES.tokens}, SIZES.steps),
    )


def _write_video(out: Path) -> Path:
    """A shard of human video: one view, no state, no actions."""
    source, sizes = RandomSamples(), replace(SIZES, views=1, state=0, chunk=0, action=0)
    with InputsWriter(atomic_file(out / inputs_file("train", 0)), VIEWS[:1]) as inputs:
        for index in range(SAMPLES):
            robot = source.inputs(index)
            content = {**json.loads(robot.json), "state": None, "views": VIEWS[:1]}
            text = (json.dumps(content, separators=(",", ":")) + "\n").encode()
            inputs.add(InputSample(robot.key, robot.images[:1], text))
    file = targets_file("train", 0)
    metadata = {"fingerprint": FINGERPRINT, "schema_version": str(SCHEMA_VERSION), "shard": file}
    with TargetsWriter(atomic_file(out / file), sizes, metadata) as targets:
        for start in range(0, SAMPLES, CHUNK):
            rows = source.rows(range(start, start + CHUNK))
            context, latents = rows.context[:, :1], rows.latents[:, :, :1]
            targets.add(TargetRows(rows.keys, context, latents, rows.latent_mask, None, None))
    return out


def _bytes_of(build: Path) -> int:
    return sum(path.stat().st_size for path in (build / "train").iterdir())


Row = tuple[str, str, str]
"""Name, value, formula."""


def _basis(costs: Costs) -> Sequence[Row]:
    return (
        ("b_r: a robot sample, 2 views", f"{costs.robot / 1e6:.3f} MB", f"both shard files / {SAMPLES} samples"),
        ("b_v: a human video sample, 1 view", f"{costs.video / 1e6:.3f} MB", f"both shard files / {SAMPLES} samples"),
        ("F: a training step on one GPU", f"{costs.step / 1e12:.1f} TFLOP", f"{BATCH} robot + {BATCH} video samples"),
        ("E: targets of one view of one sample", f"{costs.view / 1e12:.3f} TFLOP", "V-JEPA2 ViT-L on each prefix"),
        ("P: a GPU", f"{costs.speed / 1e12:.1f} TFLOP/s", f"{PEAK / 1e12:.0f} TFLOP/s x utilisation {UTILISATION}"),
    )


def _needs(costs: Costs) -> Sequence[Row]:
    rate, read = 2 * BATCH / costs.step_seconds, costs.step_bytes / costs.step_seconds
    return (
        ("t: a step", f"{costs.step_seconds:.3f} s", "F / P"),
        ("samples a second, a GPU", f"{rate:.1f} /s", f"2 x {BATCH} / t"),
        (f"samples a second, {GPUS} GPUs", f"{GPUS * rate:.1f} /s", f"{GPUS} x 2 x {BATCH} / t"),
        ("read by a GPU", f"{read / 1e9:.3f} GB/s", f"{BATCH} x (b_r + b_v) / t"),
        (f"read by {GPUS} GPUs", f"{GPUS * read / 1e9:.3f} GB/s", f"{GPUS} x {BATCH} x (b_r + b_v) / t"),
    )


def _space(costs: Costs) -> list[Row]:
    clips = CLIPS * costs.video
    rows = [
        ("SSv2, one window a clip", f"{clips / 2**40:.2f} TiB", f"{CLIPS:,} x b_v"),
        ("SSv2, encoded once", f"{_hours(costs, CLIPS):.2f} h", f"{CLIPS:,} x E / ({GPUS} P)"),
    ]
    for windows in WINDOWS:
        samples = EPISODES * windows
        both = clips + samples * costs.robot
        hours = _hours(costs, CLIPS + SIZES.views * samples)
        rows += [
            (
                f"with DROID, {windows} windows an episode",
                f"{both / 2**40:.2f} TiB",
                f"+ {EPISODES:,} x {windows} x b_r",
            ),
            ("  encoded once", f"{hours:.2f} h", f"+ {EPISODES:,} x {windows} x {SIZES.views} E / ({GPUS} P)"),
        ]
    return rows


def _hours(costs: Costs, views: int) -> float:
    """On all GPUs, to encode so many views of windows."""
    return views * costs.view / (GPUS * costs.speed) / HOUR


def _online(costs: Costs) -> Sequence[Row]:
    hours = STEPS * costs.encode_seconds / HOUR
    ratio = (costs.step_seconds + costs.encode_seconds) / costs.step_seconds
    return (
        ("e: encoding a step's samples", f"{costs.encode_seconds:.3f} s", f"{BATCH} x ({SIZES.views} + 1) x E / P"),
        (f"training, {STEPS:,} steps", f"{STEPS * costs.step_seconds / HOUR:.1f} h", f"{STEPS:,} x t"),
        (f"encoding on top, {STEPS:,} steps", f"{hours:.1f} h", f"{STEPS:,} x e"),
        ("step with encoding / step from the cache", f"{ratio:.2f} x", "(t + e) / t"),
    )


def _break_even(costs: Costs) -> list[Row]:
    read, count = STEPS * GPUS * BATCH, f"{STEPS:,} x {GPUS} x {BATCH}"
    bytes_read, t, e = costs.step_bytes, costs.step_seconds, costs.encode_seconds
    rows = [
        ("reads a sample, from which the cache costs less GPU time", "more than 1", "r E > E, of samples ever read"),
        (f"reads of an SSv2 sample in {STEPS:,} steps", f"{read / CLIPS:.1f}", f"{count} / {CLIPS:,}"),
    ]
    for windows in WINDOWS:
        name, value = f"reads of a DROID sample, {windows} windows an episode", read / (EPISODES * windows)
        rows.append((name, f"{value:.1f}", f"{count} / ({EPISODES:,} x {windows})"))
    name, value = "windows a DROID episode, beyond which encoding online wins", read / EPISODES
    rows.append((name, f"{value:.0f}", f"{count} / {EPISODES:,}: one read a sample"))
    for name, seconds, formula in (
        ("a GPU's storage, from which reading hides behind a step", t, "t"),
        ("a GPU's storage, below which the cache is slower", t + e, "(t + e), reading ahead"),
        ("  the same, were nothing read ahead", e, "e"),
    ):
        rows.append((name, f"{bytes_read / seconds / 1e9:.3f} GB/s", f"{BATCH} x (b_r + b_v) / {formula}"))
    node = GPUS * bytes_read / (t + e)
    rows.append(
        (f"  reading ahead, {GPUS} GPUs", f"{node / 1e9:.3f} GB/s", f"{GPUS} x {BATCH} x (b_r + b_v) / (t + e)")
    )
    return rows
