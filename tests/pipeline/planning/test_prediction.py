"""Predicted time and cost: the arithmetic by hand, what the others wait for, and what is measured."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest

from pipeline.encoder.encoder_frames import FrameSettings
from pipeline.errors import EpisodeError
from pipeline.format.build_settings import InputSettings, WindowPolicy
from pipeline.format.enums import EncoderMode, FloatDtype
from pipeline.format.episode import Episode
from pipeline.format.schema import Sizes
from pipeline.planning.cost import Estimate
from pipeline.planning.plan import ShardTask
from pipeline.planning.prediction import Hardware, StageTimes, count_raw_bytes, measure_stages, predict
from pipeline.planning.recipe import Recipe
from pipeline.sources.base import EpisodeRef, SourceIndex
from tests.pipeline.fake_episode import FakeEpisode

ESTIMATE = Estimate(
    episodes=10,
    windows=1000,
    shards=4,
    input_bytes=2_000_000_000,
    target_bytes=10_000_000_000,
    flops=1e15,
    exact=True,
    tubelets=0,
)
TIMES = StageTimes(inputs_s=0.3, targets_s=0.5, episodes=4, windows=9)
CLUSTER = Hardware(
    gpus=2,
    flops=1e14,
    float32_flops=1e13,
    utilisation=0.5,
    cores=4,
    core_flops=1e11,
    read_mb_s=100,
    write_mb_s=200,
    startup_s=40,
)
RAW_BYTES = 3_000_000_000


def test_the_arithmetic_of_a_cluster_with_gpus() -> None:
    p = predict(ESTIMATE, RAW_BYTES, TIMES, CLUSTER)
    assert p.read_s == pytest.approx(60)  # twice 3 GB at 0.1 GB/s
    assert p.decode_s == pytest.approx(200)  # 1000 x 0.8 s on 4 cores
    assert p.encode_s == pytest.approx(10)  # 1e15 at 2 x 0.5 x 1e14
    assert p.write_s == pytest.approx(60)  # 12 GB at 0.2 GB/s
    assert p.bottleneck == "decode"
    assert p.wall_s == pytest.approx(240)
    assert p.gpu_hours == pytest.approx(2 * 240 / 3600)
    assert p.core_hours == pytest.approx(4 * 240 / 3600)
    assert (p.decode_cpu_s, p.encode_device_s) == (pytest.approx(800), pytest.approx(20))
    assert (p.windows, p.bytes, p.flops, p.exact) == (1000, 12_000_000_000, 1e15, True)


def test_without_gpus_decoding_and_encoding_share_the_cores() -> None:
    p = predict(ESTIMATE, RAW_BYTES, TIMES, replace(CLUSTER, gpus=0))
    assert p.encode_s == pytest.approx(2500)  # 1e15 at 4 x 1e11
    assert p.bottleneck == "encode"
    assert p.wall_s == pytest.approx(40 + 2500 + 200)
    assert p.gpu_hours == 0
    assert p.encode_device_s == pytest.approx(10_000)


def test_each_type_of_number_has_its_peak() -> None:
    assert predict(ESTIMATE, RAW_BYTES, TIMES, CLUSTER, "float32").encode_s == pytest.approx(100)
    assert predict(ESTIMATE, RAW_BYTES, TIMES, CLUSTER, "float16").encode_s == pytest.approx(10)


@pytest.mark.parametrize(
    ("change", "bottleneck", "stage"),
    [
        ({"cores": 40}, "read", 60),
        ({"cores": 40, "read_mb_s": 1000}, "write", 60),
        ({"cores": 40, "read_mb_s": 1000, "write_mb_s": 1000}, "decode", 20),
        ({"cores": 400, "read_mb_s": 1000, "write_mb_s": 2000}, "encode", 10),
        ({"read_mb_s": 1}, "read", 6000),
        ({"gpus": 0, "core_flops": 1e15, "write_mb_s": 60}, "decode", 200.25),
        ({"gpus": 0, "core_flops": 1e15, "write_mb_s": 40}, "write", 300),
    ],
)
def test_the_bottleneck_changes_with_a_number(change: dict[str, Any], bottleneck: str, stage: float) -> None:
    p = predict(ESTIMATE, RAW_BYTES, TIMES, replace(CLUSTER, **change))
    assert p.bottleneck == bottleneck
    assert p.wall_s == pytest.approx(40 + stage)


def test_what_is_unknown_is_said_to_be() -> None:
    p = predict(ESTIMATE, RAW_BYTES, None, CLUSTER)
    assert p.times is p.decode_s is p.decode_cpu_s is None
    assert p.wall_s == pytest.approx(100)  # the longest of those that are known


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"gpus": -1}, "gpus must be at least 0, got -1: GPUs that encode; 0: the encoders share the cores"),
        ({"cores": 0}, "cores must be at least 1, got 0: processors of all nodes together"),
        ({"utilisation": 0.0}, "utilisation must be above 0 and at most 1, got 0.0: share of the peak"),
        ({"utilisation": 40}, "utilisation must be above 0 and at most 1, got 40"),
        ({"flops": 0}, "flops must be above 0 FLOP/s, got 0: dense bfloat16"),
        ({"float32_flops": -1}, "float32_flops must be above 0 FLOP/s, got -1"),
        ({"core_flops": float("nan")}, "core_flops must be above 0 FLOP/s, got nan"),
        ({"read_mb_s": 0}, "read_mb_s must be above 0 MB/s, got 0"),
        ({"write_mb_s": 0}, "write_mb_s must be above 0 MB/s, got 0"),
        ({"startup_s": -1}, "startup_s must be at least 0 seconds, got -1"),
    ],
)
def test_wrong_values_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        Hardware(**change)


def test_wrong_times_are_refused() -> None:
    with pytest.raises(ValueError, match="targets_s must be at least 0, got -1; give seconds a window"):
        StageTimes(0.1, -1, 1, 1)


@dataclass(frozen=True)
class FakeSource:
    """Episodes "0", "1", … of so many frames each, 0 for one that cannot be read; it lists those it opened."""

    lengths: tuple[int, ...]
    opened: list[int]

    def index(self) -> SourceIndex:
        raise NotImplementedError

    def open(self, ref: EpisodeRef) -> Episode:
        self.opened.append(int(ref.id))
        if not self.lengths[int(ref.id)]:
            raise EpisodeError("undecodable", ref.id)
        return FakeEpisode(self.lengths[int(ref.id)])


def _tasks(count: int) -> tuple[ShardTask, ...]:
    refs = [EpisodeRef(str(i), "train", ((f"{i}.mp4", 10), ("all.json", 7)), None) for i in range(count)]
    return tuple(ShardTask("train", i, ((ref,),)) for i, ref in enumerate(refs))


def _measure(lengths: Sequence[int], episodes: int = 4) -> tuple[StageTimes | None, list[int]]:
    sizes = Sizes(views=2, image_size=32, steps=1, tokens=4, width=8, state=2, chunk=2, action=1)
    recipe = Recipe(
        "0",
        "s",
        ("front", "wrist"),
        sizes,
        WindowPolicy(steps=1, chunk=2),
        InputSettings(image_size=32),
        FrameSettings(32),
        EncoderMode.PREFIX,
        8,
    )
    source = FakeSource(tuple(lengths), [])
    return measure_stages(source, _tasks(len(lengths)), recipe, episodes), source.opened


def test_a_shared_file_counts_once() -> None:
    assert count_raw_bytes(_tasks(5)) == 5 * 10 + 7


def test_both_jobs_are_measured_on_episodes_spread_over_the_plan() -> None:
    times, opened = _measure([12] * 1000)
    assert times is not None
    assert (times.episodes, times.windows) == (4, 4 * 10)
    assert times.inputs_s > 0
    assert times.targets_s > 0
    assert all(any(250 * part <= i < 250 * (part + 1) for i in opened) for part in range(4))


def test_episodes_that_fail_are_passed_over() -> None:
    times, _ = _measure([0, 12, 0, 12, 2, 12])  # 2 frames give no window
    assert times is not None
    assert (times.episodes, times.windows) == (3, 3 * 10)
    assert _measure([0, 0, 0])[0] is None
    assert _measure([2, 2])[0] is None
    assert _measure([])[0] is None


def test_of_a_long_episode_the_first_windows_are_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.planning.prediction.MEASURED_WINDOWS", 7)
    times, _ = _measure([12], episodes=1)
    assert times is not None
    assert times.windows == 7


def test_a_share_of_the_peak_that_was_measured_is_told_from_one_that_is_assumed() -> None:
    h200 = Hardware(flops=989e12, utilisation=0.43, step_utilisation=0.34)
    assert h200.encoder_basis(FloatDtype.BFLOAT16) == h200.step_basis == "measured on an H200"
    assert h200.encoder_basis(FloatDtype.FLOAT32) == "assumed"
    other = replace(h200, utilisation=0.5, step_utilisation=0.5)
    for hardware in (Hardware(), other):
        assert (hardware.encoder_basis(FloatDtype.BFLOAT16), hardware.step_basis) == ("assumed", "assumed")


def test_a_step_is_predicted_for_one_gpu_or_all_cores() -> None:
    assert replace(CLUSTER, step_utilisation=0.25).step_flops == 0.25 * 1e14
    assert replace(CLUSTER, gpus=0).step_flops == 4 * 1e11
