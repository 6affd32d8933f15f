"""The audit ends in a verdict or in BuildError, never in another exception, and never calls damage clean."""

from __future__ import annotations

import random
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import pipeline.audit.levels.run as run
from pipeline.audit.build import ClaimedBuild
from pipeline.audit.finding import MAX_FINDINGS, Report
from pipeline.audit.levels.run import audit_build
from pipeline.errors import BuildError
from pipeline.format.file_names import SAMPLES
from tests.leakage.tools import ARROW, TAR, edit_json, edit_rows
from tests.pipeline.audit.tiny_build import rehash, write_build


@pytest.fixture(scope="module")
def clean_build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_build(tmp_path_factory.mktemp("clean") / "build")


@pytest.fixture
def build(clean_build: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(clean_build, tmp_path / "build"))


@pytest.mark.parametrize("file", [TAR, ARROW])
@pytest.mark.parametrize("seed", [*range(5), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(5, 25))])
def test_random_damage_with_fitting_hashes_is_a_finding(build: Path, file: str, seed: int) -> None:
    chance = random.Random(seed)
    data = bytearray((build / file).read_bytes())
    start = chance.randrange(len(data))
    length = chance.choice([1, 1, 8, 400])
    before = bytes(data)
    data[start : start + length] = chance.randbytes(length)
    if chance.random() < 0.3:
        del data[chance.randrange(len(data)) :]
    if bytes(data) == before:
        pytest.skip("the random bytes are those that were there")
    (build / file).write_bytes(data)
    rehash(build)
    try:
        verdict = audit_build(build)
    except BuildError as error:
        pytest.fail(f"garbage in a shard is a finding, not a breakdown: {error}")
    assert verdict.exit_code == 1, f"byte {start}"


@pytest.mark.parametrize("file", ["build.json", "samples.parquet", "tasks.jsonl"])
@pytest.mark.parametrize("content", [None, b"", b"\0" * 100, b"[]", b"{}\n", b"PAR1 no PAR1"])
def test_what_cannot_be_read_cannot_be_audited(build: Path, file: str, content: bytes | None) -> None:
    (build / file).unlink() if content is None else (build / file).write_bytes(content)
    if file == "tasks.jsonl" and content == b"":  # a plan without tasks can be read, and fits no sample
        assert audit_build(build).exit_code == 1
        return
    with pytest.raises(BuildError, match=file):
        audit_build(build)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda d: d.update(schema_version=1), "schema_version is 1"),
        (lambda d: d.update(schema_version=True), "schema_version is True"),
        (lambda d: d.pop("sizes"), "no 'sizes'"),
        (lambda d: d["sizes"].update(steps=0), "steps must be at least 1"),
        (lambda d: d["sizes"].update(steps=3), "other columns"),
        (lambda d: d["settings"]["window"].update(interval="2"), "'interval' must be int, found str"),
        (lambda d: d["settings"]["window"].update(end="repeat"), "drop, pad"),
        (lambda d: d.update(views=["a.b"]), "view names"),
        (lambda d: d["shards"][0]["inputs"].update(file="../../x"), "expected the file train/inputs-000000.tar"),
        (lambda d: d["files"].pop("stats.json"), "must list exactly"),
    ],
)
def test_build_json_that_cannot_be_trusted_stops_the_audit(
    build: Path, edit: Callable[[dict[str, Any]], object], message: str
) -> None:
    edit_json(build, "build.json", edit, repair=False)
    with pytest.raises(BuildError, match=message):
        audit_build(build, "manifest")


@pytest.mark.parametrize("kind", [pa.string(), pa.binary(), pa.binary(40), pa.large_binary()])
@pytest.mark.parametrize("column", ["inputs_sha256", "targets_sha256"])
def test_a_digest_of_any_other_type_stops_the_audit(build: Path, column: str, kind: pa.DataType) -> None:
    """Digits, or room for more than a SHA-256."""
    table = pq.read_table(build / SAMPLES)
    digests = table.column(column).to_pylist()
    values = [d.hex() for d in digests] if kind == pa.string() else [d.ljust(40, b"!") for d in digests]
    at = table.schema.get_field_index(column)
    pq.write_table(table.set_column(at, column, pa.array(values, kind)), build / SAMPLES)
    rehash(build)
    with pytest.raises(BuildError, match=rf"{column}: expected fixed_size_binary\[32\], found {re.escape(str(kind))}"):
        audit_build(build, "manifest")


def test_null_in_the_manifest_stops_the_audit(build: Path) -> None:
    edit_rows(build, lambda rows: rows[3].update(now=None))
    with pytest.raises(BuildError, match="column now holds a null"):
        audit_build(build, "manifest")


@pytest.mark.parametrize("file", ["stats.json", "ledger.jsonl", "plan.json"])
def test_garbage_in_a_small_file_is_a_finding(build: Path, file: str) -> None:
    (build / file).write_bytes(b"\xff\0{[")
    rehash(build)
    assert audit_build(build).exit_code == 1


def test_rule_that_breaks_down_is_named_and_never_clean(build: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(build: ClaimedBuild, report: Report) -> None:
        raise ZeroDivisionError("oh")

    rule = run.BuildRule("manifest", "tasks.jsonl", broken)
    monkeypatch.setattr(run, "BUILD_RULES", (*run.BUILD_RULES, rule))
    with pytest.raises(BuildError, match=r"broken broke down on tasks\.jsonl: ZeroDivisionError: oh"):
        audit_build(build)


def test_findings_are_capped_and_counted(tmp_path: Path) -> None:
    report = Report()
    for _ in range(MAX_FINDINGS + 50):
        report.found("L7", "file", "detail")
    assert len(report.findings) == MAX_FINDINGS
    assert report.failed["L7"] == MAX_FINDINGS + 50


def test_shards_are_read_once_and_in_batches_smaller_than_the_manifest(
    build: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows of a shard may be spread over many batches of the manifest."""
    monkeypatch.setattr("pipeline.audit.samples.BATCH_ROWS", 2)
    assert audit_build(build).findings == ()
