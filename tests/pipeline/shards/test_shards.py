"""Shard files: readable without our code, whole or absent, random access by row."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import tarfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import webdataset as wds

from pipeline.errors import BuildError
from pipeline.format.input_sample import InputSample
from pipeline.format.schema import Sizes
from pipeline.shards.inputs_tar import InputsWriter
from pipeline.shards.targets_arrow import TargetRows, TargetsReader, TargetsWriter, row_digest
from pipeline.storage.atomic import FileRecord, atomic_file, atomic_stream, hash_file, remove_temporary_files

SIZES = Sizes(views=2, image_size=8, steps=3, tokens=4, width=6, state=3, chunk=5, action=2)
VIEWS = ("front", "wrist")


def make_rows(first: int, count: int) -> TargetRows:
    """Rows whose every number tells its row."""
    rows = np.arange(first, first + count)
    return TargetRows(
        tuple(f"episode-{row:06d}" for row in rows),
        np.broadcast_to(rows[:, None, None, None], (count, 2, 4, 6)).astype(np.float16),
        np.broadcast_to(-rows[:, None, None, None, None], (count, 3, 2, 4, 6)).astype(np.float16),
        np.tile([True, True, False], (count, 1)),
        np.broadcast_to(rows[:, None, None] / 7, (count, 5, 2)).astype(np.float32),
        np.tile([True] * 4 + [False], (count, 1)),
    )


def write_targets(path: Path, counts: list[int]) -> tuple[FileRecord, list[str]]:
    digests: list[str] = []
    with TargetsWriter(atomic_stream(path), SIZES, {"shard": "train/targets-000000.arrow"}) as writer:
        for i, count in enumerate(counts):
            digests += writer.add(make_rows(sum(counts[:i]), count))
    return writer.record(path.name), digests


def write_inputs(path: Path) -> list[InputSample]:
    samples = [
        InputSample(f"episode-{i:06d}", (b"front" * (i + 1), b"wrist"), json.dumps({"row": i}).encode())
        for i in range(4)
    ]
    with InputsWriter(atomic_stream(path), VIEWS) as writer:
        for sample in samples:
            place = writer.add(sample)
            spans = [*zip(place.image_offset, place.image_size, strict=True), (place.json_offset, place.json_size)]
            writer._sink._file.flush()
            (temporary,) = path.parent.glob(".tmp-*")
            data = temporary.read_bytes()
            assert tuple(data[offset : offset + size] for offset, size in spans) == (*sample.images, sample.json)
    assert writer.record("x").sha256 == hash_file(path)
    assert writer.record("x").bytes == path.stat().st_size
    return samples


def test_inputs_are_plain_webdataset(tmp_path: Path) -> None:
    samples = write_inputs(tmp_path / "inputs-000000.tar")
    read = list(wds.WebDataset(str(tmp_path / "inputs-000000.tar"), shardshuffle=False))
    assert [s["__key__"] for s in read] == [s.key for s in samples]
    assert [(s["front.jpg"], s["wrist.jpg"], s["json"]) for s in read] == [(*s.images, s.json) for s in samples]


def test_tar_headers_carry_nothing_but_names_and_sizes(tmp_path: Path) -> None:
    write_inputs(tmp_path / "a.tar")
    with tarfile.open(tmp_path / "a.tar") as tar:
        members = tar.getmembers()
    assert {(m.mtime, m.uid, m.gid, m.uname, m.gname, m.mode, m.type) for m in members} == {
        (0, 0, 0, "", "", 0o444, tarfile.REGTYPE)
    }
    assert all(not m.pax_headers for m in members)


def test_targets_are_plain_arrow(tmp_path: Path) -> None:
    record, digests = write_targets(tmp_path / "t.arrow", [3, 2])
    assert record == FileRecord("t.arrow", (tmp_path / "t.arrow").stat().st_size, hash_file(tmp_path / "t.arrow"))
    table = pa.ipc.open_file(str(tmp_path / "t.arrow")).read_all()
    latents = np.concatenate([chunk.to_numpy_ndarray() for chunk in table.column("latents").chunks])
    assert latents.shape == (5, 3, 2, 4, 6)
    assert latents.dtype == np.float16
    assert latents[:, 0, 0, 0, 0].tolist() == [0, -1, -2, -3, -4]
    assert table.schema.metadata == {b"shard": b"train/targets-000000.arrow"}
    assert len(set(digests)) == 5


def test_rows_are_read_at_random(tmp_path: Path) -> None:
    write_targets(tmp_path / "t.arrow", [3, 1, 4])
    reader = TargetsReader(tmp_path / "t.arrow", SIZES)
    context, latents = np.empty((2, 4, 6), np.float16), np.empty((3, 2, 4, 6), np.float16)
    for row in (7, 0, 3, 2, 4):
        reader.read_into(row, context=context, latents=latents)
        assert (context == row).all()
        assert (latents == -row).all()
        assert reader.keys[row] == f"episode-{row:06d}"
        assert reader.actions is not None
        assert np.array_equal(reader.actions[row], make_rows(row, 1).actions[0])  # type: ignore[index]
    assert reader.latent_mask.tolist() == [[True, True, False]] * 8


def test_a_digest_covers_every_field() -> None:
    rows = make_rows(3, 1)
    base = row_digest(rows, 0)
    for name in ("context", "latents", "latent_mask", "actions", "action_mask"):
        changed = make_rows(3, 1)
        values = getattr(changed, name)
        values.reshape(-1)[0] = not values.reshape(-1)[0] if values.dtype == bool else values.reshape(-1)[0] + 1
        assert row_digest(changed, 0) != base, name


@pytest.mark.parametrize("damage", ["truncate", "garbage", "other sizes", "missing"])
def test_a_damaged_targets_file_is_named(tmp_path: Path, damage: str) -> None:
    path, sizes = tmp_path / "t.arrow", SIZES
    write_targets(path, [3])
    if damage == "truncate":
        os.truncate(path, path.stat().st_size // 2)
    elif damage == "garbage":
        path.write_bytes(b"not arrow" * 100)
    elif damage == "other sizes":
        sizes = Sizes(**{**vars(SIZES), "tokens": 5})
    else:
        path.unlink()
    with pytest.raises(BuildError, match=r"t\.arrow"):
        TargetsReader(path, sizes)


def test_a_failed_write_leaves_nothing(tmp_path: Path) -> None:
    def fail() -> None:
        with InputsWriter(atomic_stream(tmp_path / "a.tar"), VIEWS) as writer:
            writer.add(InputSample("k-000000", (b"a", b"b"), b"{}"))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert list(tmp_path.iterdir()) == []


def _write_slowly(path: Path) -> None:
    with atomic_file(path) as temporary, open(temporary, "wb") as file:
        while True:
            file.write(b"x" * 1000)
            file.flush()
            time.sleep(0.01)


@pytest.mark.slow
def test_a_killed_writer_leaves_no_file_under_the_name(tmp_path: Path) -> None:
    process = multiprocessing.get_context("spawn").Process(target=_write_slowly, args=(tmp_path / "a.tar",))
    process.start()
    while not any(tmp_path.glob(".tmp-*")):
        time.sleep(0.01)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert not (tmp_path / "a.tar").exists()
    remove_temporary_files(tmp_path)
    assert list(tmp_path.iterdir()) == []
