"""The audit at scale: ten million samples at level "manifest", and bytes a second at level "shards"."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks.full_size_build import write_full_size_build
from tests.benchmarks.large_manifest import write_manifest
from tests.benchmarks.report import Series, Target, interleaved, print_table, seconds_of

MAX_SECONDS, MAX_GIB = 60, 2


@dataclass(frozen=True)
class Scale:
    """Samples of the manifest; the build whose shards are read."""

    samples: int = 10_000_000
    shards: int = 4
    shard_samples: int = 128


TINY = Scale(samples=10_000, shards=2, shard_samples=4)

AUDIT = """
import json, resource, sys, time
from pipeline.audit.levels.run import audit_build
started = time.monotonic()
verdict = audit_build(sys.argv[1], sys.argv[2])
seconds = time.monotonic() - started
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
print(json.dumps([seconds, peak, [f"{one.rule} {one.file} {one.detail}" for one in verdict.findings]]))
"""
"""In a process of its own: the peak of memory is that of the audit."""


def run(folder: Path, repeats: int, scale: Scale) -> None:
    _measure_shards(folder, repeats, scale)
    _measure_manifest(folder, repeats, scale.samples)


def _measure_manifest(folder: Path, repeats: int, samples: int) -> None:
    build = write_manifest(folder / "manifest", samples)
    size = (build / "samples.parquet").stat().st_size / 2**30
    runs = [_audit(build, "manifest") for _ in range(repeats)]
    seconds = Series("seconds", tuple(run[0] for run in runs))
    memory = Series("peak memory of the process, GiB", tuple(run[1] for run in runs))
    print_table(
        f"Audit, level manifest: {samples:,} samples, samples.parquet of {size:.2f} GiB",
        "samples/s",
        [Series("audit", tuple(samples / run[0] for run in runs))],
        [Target(seconds, MAX_SECONDS, at_most=True), Target(memory, MAX_GIB, at_most=True)],
    )


def _measure_shards(folder: Path, repeats: int, scale: Scale) -> None:
    build = write_full_size_build(folder / "shards", scale.shards, scale.shard_samples).path
    files = sorted(str(path) for path in build.rglob("*-0*") if path.is_file())
    size = sum(Path(path).stat().st_size for path in files) / 1e9
    found = interleaved(
        {
            "audit": lambda: size / _audit(build, "shards")[0],
            "sha256sum, one process": _rate(["sha256sum", *files], size),
            "sha256sum, two processes": _rate(["xargs", "-P", "2", "-n", "1", "sha256sum"], size, files),
        },
        repeats,
    )
    audit, *commands = found.values()
    print_table(
        f"Audit, level shards: {size:.2f} GB in {len(files)} files, in the page cache",
        "GB/s",
        [audit, *commands],
        [audit.over(command, f"audit over {command.name}") for command in commands],
    )


def _audit(build: Path, level: str) -> tuple[float, float]:
    """Seconds, and the process's peak of memory in GiB; the build must be clean."""
    command = [sys.executable, "-c", AUDIT, str(build), level]
    seconds, peak, findings = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    assert not findings, f"the generated build is not clean: {findings}"
    return seconds, peak


def _rate(command: Sequence[str], size: float, lines: Sequence[str] = ()) -> Callable[[], float]:
    """Size a second of a command that is handed some lines."""

    def work() -> None:
        subprocess.run(command, input="\n".join(lines), text=True, check=True, stdout=subprocess.DEVNULL)

    return lambda: size / seconds_of(work)
