"""On paper: what a node of GPUs asks of storage, and when a cache of targets is worth its bytes.

Bytes are those of written shards, FLOPs those that PyTorch counts for the real step. A GPU's speed is assumed: the peak
on the data sheet times a utilisation. Every line shows its formula. Encoding in the step would also have to read and
decode raw video; that work of the CPU is not counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from jobs.training.estimate import VITL_ENCODER
from model.estimate import estimate_step
from model.settings import ModelSettings
from tests.benchmarks.full_size_build import SIZES, VIDEO_SIZES, write_full_size_build
from tests.benchmarks.packing import FULL, small_settings

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


@dataclass(frozen=True)
class Scale:
    """Samples of the shards that are measured, and the model whose FLOPs are counted."""

    samples: int = 64
    model: ModelSettings = FULL


TINY = Scale(4, small_settings())


def run(folder: Path, repeats: int, scale: Scale) -> None:
    """Print the tables. Nothing is timed, so `repeats` changes nothing."""
    costs = measure(folder, scale)
    print("\nStorage needs, on paper (bytes and FLOPs are counted, the speed of a GPU is assumed)")
    for title, rows in (
        ("assumed and measured", _basis(costs, scale.samples)),
        ("what training asks of storage", _needs(costs)),
        ("space, and encoding once", _space(costs)),
        ("encoding in every step instead", _online(costs)),
        ("break-even", _break_even(costs)),
    ):
        print(f"\n  {title}")
        for name, value, formula in rows:
            print(f"  {name:58} {value:>18}   {formula}")


def measure(folder: Path, scale: Scale) -> Costs:
    """Bytes by writing a shard of each kind, FLOPs by counting them."""
    robot, video = (
        _bytes_of(write_full_size_build(folder / name, 1, scale.samples, sizes).path) / scale.samples
        for name, sizes in (("robot", SIZES), ("video", VIDEO_SIZES))
    )
    return Costs(
        robot,
        video,
        step=estimate_step(scale.model, SIZES, BATCH, ("robot", "video")).flops,
        view=replace(VITL_ENCODER, tokens=SIZES.tokens).flops(SIZES.steps),
    )


def _bytes_of(build: Path) -> int:
    return sum(path.stat().st_size for path in (build / "train").iterdir())


Row = tuple[str, str, str]
"""Name, value, formula."""


def _basis(costs: Costs, samples: int) -> Sequence[Row]:
    return (
        ("b_r: a robot sample, 2 views", f"{costs.robot / 1e6:.3f} MB", f"both shard files / {samples} samples"),
        ("b_v: a human video sample, 1 view", f"{costs.video / 1e6:.3f} MB", f"both shard files / {samples} samples"),
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
