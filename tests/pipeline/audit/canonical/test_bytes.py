"""Files written anew: every byte of a container that its values do not force is noticed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.audit.build import open_build
from pipeline.audit.canonical.arrow import arrow_difference, batch_rows, in_order_of_need, tubelet_rows
from pipeline.audit.canonical.libraries import require_libraries
from pipeline.audit.canonical.parquet import samples_difference
from pipeline.audit.canonical.sink import ComparingSink
from pipeline.audit.levels.run import audit_build
from pipeline.audit.samples import UNREADABLE
from pipeline.errors import BuildError
from tests.leakage.tools import edit_json, refingerprint
from tests.pipeline.audit.tiny_build import TUBELET_INT8, write_build
from tests.pipeline.audit.tiny_targets import read_batches, read_targets

BATCH_FILES = ("train/targets-000000.arrow", "train/latents-000000.arrow")


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_build(tmp_path_factory.mktemp("tubelet") / "build", TUBELET_INT8)


def flips(data: bytes, step: int) -> Iterator[tuple[int, bytes]]:
    for at in range(0, len(data), step):
        changed = bytearray(data)
        changed[at] ^= 1 << at % 8
        yield at, bytes(changed)


def spelled(path: Path) -> list[bytes]:
    """The values of each column to the bit."""
    return [np.asarray(values).tobytes() for values in read_targets(path)[0].values()]


@pytest.mark.parametrize("step", [29, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize("file", BATCH_FILES)
def test_no_byte_of_an_arrow_file_is_free(build: Path, tmp_path: Path, file: str, step: int) -> None:
    """A flipped bit is either in a value, which the digests cover, or found."""
    path = build / file
    with pa.ipc.open_file(str(path)) as reader:
        schema = reader.schema
    rows, values = read_batches(path), spelled(path)
    assert arrow_difference(path, schema, rows) == ""
    for at, data in flips(path.read_bytes(), step):
        changed = tmp_path / "changed.arrow"
        changed.write_bytes(data)
        try:
            found = arrow_difference(changed, schema, rows)
        except UNREADABLE:
            continue
        if not found:
            assert spelled(changed) != values, f"byte {at}"


@pytest.mark.parametrize("step", [97, pytest.param(3, marks=pytest.mark.slow)])
def test_no_byte_of_the_manifest_is_free(build: Path, step: int) -> None:
    path = build / "samples.parquet"
    whole, table, claimed = path.read_bytes(), pq.read_table(path), open_build(build)
    assert samples_difference(claimed) == ""
    try:
        for at, data in flips(whole, step):
            path.write_bytes(data)
            try:
                found = samples_difference(claimed)
            except BuildError:
                continue
            if not found:
                assert not pq.read_table(path).equals(table), f"byte {at}"
    finally:
        path.write_bytes(whole)


def test_a_sink_compares_from_the_first_byte_to_the_last() -> None:
    wanted = pa.py_buffer(b"one two three")

    def found(*parts: bytes) -> str:
        sink = ComparingSink(wanted)
        for part in parts:
            sink.write(part)
        return sink.difference()

    assert found(b"one ", b"", b"two three") == ""
    assert found(b"one ", b"two thref").startswith("byte 12 is not")
    assert found(b"one ").startswith("byte 4 is not")
    assert found(b"one two three", b" four").startswith("byte 13 is not")
    assert found(b"x", b"ne two three").startswith("byte 0 is not")


def test_what_a_writer_passes_on_from_its_own_place_needs_no_reading() -> None:
    wanted = pa.py_buffer(np.arange(1000, dtype=np.uint8))
    sink = ComparingSink(wanted)
    sink.write(wanted.slice(0, 400))
    sink.write(wanted.slice(0, 400))
    assert sink.difference().startswith("byte 400 is not")


def test_record_batches_follow_groups_and_the_most_rows() -> None:
    samples = ["a"] * 5 + ["b"] * 2 + ["c"] * 4
    assert batch_rows([2, 1], ["a", "b", "c"], samples, 3) == [3, 3, 1, 3, 1]
    assert batch_rows([1, 2], ["x", "a", "b"], samples, 100) == [7]
    assert batch_rows([1], ["a"], [], 3) == []


def test_latents_are_written_as_they_are_needed() -> None:
    places = np.array([[0, 1], [1, 2], [2, -1], [3, 4]])
    assert tubelet_rows(places, [2, 1, 1]) == [3, 2]
    assert in_order_of_need(places)
    assert not in_order_of_need(places[::-1])


def test_another_version_of_a_library_ends_the_audit(build: Path, tmp_path: Path) -> None:
    """The manifest alone can be audited with any version."""
    other = write_build(tmp_path / "build")
    edit_json(other, "build.json", lambda d: d["settings"]["versions"].update(pyarrow="19.0.0"), repair=False)
    refingerprint(other)
    assert audit_build(other, "manifest").findings == ()
    with pytest.raises(BuildError, match="could not be audited exactly: install pyarrow==19"):
        audit_build(other, "shards")
    with pytest.raises(BuildError, match="install left==None; installed: left"):
        require_libraries(open_build(other), ["left"])
