"""The prediction of a plan for people, on disk, and beside what a run then took.

It lies in the build's logs/, which are no part of its identity: the same plan on another cluster is the same build.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from jobs.common.text import duration_text, size_text
from pipeline.format.enums import FloatDtype
from pipeline.planning.hardware import Hardware
from pipeline.planning.plan import Plan
from pipeline.planning.prediction import Prediction, StageTimes, count_raw_bytes, measure_stages, predict
from pipeline.sources.base import Source
from pipeline.storage.store import Store

PREDICTION_FILE = "logs/prediction.json"


@dataclass(frozen=True)
class Measured:
    """What a run took.

    wall_s        from its start to the last shard, Ray's start included
    decode_cpu_s  processor seconds of inputs, decoding and resizing, over all workers
    encode_s      seconds that the encoders worked, over all of them
    bytes         of the shards it wrote
    windows       it made
    """

    wall_s: float
    decode_cpu_s: float
    encode_s: float
    bytes: int
    windows: int

    def __post_init__(self) -> None:
        for name in ("wall_s", "decode_cpu_s", "encode_s", "bytes", "windows"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must be at least 0, got {getattr(self, name)}; give what the run's log says")


def stored_prediction(plan: Plan, source: Source, hardware: Hardware, store: Store, again: bool) -> Prediction:
    """The prediction of a plan for a cluster, as it then stands in the build's logs.

    Args:
        again: measure the stages even if the logs hold their times. Without it, another `hardware` than that of the
            stored prediction is predicted from the times stored there.
    """
    before = None if again else read_prediction(store)
    if before is not None and before.hardware == hardware:
        return before
    times = measure_stages(source, plan.tasks, plan.recipe()) if before is None else before.times
    made = predict(plan.estimate, count_raw_bytes(plan.tasks), times, hardware, plan.settings.encoder.dtype)
    write_prediction(made, store)
    return made


def write_prediction(prediction: Prediction, store: Store) -> None:
    """Write logs/prediction.json; an older one is replaced."""
    store.write(PREDICTION_FILE, (json.dumps(asdict(prediction), indent=2) + "\n").encode())


def read_prediction(store: Store) -> Prediction | None:
    """The stored prediction; None if there is none, or one that this version cannot read."""
    try:
        content = json.loads(store.read(PREDICTION_FILE))
        hardware = Hardware(**content.pop("hardware"))
        times = content.pop("times")
        dtype = FloatDtype(content.pop("dtype"))
        return Prediction(
            hardware=hardware, dtype=dtype, times=None if times is None else StageTimes(**times), **content
        )
    except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError):
        return None


def describe_prediction(prediction: Prediction) -> list[tuple[str, str]]:
    """Rows of a table: a name, and what it is."""
    p, hardware = prediction, prediction.hardware
    about = "" if p.exact else "about "
    raw, start = size_text(p.raw_bytes), duration_text(hardware.startup_s)
    return [
        ("hardware", _hardware(p)),
        ("read", f"{duration_text(p.read_s)}: raw files of {raw}, twice, at {hardware.read_mb_s:g} MB/s"),
        ("decode", _decoding(p, about)),
        ("encode", f"{about}{duration_text(p.encode_s)}: {p.flops:.3g} FLOPs in {p.dtype}"),
        ("write", f"{about}{duration_text(p.write_s)}: {size_text(p.bytes)} at {hardware.write_mb_s:g} MB/s"),
        ("bottleneck", p.bottleneck),
        ("total", f"{about}{_number(p.wall_s / 3600)} hours, {start} of it to start; {_devices(p)}"),
    ]


def beside(prediction: Prediction, measured: Measured) -> list[str]:
    """Lines that put a prediction beside what a run took, with the ratio of measured to predicted."""
    p, m = prediction, measured
    rows: list[tuple[str, float | None, float, str]] = [
        ("wall time", p.wall_s, m.wall_s, "s"),
        ("decoding", p.decode_cpu_s, m.decode_cpu_s, "processor s"),
        ("encoding", p.encode_device_s, m.encode_s, "GPU s" if p.hardware.gpus else "processor s"),
        ("written", float(p.bytes), float(m.bytes), "bytes"),
        ("windows", float(p.windows), float(m.windows), ""),
    ]
    lines = [f"{'':12} {'predicted':>18} {'measured':>18} {'ratio':>8}"]
    for name, predicted, found, unit in rows:
        ratio = "-" if not predicted else f"{found / predicted:.2f}"
        shown = "not measured" if predicted is None else _number(predicted)
        lines.append(f"{name:12} {shown:>18} {_number(found):>18} {ratio:>8}  {unit}".rstrip())
    return [*lines, f"predicted for {_hardware(p)}"]


def _hardware(p: Prediction) -> str:
    h = p.hardware
    if not h.gpus:
        return f"{h.cores} cores that decode, and encode at {h.core_flops / 1e9:g} GFLOP/s each"
    peak = h.float32_flops if p.dtype == FloatDtype.FLOAT32 else h.flops
    return f"{h.gpus} GPUs at {h.utilisation:.0%} of {peak / 1e12:g} TFLOP/s, {h.cores} cores"


def _decoding(p: Prediction, about: str) -> str:
    if p.times is None or p.decode_s is None:
        return "unknown, and not in the total: no episode could be measured"
    t = p.times
    return (
        f"{about}{duration_text(p.decode_s)}: inputs {t.inputs_s * 1e3:.3g}, targets {t.targets_s * 1e3:.3g} ms a "
        f"window, measured here on {t.windows:,} of {t.episodes} episodes"
    )


def _devices(p: Prediction) -> str:
    cores = f"{_number(p.core_hours)} core hours"
    return f"{_number(p.gpu_hours)} GPU hours, {cores}" if p.hardware.gpus else cores


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
