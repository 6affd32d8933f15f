"""`vlajepa push` to a bucket: the same files at the same names, resumed, and audited from there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from jobs.audit.settings import VerifyConfig
from jobs.audit.verify import run as verify
from jobs.sharing.bucket import push_to_bucket
from jobs.sharing.build_contents import build_contents
from jobs.sharing.contents import Contents
from jobs.sharing.push import run
from jobs.sharing.settings import PushConfig
from pipeline.errors import BuildError, CorruptError
from pipeline.format.file_names import VERDICT
from pipeline.storage.object_store import ObjectStore
from tests.pipeline.audit.tiny_build import write_build
from tests.pipeline.storage.s3_server import s3_server


@pytest.fixture
def place(tmp_path: Path) -> str:
    return f"file://{tmp_path}/bucket"


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    with s3_server() as bucket:
        yield bucket


def contents_of(build: Path, place: str, **settings: bool) -> Contents:
    return build_contents(PushConfig(what=build, out=place, **settings), place)


def test_every_file_arrives_once(build: Path, place: str, tmp_path: Path) -> None:
    first = push_to_bucket(contents_of(build, place), place)
    there = {p.relative_to(tmp_path / "bucket").as_posix(): p for p in (tmp_path / "bucket").rglob("*") if p.is_file()}
    own = {f"build/{p.relative_to(build).as_posix()}": p for p in build.rglob("*") if p.is_file()}
    assert set(first.sent) == set(there) == set(own) | {"README.md"}
    assert all(there[name].read_bytes() == path.read_bytes() for name, path in own.items())
    again = push_to_bucket(contents_of(build, place), place)
    assert not again.sent
    assert set(again.kept) == set(first.sent)


def test_a_push_that_was_cut_off_goes_on(
    build: Path, place: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    sent, streaming = [], ObjectStore.streaming

    def cut(self: ObjectStore, name: str):  # type: ignore[no-untyped-def]
        if len(sent) == 5:
            raise KeyboardInterrupt
        sent.append(name)
        return streaming(self, name)

    monkeypatch.setattr(ObjectStore, "streaming", cut)
    with pytest.raises(KeyboardInterrupt):
        push_to_bucket(contents_of(build, place), place)
    assert not (tmp_path / "bucket" / "build" / "build.json").exists()
    monkeypatch.setattr(ObjectStore, "streaming", streaming)
    assert set(push_to_bucket(contents_of(build, place), place).kept) == set(sent)


def test_a_changed_file_is_refused(build: Path, place: str, tmp_path: Path) -> None:
    contents = contents_of(build, place)
    shard = build / "train" / "inputs-000001.tar"
    shard.write_bytes(shard.read_bytes()[:-1] + b"\x01")
    with pytest.raises(CorruptError, match=r"inputs-000001\.tar: its SHA-256"):
        push_to_bucket(contents, place)
    assert not (tmp_path / "bucket" / "build" / "train" / "inputs-000001.tar").exists()
    assert not (tmp_path / "bucket" / "build" / "build.json").exists()


def test_a_place_of_something_else_is_refused(build: Path, place: str, tmp_path: Path) -> None:
    (tmp_path / "bucket").mkdir()
    (tmp_path / "bucket" / "notes.txt").write_text("mine")
    with pytest.raises(BuildError, match=r"holds files that are not of .*: notes\.txt"):
        push_to_bucket(contents_of(build, place), place)


@pytest.mark.slow
def test_on_s3(s3: str, build: Path, tmp_path: Path) -> None:
    place = f"{s3}/mine/robot"
    first = run(PushConfig(what=build, out=place))
    assert verify(VerifyConfig(build=f"{place}/build")).exit_code == 0
    again = run(PushConfig(what=build, out=place))
    assert (set(again.kept), again.sent) == (set(first.sent), ())
    (build / VERDICT).unlink()
    after = run(PushConfig(what=build, out=place, unaudited=True))
    assert after.sent == ("README.md",)
    assert verify(VerifyConfig(build=f"{place}/build")).exit_code == 1
    other = write_build(tmp_path / "other" / "build")
    (other / "build.json").write_bytes((other / "build.json").read_bytes().replace(b'"prefix"', b'"clip"'))
    with pytest.raises(BuildError):
        run(PushConfig(what=other, out=place, unaudited=True))
