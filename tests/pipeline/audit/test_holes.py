"""Files with holes: terabytes that take no room on the disk of whoever made them."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from jobs.audit.settings import VerifyConfig
from jobs.audit.verify import verify
from pipeline.audit.build import open_build
from pipeline.audit.levels.run import audit_build
from pipeline.audit.verdicts.audited import read_audited
from pipeline.audit.verdicts.verdict import write_verdict
from pipeline.errors import AuditRefusedError, BuildError, CorruptError
from pipeline.format.build import Build, load_build
from tests.pipeline.audit.tiny_build import write_build

HOLE = 2**42
"""Bytes. Hashing or reading so many would not end while a test runs."""


@pytest.fixture
def build(tmp_path: Path) -> Path:
    path = write_build(tmp_path / "build")
    write_verdict(path, audit_build(path))
    return path


@pytest.mark.parametrize("name", ["build.json", "tasks.jsonl", "audit/verdict.json", "audit/verdict.dsse.json"])
def test_what_is_read_as_a_whole_has_a_limit(build: Path, name: str) -> None:
    (build / name).touch()
    os.truncate(build / name, HOLE)
    reading = open_build if name in ("build.json", "tasks.jsonl") else read_audited
    with pytest.raises((BuildError, AuditRefusedError), match=r"4,398,046,511,104 bytes, at most 4,294,967,296 are"):
        reading(build)


@pytest.mark.parametrize("name", ["samples.parquet", "stats.json", "inputs"])
def test_a_file_that_is_longer_than_listed_is_not_hashed(build: Path, name: str) -> None:
    shards = [entry.inputs.path for entry in open_build(build).shards]
    name = shards[0] if name == "inputs" else name
    os.truncate(build / name, HOLE)
    with pytest.raises(AuditRefusedError, match=rf"{name} has 4398046511104 bytes, \d+ are listed"):
        verify(VerifyConfig(build=build))


def test_an_audit_reports_a_shard_with_a_hole(build: Path) -> None:
    name = open_build(build).shards[0].inputs.path
    os.truncate(build / name, HOLE)
    found = audit_build(build)
    assert any(f"has {HOLE} bytes" in finding.detail for finding in found.findings if finding.file == name)


@pytest.mark.parametrize("read", [Build.read_file, lambda build, name: build.copy_file(name, io.BytesIO())])
def test_training_reads_no_file_that_is_longer_than_listed(build: Path, read: Callable[[Build, str], object]) -> None:
    opened = load_build(build)
    os.truncate(build / "samples.parquet", HOLE)
    with pytest.raises(CorruptError, match=rf"samples.parquet has {HOLE} bytes, build.json lists \d+"):
        read(opened, "samples.parquet")
