"""The table of samples that readers share: damage shows, and with `every_sample` nothing outside the build decides."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import CorruptError
from pipeline.format.build import Build, load_build
from pipeline.format.enums import Verify
from pipeline.streaming.reader import SampleReader
from pipeline.streaming.sample_table import row_dtype
from tests.pipeline.streaming.test_stream import copy_of


def reader_of(build: Path, folder: Path, verify: Verify) -> SampleReader:
    return SampleReader(load_build(build), "train", verify=verify, folder=folder)


def table_in(folder: Path) -> Path:
    (found,) = (folder / "samples").glob("*/rows.bin")
    return found.parent


def forge_first_sample(build: Path, table: Path) -> None:
    """Change a state in a shard, and the hash that the table kept of it."""
    opened = load_build(build)
    rows = np.fromfile(table / "rows.bin", row_dtype(opened.sizes.views))
    first = rows[0]
    shard = next(shard for shard in opened.manifest["shards"] if shard["split"] == "train")
    path = build / shard["inputs"]["file"]
    data = bytearray(path.read_bytes())
    begin, end = int(first["json_offset"]), int(first["json_offset"] + first["json_size"])
    place = data.index(b'"instruction":"', begin, end) + len(b'"instruction":"')
    data[place] ^= 1
    path.write_bytes(data)
    images = zip(first["image_offset"].tolist(), first["image_size"].tolist(), strict=True)
    content = [data[offset : offset + size] for offset, size in images] + [data[begin:end]]
    first["inputs_sha256"] = hashlib.sha256(b"".join(content)).digest()
    rows.tofile(table / "rows.bin")


def test_a_forged_table_does_not_pass_for_the_manifest_when_every_sample_is_compared(
    robot_build: Build, tmp_path: Path
) -> None:
    build, folder = copy_of(robot_build, tmp_path / "build"), tmp_path / "own"
    reader_of(build, folder, Verify.ONCE)
    forge_first_sample(build, table_in(folder))
    with pytest.raises(CorruptError, match="the audited manifest lists"):
        reader_of(build, folder, Verify.EVERY_SAMPLE).read(np.array([0]))


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("rows.bin", lambda data, row: data[:-row]),
        ("rows.bin", lambda data, row: data[:-1]),
        ("rows.bin", lambda data, row: data + data[-row:]),
        ("rows.bin", lambda data, row: b""),
        ("texts.bin", lambda data, row: data[:-1]),
        ("texts.bin", None),
    ],
)
def test_a_damaged_table_is_made_again(
    robot_build: Build, tmp_path: Path, name: str, change: Callable[[bytes, int], bytes] | None
) -> None:
    folder = tmp_path / "own"
    whole = reader_of(robot_build.path, folder, Verify.ONCE)
    path = table_in(folder) / name
    content = path.read_bytes()
    path.unlink()
    if change is not None:
        path.write_bytes(change(content, row_dtype(robot_build.sizes.views).itemsize))
    again = reader_of(robot_build.path, folder, Verify.ONCE)
    assert len(again) == len(whole)
    assert path.read_bytes() == content
