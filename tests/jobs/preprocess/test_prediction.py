"""The prediction of `vlajepa plan`: printed, stored beside the build, no part of it, and put beside a measurement."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from jobs.cli import main
from jobs.preprocess.plan import describe, prepare
from jobs.preprocess.prediction import PREDICTION_FILE, Timing, compare, read_prediction, write_prediction
from jobs.preprocess.settings import BuildConfig
from pipeline.planning.cost import Estimate
from pipeline.planning.prediction import Hardware, StageTimes, predict
from pipeline.storage.store import open_store
from tests.conftest import SampleData
from tests.jobs.composed import compose_settings
from tests.jobs.runs import build_config, robot_source, ssv2_source

CPU = Hardware(gpus=0, cores=2, startup_s=11.0)
ESTIMATE = Estimate(
    episodes=10,
    windows=1000,
    shards=4,
    input_bytes=2_000_000,
    target_bytes=10_000_000,
    flops=1.6e12,
    exact=False,
    tubelets=0,
)
TIMES = StageTimes(0.02, 0.06, 4, 9)


@pytest.mark.parametrize(
    ("words", "gpus", "cores"),
    [
        ([], 0, len(os.sched_getaffinity(0))),
        (["cluster=gpu"], 8, 96),
        (["hardware=h100x8"], 8, 192),
        (["cluster=gpu", "hardware=local", "hardware.cores=7"], 0, 7),
    ],
)
def test_the_time_is_that_of_where_encoders_run_unless_something_else_is_said(
    words: list[str], gpus: int, cores: int, tmp_path: Path
) -> None:
    config = compose_settings("preprocess", BuildConfig, ["source=videos", f"source.root={tmp_path}", "out=/b", *words])
    assert (config.hardware.gpus, config.hardware.cores) == (gpus, cores)


@pytest.mark.slow
def test_plan_prints_and_stores_the_prediction(
    sample_data: SampleData, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["plan", f"source.root={sample_data.ssv2}", "encoder=tiny", "window.interval=2", f"out={tmp_path}/build"]
    main(words)
    out = capsys.readouterr().out
    for part in (
        f"{len(os.sched_getaffinity(0))} cores that decode, and encode at 80 GFLOP/s each",
        "ms a window",
        "bottleneck",
        ", 11 s of it to start",
        " of one core",
    ):
        assert part in out
    main([*words, "hardware=a100x8"])
    out = capsys.readouterr().out
    assert "8 GPUs at 40% (assumed) of 19.5 TFLOP/s" in out
    assert " of one GPU" in out
    main([*words, "hardware=local", "hardware.cores=4"])
    out = capsys.readouterr().out
    assert "4 cores that decode, and encode at 80 GFLOP/s each" in out
    prediction = read_prediction(open_store(tmp_path / "build"))
    assert prediction is not None
    assert prediction.hardware.cores == 4
    assert prediction.times is not None
    assert prediction.times.inputs_s > 0


@pytest.mark.slow
def test_hardware_changes_no_byte_of_the_plan(sample_data: SampleData, tmp_path: Path) -> None:
    hashes = set()
    for name, hardware in (("a", Hardware()), ("b", replace(CPU, cores=64)), ("c", replace(CPU, flops=1e12))):
        config = build_config(tmp_path / name, robot_source(sample_data.lerobot), hardware=hardware)
        plan = prepare(config).plan
        files = [(tmp_path / name / file).read_bytes() for file in ("plan.json", "tasks.jsonl")]
        assert b"hardware" not in files[0]
        hashes.add((plan.fingerprint, *(hashlib.sha256(file).hexdigest() for file in files)))
    assert len(hashes) == 1


def test_another_cluster_is_predicted_from_the_times_that_are_there(sample_data: SampleData, tmp_path: Path) -> None:
    config = build_config(tmp_path / "out", ssv2_source(sample_data.ssv2))
    first = prepare(config)
    store = open_store(config.out)
    assert first.prediction == read_prediction(store)
    again = prepare(replace(config, hardware=CPU))
    assert again.found
    assert again.prediction.hardware == CPU
    assert again.prediction.times == first.prediction.times
    assert again.prediction == read_prediction(store)
    assert prepare(replace(config, hardware=CPU)).prediction == again.prediction


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b'{"hardware": {"gpus": -1}, "times": null}'])
def test_an_unreadable_prediction_is_made_again(content: bytes, sample_data: SampleData, tmp_path: Path) -> None:
    config = build_config(tmp_path / "out", ssv2_source(sample_data.ssv2))
    prepare(config)
    path = tmp_path / "out" / PREDICTION_FILE
    path.write_bytes(content)
    assert read_prediction(open_store(config.out)) is None
    assert prepare(config).prediction == read_prediction(open_store(config.out))


def test_a_prediction_without_decoding_says_so(sample_data: SampleData, tmp_path: Path) -> None:
    plan = prepare(build_config(tmp_path / "out", ssv2_source(sample_data.ssv2))).plan
    prediction = predict(ESTIMATE, 10, None, CPU)
    store = open_store(tmp_path / "other")
    write_prediction(prediction, store)
    assert read_prediction(store) == prediction
    assert json.loads((tmp_path / "other" / PREDICTION_FILE).read_bytes())["times"] is None
    assert "unknown, and not in the total: no episode could be measured" in describe(plan, "out", prediction)


def test_prediction_and_measurement_side_by_side() -> None:
    prediction = predict(ESTIMATE, 10, TIMES, CPU)
    assert prediction.wall_s == pytest.approx(11 + 40 + 10)  # 80 s of decoding and 20 s of encoding on 2 cores
    timing = Timing(11, 111, decode_cpu_s=60, encode_cpu_s=15, encode_s=20, samples=990, bytes=12_000_000)
    lines = compare(prediction, timing)
    found = {line[:12].strip(): line.split()[-2:] for line in lines[1:-1]}
    ratios = {line[:12].strip(): float(line[12:].split()[2]) for line in lines[1:-1]}
    assert ratios == {"wall time": 2.0, "decoding": 0.75, "encoding": 1.0, "written": 1.0, "windows": 0.99}
    assert found["encoding"] == ["processor", "s"]
    assert "2 cores" in lines[-1]
    unknown = compare(predict(ESTIMATE, 10, None, CPU), timing)
    assert "not measured" in unknown[2]
    assert unknown[2].split()[-3:] == ["-", "processor", "s"]


@pytest.mark.parametrize(
    ("word", "parts"),
    [
        ("hardware.cores=0", ["cores must be at least 1, got 0", "processors of all nodes together"]),
        ("hardware.utilisation=40", ["at most 1, got 40", "0.4 for 40 %"]),
        ("hardware.flops=fast", ["hardware.flops='fast'", "dense bfloat16"]),
        ("hardware=h100", ["there are a100x8, gpu, h100x8, h200x8, local"]),
        ("hardware.gpu=8", ["plan has no setting 'hardware.gpu'; did you mean gpus?; hardware has gpus, flops"]),
    ],
)
def test_mistakes_are_explained(word: str, parts: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["plan", "out=/x", "source.root=/x", word])
    assert end.value.code == 2
    err = capsys.readouterr().err
    for part in parts:
        assert part in err, err
