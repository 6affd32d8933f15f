"""Copies of raw data: one that is no longer what arrived is never handed out."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from pipeline.errors import BuildError
from pipeline.storage.raw import local_copies
from pipeline.storage.raw.bucket_object import BucketObject
from pipeline.storage.raw.local_copies import FOLDER, LIMIT, fetch

CONTENT = bytes(range(256)) * 64
DOWNLOADS: list[str] = []


class Object(BucketObject):
    """An object whose bytes are here."""

    @property
    def url(self) -> str:
        return "s3://bucket/film.mp4"

    @property
    def key(self) -> str:
        return hashlib.sha256(self.tag.encode()).hexdigest()

    def download(self, sink: BinaryIO, retry: Any = None) -> str:
        DOWNLOADS.append(self.name)
        sink.seek(0)
        sink.write(CONTENT)
        sink.flush()
        return hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def film(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> BucketObject:
    monkeypatch.setenv(FOLDER, str(tmp_path / "raw"))
    another_process()
    return Object(None, "film.mp4", len(CONTENT), "1")  # type: ignore[arg-type]


def another_process() -> None:
    local_copies._copies.cache_clear()


def zeros_at_the_end(path: Path) -> None:
    path.chmod(0o644)
    path.write_bytes(CONTENT[:-100] + bytes(100))


def one_bit(path: Path) -> None:
    path.chmod(0o644)
    path.write_bytes(bytes([CONTENT[0] ^ 1]) + CONTENT[1:])


def no_record(path: Path) -> None:
    (path.parent.parent / "digests" / path.name).unlink()


def torn_record(path: Path) -> None:
    (path.parent.parent / "digests" / path.name).write_bytes(b"\xff\x00")


@pytest.mark.parametrize("damage", [zeros_at_the_end, one_bit, no_record, torn_record])
def test_a_damaged_copy_is_fetched_again(film: BucketObject, damage: Callable[[Path], None]) -> None:
    with fetch(film) as copy:
        path = copy.path
    damage(path)
    another_process()
    DOWNLOADS.clear()
    with fetch(film) as copy:
        assert copy.path.read_bytes() == CONTENT
    assert len(DOWNLOADS) == 1


def test_a_whole_copy_is_hashed_once_a_process(film: BucketObject, monkeypatch: pytest.MonkeyPatch) -> None:
    fetch(film).close()
    another_process()
    hashed: list[Path] = []
    monkeypatch.setattr(
        "pipeline.storage.raw.verified_copy.hash_file",
        lambda path: (hashed.append(path), hashlib.sha256(CONTENT).hexdigest())[1],
    )
    for _ in range(3):
        fetch(film).close()
    assert len(hashed) == 1


def test_a_disk_that_spoils_every_copy_is_said(film: BucketObject, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.storage.raw.verified_copy.hash_file", lambda path: "0" * 64)
    with pytest.raises(BuildError, match=r"film.mp4 in .* are damaged each time they are made; check that disk"):
        fetch(film)


def test_a_record_goes_with_its_copy(film: BucketObject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(LIMIT, str(1.5 * len(CONTENT) / 1e9))
    fetch(film).close()
    fetch(Object(None, "other.mp4", len(CONTENT), "2")).close()  # type: ignore[arg-type]
    assert [path.name for path in (tmp_path / "raw" / "digests").iterdir()] == [hashlib.sha256(b"2").hexdigest()]
