"""Files that are exchanged while an audit runs, and back again: what one rule saw is not what the next one sees."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.audit.build import open_build
from pipeline.audit.levels.run import audit_build
from pipeline.errors import BuildError
from tests.pipeline.audit.tiny_build import write_build


def swapped_and_back(path: Path) -> None:
    other, kept = path.with_name("other"), path.with_name("kept")
    os.rename(path, kept)
    other.write_bytes(b"other")
    os.rename(other, path)
    os.rename(kept, path)


def written_and_back(path: Path) -> None:
    times, data = path.stat(), path.read_bytes()
    for content in (data[:-1] + b"x", data):
        with open(path, "r+b") as file:
            file.write(content)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def copied(path: Path) -> None:
    data = path.read_bytes()
    path.unlink()
    path.write_bytes(data)


@pytest.mark.parametrize("change", [swapped_and_back, written_and_back, copied, Path.unlink])
@pytest.mark.parametrize("name", ["build.json", "samples.parquet", "tasks.jsonl", "shard"])
def test_a_file_that_changes_meanwhile_leaves_no_verdict(
    tmp_path: Path, name: str, change: Callable[[Path], None]
) -> None:
    build = write_build(tmp_path / "build")
    name = open_build(build).shards[-1].targets.path if name == "shard" else name
    changed: list[int] = []

    def at_the_end(done: int, total: int) -> None:
        if done == total and not changed:
            changed.append(done)
            change(build / name)

    with pytest.raises(BuildError):
        audit_build(build, progress=at_the_end)
    assert changed


def test_a_second_audit_and_reading_change_nothing(tmp_path: Path) -> None:
    build = write_build(tmp_path / "build")

    def meanwhile(done: int, total: int) -> None:
        if done == total:
            for path in build.rglob("*.*"):
                path.read_bytes()
            (build / "audit").mkdir(exist_ok=True)
            (build / "audit" / "notes.txt").write_bytes(b"x")

    assert audit_build(build, progress=meanwhile).status == "clean"
