"""Samples that were verified once are recognised, and whatever changes afterwards is refused."""

from __future__ import annotations

import mmap
import os
import stat
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import CorruptError, SettingsError
from pipeline.format.build import Build, load_build
from pipeline.format.enums import Verify
from pipeline.streaming import reader as reader_module
from pipeline.streaming.reader import SampleReader
from pipeline.streaming.tags import Part, Tags
from tests.pipeline.streaming.test_stream import copy_of


def read(reader: SampleReader) -> None:
    reader.read(np.arange(len(reader)))


def tags_in(folder: Path) -> list[Path]:
    return sorted((folder / "tags" / "tags").iterdir())


def reader_of(build: Path, tags: Path | None, verify: Verify = Verify.ONCE) -> SampleReader:
    return SampleReader(load_build(build), "train", verify=verify, folder=tags)


@pytest.fixture
def build(robot_build: Build, tmp_path: Path) -> Path:
    return copy_of(robot_build, tmp_path / "build")


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The halves of samples that were hashed by SHA-256."""
    found: list[str] = []
    sha256 = reader_module.hashlib.sha256  # type: ignore[attr-defined]

    def counted(*content: bytes) -> object:
        found.append("sample")
        return sha256(*content)

    monkeypatch.setattr(reader_module.hashlib, "sha256", counted)  # type: ignore[attr-defined]
    return found


def test_a_sample_is_hashed_once_by_all_processes_and_epochs(build: Path, tmp_path: Path, hashed: list[str]) -> None:
    first = reader_of(build, tmp_path / "tags")
    read(first)
    assert len(hashed) >= 2 * len(first)
    hashed.clear()
    read(first)
    reader = reader_of(build, tmp_path / "tags")  # as another rank or run
    hashed.clear()  # of the manifest
    read(reader)
    assert hashed == []


def test_without_a_folder_the_tags_end_with_the_reader(build: Path, hashed: list[str]) -> None:
    for _ in range(2):
        reader = reader_of(build, None)
        hashed.clear()
        read(reader)
        assert len(hashed) == 2 * len(reader)
        read(reader)
        assert len(hashed) == 2 * len(reader)


def content_of(build: Path, kind: str) -> tuple[Path, int]:
    """A shard's file, and a place in a picture or in the latents of its first sample."""
    name = build / load_build(build).manifest["shards"][0][kind]["file"]
    latents = reader_of(build, None).read(np.array([0])).targets.latents
    begin = b"\xff\xd8" if kind == "inputs" else np.ascontiguousarray(latents[0]).tobytes()[:64]
    place = name.read_bytes().find(begin)
    assert place > 0
    return name, place + 40


def swapped_file(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    other = path.with_name("other")
    other.write_bytes(data)
    os.replace(other, path)


def written_in_place(path: Path, place: int) -> None:
    with open(path, "r+b") as file:
        file.seek(place)
        byte = file.read(1)[0]
        file.seek(place)
        file.write(bytes([byte ^ 1]))


def stored_through_a_mapping(path: Path, place: int) -> None:
    with open(path, "r+b") as file, mmap.mmap(file.fileno(), 0) as mapped:
        mapped[place] ^= 1


CHANGES = (swapped_file, written_in_place, stored_through_a_mapping)


@pytest.mark.parametrize("kind", ["inputs", "targets"])
@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("reopened", [False, True], ids=["same reader", "next run"])
def test_what_changes_after_it_was_verified_is_refused(
    build: Path, tmp_path: Path, change: Callable[[Path, int], None], kind: str, reopened: bool
) -> None:
    """Under the same size and time stamps, in the middle of a run or between two."""
    reader = reader_of(build, tmp_path / "tags")
    read(reader)
    path, place = content_of(build, kind)
    before = path.stat()
    change(path, place)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    if reopened or change is swapped_file:  # an open file stays the old one
        reader = reader_of(build, tmp_path / "tags")
    with pytest.raises(CorruptError, match=r"have SHA-256"):
        read(reader)


def test_a_change_of_mode_alone_is_no_fault(build: Path, tmp_path: Path) -> None:
    read(reader_of(build, tmp_path / "tags"))
    content_of(build, "inputs")[0].chmod(0o400)
    read(reader_of(build, tmp_path / "tags"))


def test_tags_of_another_build_do_not_count(build: Path, tmp_path: Path) -> None:
    read(reader_of(build, tmp_path / "tags"))
    before = tags_in(tmp_path)
    other = load_build(build)
    other = Build(other.path, {**other.manifest, "fingerprint": "0" * 64}, other.sizes, other.views)
    for split in ("train", "val"):
        Tags(other, split, before[0].parent)
    assert len(tags_in(tmp_path)) == 3


def test_a_tag_fits_its_own_sample_and_half_alone(build: Path) -> None:
    tags = Tags(load_build(build), "train", None)
    tag = tags.of(Part.INPUTS, 3, [b"ab", b"c"])
    assert tag == tags.of(Part.INPUTS, 3, [b"abc"])
    assert len({tags.of(part, row, [b"abc"]) for part in Part for row in range(8)}) == 16
    assert not tags.knows(Part.INPUTS, 3, tag)
    tags.keep(Part.INPUTS, 3, tag)
    assert tags.knows(Part.INPUTS, 3, tag)
    assert not any(tags.knows(part, row, tag) for part in Part for row in range(8) if (part, row) != (Part.INPUTS, 3))
    assert Tags(load_build(build), "train", None).of(Part.INPUTS, 3, [b"abc"]) != tag  # another key


def test_zeros_in_the_file_are_no_tag(build: Path) -> None:
    tags = Tags(load_build(build), "train", None)
    assert not tags.knows(Part.TARGETS, 0, bytes(16))


@pytest.mark.parametrize("content", [b"", b"VLJTAG", b"something else, longer than the header of a tags file"])
def test_a_damaged_file_is_begun_anew(build: Path, tmp_path: Path, content: bytes) -> None:
    read(reader_of(build, tmp_path / "tags"))
    (file,) = tags_in(tmp_path)
    file.write_bytes(content)
    read(reader_of(build, tmp_path / "tags"))
    assert file.read_bytes().startswith(b"VLJTAG02")


def test_damaged_tags_cost_a_hash_and_nothing_else(build: Path, tmp_path: Path, hashed: list[str]) -> None:
    reader = reader_of(build, tmp_path / "tags")
    read(reader)
    (file,) = tags_in(tmp_path)
    written_in_place(file, 40)
    hashed.clear()
    read(reader)
    assert len(hashed) == 1


def test_the_folder_must_be_the_users_own(build: Path, tmp_path: Path) -> None:
    folder = tmp_path / "tags"
    read(reader_of(build, folder))
    (file,) = tags_in(tmp_path)
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    for kind in ("tags", "samples"):
        (folder / kind).chmod(0o777)
        with pytest.raises(SettingsError, match=r"nobody else can write to"):
            reader_of(build, folder)
        (folder / kind).chmod(0o700)
        (folder / kind).rename(folder / "elsewhere")
        (folder / kind).symlink_to(folder / "elsewhere")
        with pytest.raises(SettingsError, match=r"must be a folder of this user"):
            reader_of(build, folder)
        (folder / kind).unlink()
        (folder / "elsewhere").rename(folder / kind)


def test_off_reads_what_is_there(build: Path) -> None:
    path, place = content_of(build, "targets")
    written_in_place(path, place)
    read(reader_of(build, None, Verify.OFF))
