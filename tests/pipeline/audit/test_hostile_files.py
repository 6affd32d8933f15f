"""Builds that want the auditor's machine: to fill its memory, to take its time, to read its files, to run a program."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.audit.build import open_build
from pipeline.audit.canonical import expansion
from pipeline.audit.canonical.expansion import bounded_memory, record_batches
from pipeline.audit.levels.run import audit_build
from pipeline.audit.raw.registry import open_raw
from pipeline.audit.rederive.images import Facts, image_gap, match_image
from pipeline.audit.rederive.reencode import EncoderClaim
from pipeline.audit.samples import open_samples
from pipeline.audit.selection.window_counts import _counted
from pipeline.errors import BuildError
from tests.leakage.tools import edit_json, edit_tasks
from tests.pipeline.audit.tiny_build import rehash, write_build

GIB = 2**30


@pytest.fixture(scope="module")
def clean_build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_build(tmp_path_factory.mktemp("clean") / "build")


@pytest.fixture
def build(clean_build: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(clean_build, tmp_path / "build"))


def _first(tasks: list[Any]) -> dict[str, Any]:
    ref: dict[str, Any] = tasks[0]["episodes"][0]
    return ref


TASKS: dict[str, tuple[Callable[[list[Any]], object], str]] = {
    "more frames than a number": (lambda t: _first(t).update(num_frames=10**30), "num_frames of ep_a must be below"),
    "a file of the system": (lambda t: _first(t).update(files=[["/proc/kcore", 1]]), "leads out of the raw data"),
    "a file above": (lambda t: _first(t).update(files=[["a/../../key.pem", 1]]), "leads out of the raw data"),
    "a table above": (lambda t: _first(t)["data"].update(table="../x.parquet"), "leads out of the raw data"),
    "a video elsewhere": (lambda t: _first(t)["data"].update(videos={"a": ["/dev/zero"]}), "leads out of the raw data"),
}


@pytest.mark.parametrize("name", TASKS)
def test_tasks_that_cannot_be_audited(build: Path, name: str) -> None:
    edit, message = TASKS[name]
    edit_tasks(build, edit)
    with pytest.raises(BuildError, match=message):
        audit_build(build, "manifest")


def test_half_of_a_surrogate_pair(build: Path) -> None:
    path = build / "tasks.jsonl"
    path.write_bytes(path.read_bytes().replace(b"demo_0", b"\\ud800"))
    rehash(build)
    with pytest.raises(BuildError, match="surrogates not allowed"):
        audit_build(build, "manifest")


@pytest.mark.parametrize("name", ["views", "image_size", "steps", "tokens", "width", "state", "chunk", "action"])
def test_sizes_that_fill_the_machine(build: Path, name: str) -> None:
    edit_json(build, "build.json", lambda content: content["sizes"].update({name: 10**12}))
    with pytest.raises(BuildError, match=f"{name} must be at least"):
        audit_build(build, "manifest")


def test_a_small_manifest_of_a_million_rows(build: Path) -> None:
    path = build / "samples.parquet"
    table = pq.read_table(path)
    pq.write_table(table.take(pa.array(np.zeros(10**6, np.int64))), path)
    rehash(build)
    with pytest.raises(BuildError, match="claims 1000000 rows in"):
        audit_build(build, "manifest")


def test_many_rows_of_one_target_are_not_too_many_for_their_file(build: Path) -> None:
    """Still videos: only the digests of inputs differ."""
    path = build / "samples.parquet"
    table = pq.read_table(path).take(pa.array(np.zeros(200_000, np.int64)))
    at, field = table.schema.get_field_index("inputs_sha256"), table.schema.field("inputs_sha256")
    digests = np.random.default_rng(0).bytes(200_000 * 32)
    digests_column = pa.FixedSizeBinaryArray.from_buffers(field.type, 200_000, [None, pa.py_buffer(digests)])
    pq.write_table(table.set_column(at, field, digests_column), path)
    assert path.stat().st_size < 40 * 200_000
    with open_samples(open_build(build)) as file:
        assert file.metadata.num_rows == 200_000


def test_a_list_that_expands_beyond_the_room(build: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page of one number, repeated."""
    path = build / "samples.parquet"
    table = pq.read_table(path)
    at, kind = table.schema.get_field_index("supports"), table.schema.field("supports").type
    rows = [support for row in table["supports"].to_pylist() for support in row]
    rows[0] = np.zeros(30_000_000, np.int32)  # type: ignore[assignment]
    supports = pa.FixedSizeListArray.from_arrays(pa.array(rows, pa.list_(pa.int32())), kind.list_size).cast(kind)
    pq.write_table(table.set_column(at, table.schema.field(at), supports), path)
    assert path.stat().st_size < 100_000
    rehash(build)
    monkeypatch.setattr(expansion, "ROOM", 64 * 2**20)
    before = pa.default_memory_pool()
    pa.set_memory_pool(pa.system_memory_pool())  # another one may have set a GiB apart
    try:
        with pytest.raises(BuildError, match=r"cannot be read: .*(alloc|memory)"):
            audit_build(build, "manifest")
    finally:
        pa.set_memory_pool(before)


def test_the_room_is_given_back() -> None:
    with bounded_memory(), bounded_memory(), pytest.raises(MemoryError):
        np.ones(expansion.ROOM + GIB, np.uint8)
    np.empty(expansion.ROOM + GIB, np.uint8)


def test_record_batches_that_hold_more_than_their_file() -> None:
    schema, sink = pa.schema({"x": pa.int64()}), pa.BufferOutputStream()
    with pa.ipc.new_file(sink, schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
        writer.write_batch(pa.record_batch([np.zeros(10**6, np.int64)], schema=schema))
    data = sink.getvalue()
    with pytest.raises(pa.ArrowInvalid, match="hold more than its"):
        list(record_batches(pa.ipc.open_file(data), data.size))


def test_an_image_in_another_format_is_not_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow hands PostScript to Ghostscript, a program."""
    monkeypatch.setattr("PIL.EpsImagePlugin.Ghostscript", lambda *_: pytest.fail("a program was run"))
    stored = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\n%%EndComments\nshowpage\n"
    frame = np.zeros((64, 64, 3), np.uint8)
    facts = Facts(("video",), 64, 95, exact=False, encoder=EncoderClaim(64, "squash", "float32", ""))
    assert image_gap(stored, frame, facts) == 255.0
    assert "does not start with SOI" in match_image(stored, frame, facts).problem


def test_a_list_of_texts_outside_the_raw_data(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    (tmp_path / "secret.csv").write_text("video,text\na.mp4,secret\n")
    settings = {"type": "videos", "name": "x", "video_column": "video", "text_column": "text", "split_column": None}
    for place in ("../secret.csv", str(tmp_path / "secret.csv"), "/dev/zero"):
        with pytest.raises(BuildError, match="leads out of"):
            open_raw({**settings, "val_share": 0.1, "split_seed": 0, "texts": place}, tmp_path / "raw")


@pytest.mark.parametrize("pattern", ["(a+)+$", "(a|aa)*b", ".*.*.*.*x", "x" * 300, "(?:a*){9}"])
def test_a_pattern_that_takes_for_ever(tmp_path: Path, pattern: str) -> None:
    source = {"type": "rlds", "name": "x", "fps": 5, "skip_first": 0, "cameras": ["image"], "instruction": ["text"]}
    with pytest.raises(BuildError, match="may take for ever"):
        open_raw({**source, "state": [], "action": [], "wanted": {"file_path": pattern}}, tmp_path)


def test_windows_of_a_long_episode_are_counted_at_once() -> None:
    assert _counted(10**15, 2, 3, "pad", 1, 0, 0) == (10**15 - 4, 10**15)
    assert _counted(100, 2, 2, "drop", 0, 3, 0) == (3, 9)
