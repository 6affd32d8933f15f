"""The audit at scale: ten million samples at level "manifest", and bytes a second at level "shards"."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.storage.atomic import hash_file
from tests.benchmarks.full_size_build import FINGERPRINT, SIZES, write_full_size_build
from tests.benchmarks.large_manifest import write_manifest
from tests.benchmarks.report import Series, Target, interleaved

SAMPLES = 10_000_000
MAX_SECONDS, MAX_GIB = 60, 2
SHARDS, SHARD_SAMPLES = 4, 128

AUDIT = """
import json, resource, sys, time
from pipeline.audit.levels.run import audit_build
started = time.monotonic()
verdict = audit_build(sys.argv[1], sys.argv[2])
seconds = time.monotonic() - started
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
checked = sum(count.checked for count in verdict.rules.values())
print(json.dumps([seconds, peak, len(verdict.findings), checked]))
"""
"""In a process of its own: the peak of memory is that of the audit."""


def run(folder: Path, repeats: int) -> None:
    _measure_shards(folder, repeats)
    _measure_manifest(folder, repeats)


def _measure_manifest(folder: Path, repeats: int) -> None:
    build = write_manifest(folder / "manifest", SAMPLES)
    size = (build / "samples.parquet").stat().st_size / 2**30
    print(f"\naudit, level manifest: {SAMPLES:,} samples, samples.parquet of {size:.2f} GiB")
    runs = [_audit(build, "manifest") for _ in range(repeats)]
    assert all(findings == 0 for _, _, findings, _ in runs), "the generated manifest is not clean"
    seconds = Series("seconds", tuple(run[0] for run in runs))
    memory = Series("peak memory of the process", tuple(run[1] for run in runs))
    print(Target(seconds, MAX_SECONDS, at_most=True).row())
    print(Target(memory, MAX_GIB, at_most=True).row())
    print(Series("samples a second", tuple(SAMPLES / run[0] for run in runs)).row("1/s"))


def _measure_shards(folder: Path, repeats: int) -> None:
    build = write_full_size_build(folder / "shards", SHARDS, SHARD_SAMPLES).path
    _complete(build)
    files = sorted(str(path) for path in build.rglob("*-0*") if path.is_file())
    size = sum(Path(path).stat().st_size for path in files) / 1e9
    print(f"\naudit, level shards: {size:.2f} GB in {len(files)} files, in the page cache")
    found = interleaved(
        {
            "audit": lambda: size / _audit(build, "shards")[0],
            "sha256sum, one process": _timed(["sha256sum", *files], size),
            "sha256sum, two processes": _timed(["xargs", "-P", "2", "-n", "1", "sha256sum"], size, files),
        },
        repeats,
    )
    for series in found.values():
        print(series.row("GB/s"))
    for name in ("sha256sum, one process", "sha256sum, two processes"):
        print(found["audit"].over(found[name], f"audit over {name}").row(""))


def _complete(build: Path) -> None:
    """What the audit wants beside the shards. Fingerprint and statistics are made up, and so are found: no other."""
    table = pq.read_table(build / "samples.parquet")
    now = np.arange(table.num_rows, dtype=np.int32)
    last = now[:, None] + 2 * np.arange(SIZES.steps + 1, dtype=np.int32)
    support = np.stack([np.maximum(0, last - 1), last], axis=2)
    inner = pa.ListArray.from_arrays(np.arange(0, support.size + 1, 2, dtype=np.int32), pa.array(support.reshape(-1)))
    episodes = [key[:-7] for key in table.column("key").to_pylist()]
    values = {
        "source": pa.repeat(FINGERPRINT, len(now)), "episode": pa.array(episodes), "now": now, "state_frame": now,
        "action_start": now, "num_frames": now + 20, "interval": np.ones_like(now),
        "action_count": np.full_like(now, SIZES.chunk),
        "supports": pa.FixedSizeListArray.from_arrays(inner, SIZES.steps + 1), "now_s": now / 30,
        "support_end_s": pa.FixedSizeListArray.from_arrays(pa.array((last / 30).reshape(-1)), SIZES.steps + 1),
    }  # fmt: skip
    for name, column in values.items():
        at = table.schema.get_field_index(name)
        table = table.set_column(at, table.schema.field(at), pa.array(column).cast(table.schema.field(at).type))
    pq.write_table(table, build / "samples.parquet")
    per_shard = [episodes[i * SHARD_SAMPLES : (i + 1) * SHARD_SAMPLES] for i in range(SHARDS)]
    lines = [
        {"split": "train", "index": i, "episodes": [{"id": e, "split": "train", "data": {}} for e in own]}
        for i, own in enumerate(per_shard)
    ]
    (build / "tasks.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    for name in ("stats.json", "ledger.jsonl", "plan.json"):
        (build / name).write_text("")
    window = {"steps": SIZES.steps, "interval": 1, "chunk": SIZES.chunk, "end": "drop"}
    document = json.loads((build / "build.json").read_text())
    files = ("samples.parquet", "stats.json", "ledger.jsonl", "plan.json", "tasks.jsonl")
    document |= {
        "leaky": False,
        "settings": {"window": window, "encoder": {"mode": "prefix"}},
        "files": {name: {"bytes": (build / name).stat().st_size, "sha256": hash_file(build / name)} for name in files},
    }
    (build / "build.json").write_text(json.dumps(document))


def _audit(build: Path, level: str) -> tuple[float, float, int, int]:
    command = [sys.executable, "-c", AUDIT, str(build), level]
    seconds, peak, findings, checked = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    return seconds, peak, findings, checked


def _timed(command: Sequence[str], size: float, lines: Sequence[str] = ()) -> Callable[[], float]:
    def measure() -> float:
        started = time.monotonic()
        subprocess.run(command, input="\n".join(lines), text=True, check=True, stdout=subprocess.DEVNULL)
        return size / (time.monotonic() - started)

    return measure
