"""The prediction of a plan for people, on disk, and compared with the measured times of a run.

It is in the build's logs/, which are no part of its identity: the same plan on another cluster is the same build.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from jobs.common.text import duration_text, size_text
from pipeline.errors import RunError
from pipeline.format.enums import FloatDtype
from pipeline.format.json.strict_json import parse
from pipeline.format.json.typed_json import from_json
from pipeline.planning.hardware import Hardware
from pipeline.planning.plan import Plan
from pipeline.planning.prediction import Prediction, count_raw_bytes, measure_stages, predict
from pipeline.sources.base import Source
from pipeline.storage.store import Store

PREDICTION_FILE = "logs/prediction.json"


@dataclass(frozen=True)
class Timing:
    """Where the time of one run went.

    ray_startup_s  until Ray answers and the first encoder is loaded
    shards_s       wall time of the tasks
    decode_cpu_s   processor time of decoding, resizing and JPEG, over all workers;  inputs_cpu_s  the inputs jobs' part
    encode_cpu_s   of the threads that drive the encoder; all of it on the CPU with cpu_threads=1
    encode_s       wall time that encoders were busy, over all of them
    samples, bytes  written by this run
    """

    ray_startup_s: float
    shards_s: float
    decode_cpu_s: float
    encode_cpu_s: float
    encode_s: float
    samples: int
    bytes: int
    inputs_cpu_s: float = 0.0


def stored_prediction(plan: Plan, source: Source, hardware: Hardware, store: Store, again: bool) -> Prediction:
    """The prediction of a plan for a cluster, which is then also in the build's logs; `again`: measure the stages even
    if the logs hold their times, which serve for other hardware, too."""
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
        return from_json(Prediction, parse(store.read(PREDICTION_FILE)))
    except (FileNotFoundError, ValueError, RunError):
        return None


def describe_prediction(prediction: Prediction) -> list[tuple[str, str]]:
    """Rows of a table: a name, and what it is."""
    p, hardware = prediction, prediction.hardware
    about = "" if p.exact else "about "
    raw, start = size_text(p.raw_bytes), duration_text(hardware.startup_s)
    devices = (f"{_spent(p.gpu_hours, 'GPU')}, " if hardware.gpus else "") + _spent(p.core_hours, "core")
    return [
        ("hardware", _hardware(p)),
        ("read", f"{duration_text(p.read_s)}: raw files of {raw}, twice, at {hardware.read_mb_s:g} MB/s"),
        ("decode", _decoding(p, about)),
        ("encode", f"{about}{duration_text(p.encode_s)}: {p.flops:.3g} FLOPs in {p.dtype}"),
        ("write", f"{about}{duration_text(p.write_s)}: {size_text(p.bytes)} at {hardware.write_mb_s:g} MB/s"),
        ("bottleneck", p.bottleneck),
        ("total", f"{about}{duration_text(p.wall_s)}, {start} of it to start; {devices}"),
    ]


def _spent(hours: float, device: str) -> str:
    """Hours of a kind of device; what is below one as seconds or minutes."""
    return f"{_number(hours)} {device} hours" if hours >= 1 else f"{duration_text(3600 * hours)} of one {device}"


def compare(prediction: Prediction, timing: Timing) -> list[str]:
    """Lines that compare a prediction with a run, with the ratio of measured to predicted."""
    p, t = prediction, timing
    rows: list[tuple[str, float | None, float, str]] = [
        ("wall time", p.wall_s, t.ray_startup_s + t.shards_s, "s"),
        ("decoding", p.decode_cpu_s, t.decode_cpu_s, "processor s"),
        ("encoding", p.encode_device_s, t.encode_s, "GPU s" if p.hardware.gpus else "processor s"),
        ("written", float(p.bytes), float(t.bytes), "bytes"),
        ("windows", float(p.windows), float(t.samples), ""),
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
    share = f"{h.utilisation:.0%} ({h.encoder_basis(p.dtype)})"
    return f"{h.gpus} GPUs at {share} of {peak / 1e12:g} TFLOP/s, {h.cores} cores"


def _decoding(p: Prediction, about: str) -> str:
    if p.times is None or p.decode_s is None:
        return "unknown, and not in the total: no episode could be measured"
    t = p.times
    return (
        f"{about}{duration_text(p.decode_s)}: inputs {t.inputs_s * 1e3:.3g}, targets {t.targets_s * 1e3:.3g} ms a "
        f"window, measured here on {t.windows:,} windows of {t.episodes} episodes"
    )


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
