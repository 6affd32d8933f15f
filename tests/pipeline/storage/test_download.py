"""Builds on S3, on HTTP and in a folder: mirrored whole or not at all, and told apart from what is broken there."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from pipeline.audit.verdicts.audited import read_audited
from pipeline.audit.verdicts.gate import pass_gate
from pipeline.errors import AuditRefusedError, BuildError, CorruptError, SettingsError
from pipeline.format.build import Build, load_build
from pipeline.format.file_names import SIGNED_VERDICT, VERDICT
from pipeline.storage.atomic import hash_file
from pipeline.storage.download import RemoteFile, download, mirror_build, shard_file
from pipeline.storage.object_store import open_object_store
from pipeline.storage.retry import Retry
from pipeline.storage.shard_cache import FileCache
from pipeline.storage.store import is_remote
from tests.pipeline.storage.s3_server import FlakyServer, be_impatient, free_port, http_server, s3_server, upload

QUICK = Retry(attempts=2, delay=0.001)
SPAWN = multiprocessing.get_context("spawn")
SMALL = {"build.json", "samples.parquet", "stats.json", "ledger.jsonl", "tasks.jsonl"}


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    with s3_server() as bucket:
        yield bucket


@pytest.fixture
def server() -> Iterator[FlakyServer]:
    with FlakyServer().running() as running:
        yield running


@pytest.fixture
def small_build(tmp_path: Path) -> Path:
    """What mirroring sees of a build, and one shard of it."""
    folder = tmp_path / "built"
    (folder / "train").mkdir(parents=True)
    (folder / "audit").mkdir()
    small = ("samples.parquet", "stats.json", "ledger.jsonl", "tasks.jsonl", "plan.json")
    for name in (*small, "train/inputs-000000.tar"):
        (folder / name).write_bytes(name.encode() * 100)
    (folder / "croissant.json").write_text("{}")
    (folder / VERDICT).write_text("first")
    (folder / SIGNED_VERDICT).write_text("first, signed")
    files = {n: {"bytes": (folder / n).stat().st_size, "sha256": hash_file(folder / n)} for n in small}
    (folder / "build.json").write_text(json.dumps({"files": files}))
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def serve(server: FlakyServer, build: Path) -> str:
    for name, data in contents(build).items():
        server.add(f"b/{name}", data)
    return f"{server.url}/b"


def test_a_url_is_told_from_a_path() -> None:
    assert all(map(is_remote, ("s3://b/x", "gs://b", "https://h/x", "memory://x", "file:///x", "abfs+x://y")))
    assert not any(map(is_remote, ("/data/x", "x", "./x:y", "C:/x", "a/b://c", str(Path("s3://b/x")), "")))


def test_a_shard_file_is_its_entry_at_the_url() -> None:
    entry = {"file": "train/inputs-000000.tar", "bytes": 7, "sha256": "0" * 64}
    expected = RemoteFile("s3://b/x/train/inputs-000000.tar", 7, "0" * 64)
    assert shard_file("s3://b/x", entry) == shard_file("s3://b/x/", entry) == expected


@pytest.mark.slow
def test_a_build_on_s3_is_opened_audited_and_its_shards_are_the_audited_ones(
    s3: str, robot_build: Build, tmp_path: Path
) -> None:
    upload(robot_build.path, f"{s3}/robot")
    path = mirror_build(f"{s3}/robot/", tmp_path / "mirrors")
    build = load_build(path)
    pass_gate(read_audited(path))
    assert build.manifest == robot_build.manifest
    copied = contents(path)
    assert set(copied) == {*SMALL, "croissant.json", VERDICT}
    assert all((robot_build.path / name).read_bytes() == data for name, data in copied.items())
    cache = FileCache(tmp_path / "shards", 10**9)
    for shard in build.manifest["shards"]:
        for kind in ("inputs", "targets"):
            with cache.open(shard_file(f"{s3}/robot", shard[kind])) as file:
                assert file.path.read_bytes() == (robot_build.path / shard[kind]["file"]).read_bytes()


def test_a_plain_http_server_will_do(small_build: Path, tmp_path: Path) -> None:
    with http_server(small_build) as url:
        path = mirror_build(url, tmp_path / "mirrors")
        data = (small_build / "train" / "inputs-000000.tar").read_bytes()
        entry = {"file": "train/inputs-000000.tar", "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        with FileCache(tmp_path / "shards", 10**6).open(shard_file(url, entry)) as file:
            assert file.path.read_bytes() == data
    assert (path / VERDICT).read_text() == "first"


@pytest.mark.parametrize("scheme", [pytest.param("s3", marks=pytest.mark.slow), "http", "file"])
def test_each_kind_of_place_will_do(
    scheme: str, small_build: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    if scheme == "http":
        url = serve(request.getfixturevalue("server"), small_build)
    else:
        url = f"{request.getfixturevalue('s3')}/small" if scheme == "s3" else f"file://{tmp_path}/elsewhere"
        upload(small_build, url)
    path = mirror_build(url, tmp_path / "mirrors")
    assert set(contents(path)) == {*SMALL, "croissant.json", VERDICT, SIGNED_VERDICT}


def test_characters_of_a_url_and_of_a_path_are_told_apart(small_build: Path, tmp_path: Path) -> None:
    """A URL of HTTP is written with escapes; a path or an object's name is not."""
    small_build.rename(tmp_path / "é 100%")
    with http_server(tmp_path) as url:
        mirror_build(f"{url}/%C3%A9%20100%25", tmp_path / "mirrors")
    mirror_build(f"file://{tmp_path}/é 100%", tmp_path / "mirrors")


@pytest.mark.parametrize("taken", ["", "shards", "shards/downloads"])
def test_a_folder_that_others_write_to_serves_as_no_cache(small_build: Path, tmp_path: Path, taken: str) -> None:
    """Another user who made it first could exchange the verdict, or what is read by it, at any time."""
    cache = tmp_path / "cache"
    (cache / taken).mkdir(parents=True)
    (cache / taken).chmod(0o777)
    make = (
        partial(FileCache, cache / "shards", 10**6) if taken else partial(mirror_build, f"file://{small_build}", cache)
    )
    with pytest.raises(SettingsError, match=r"must be a folder of this user that nobody else can write to"):
        make()


def test_a_mirror_is_used_again(server: FlakyServer, small_build: Path, tmp_path: Path) -> None:
    url = serve(server, small_build)
    first = mirror_build(url, tmp_path / "m")
    assert mirror_build(url, tmp_path / "m") == first
    assert server.requests["b/samples.parquet"] == 1
    assert server.requests["b/build.json"] == 2


def test_a_damaged_mirror_is_made_again(server: FlakyServer, small_build: Path, tmp_path: Path) -> None:
    """By hash: a disk that changes a bit leaves the size as it was."""
    url = serve(server, small_build)
    path = mirror_build(url, tmp_path / "m")
    whole = contents(path)
    for name in ("samples.parquet", "stats.json", "ledger.jsonl", "tasks.jsonl"):
        data = whole[name]
        (path / name).write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
        assert contents(mirror_build(url, tmp_path / "m")) == whole


def test_a_verdict_is_looked_up_every_time(server: FlakyServer, small_build: Path, tmp_path: Path) -> None:
    url = serve(server, small_build)
    path = mirror_build(url, tmp_path / "m")
    server.files[f"b/{VERDICT}"] = b"second"
    del server.files[f"b/{SIGNED_VERDICT}"]
    assert mirror_build(url, tmp_path / "m") == path
    assert (path / VERDICT).read_bytes() == b"second"
    assert not (path / SIGNED_VERDICT).exists()
    del server.files[f"b/{VERDICT}"]
    mirror_build(url, tmp_path / "m")
    with pytest.raises(AuditRefusedError, match="not been audited"):
        pass_gate(read_audited(path))
    assert server.requests["b/samples.parquet"] == 1


def test_another_build_at_the_same_url_gets_another_mirror(
    server: FlakyServer, small_build: Path, tmp_path: Path
) -> None:
    url = serve(server, small_build)
    first = mirror_build(url, tmp_path / "m")
    server.files["b/build.json"] += b"\n"
    second = mirror_build(url, tmp_path / "m")
    assert second != first
    assert (first / "build.json").read_bytes() + b"\n" == (second / "build.json").read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(SMALL))
def test_a_mirror_that_lost_a_file_is_made_again(
    server: FlakyServer, small_build: Path, tmp_path: Path, name: str
) -> None:
    url = serve(server, small_build)
    path = mirror_build(url, tmp_path / "m")
    before = contents(path)
    (path / name).unlink()
    assert mirror_build(url, tmp_path / "m") == path
    assert contents(path) == before


@pytest.mark.parametrize("name", sorted(SMALL - {"build.json"}))
def test_a_file_that_build_json_does_not_list_is_refused(
    server: FlakyServer, small_build: Path, tmp_path: Path, name: str
) -> None:
    url = serve(server, small_build)
    listed = hashlib.sha256(server.files[f"b/{name}"]).hexdigest()
    server.files[f"b/{name}"] = server.files[f"b/{name}"].swapcase()
    with pytest.raises(CorruptError, match=f"{name} has SHA-256 .* lists {listed}"):
        mirror_build(url, tmp_path / "m", retry=QUICK)
    assert not any(p.is_dir() for p in (tmp_path / "m").iterdir())


@pytest.mark.slow
def test_an_unfinished_build_is_told_so(server: FlakyServer, small_build: Path, tmp_path: Path, s3: str) -> None:
    url = serve(server, small_build)
    del server.files["b/build.json"]
    for place in (url, f"{s3}/nothing", "s3://nowhere/x", f"file://{tmp_path}/nowhere"):
        with pytest.raises(BuildError, match=r"holds no build\.json: no build, or an unfinished one") as error:
            mirror_build(place, tmp_path / "m", retry=QUICK)
        assert place in str(error.value)


@pytest.mark.parametrize("content", [b"<html>", b"[]", b"{}", b'{"files": {"samples.parquet": 3}}'])
def test_a_build_json_of_another_kind_is_refused(server: FlakyServer, tmp_path: Path, content: bytes) -> None:
    server.add("b/build.json", content)
    with pytest.raises(BuildError, match=r"b/build\.json is not one of this version"):
        mirror_build(f"{server.url}/b", tmp_path / "m", retry=QUICK)


@pytest.mark.slow
def test_a_flaky_server_is_asked_again(server: FlakyServer, small_build: Path, tmp_path: Path) -> None:
    url = serve(server, small_build)
    server.failures.update({f"b/{name}": 1 for name in SMALL})
    server.cut.update({"b/samples.parquet": 1, "b/build.json": 1})
    server.failures[f"b/{VERDICT}"] = 1  # an error is not an answer: it is no missing verdict
    path = mirror_build(url, tmp_path / "m", retry=Retry(attempts=3, delay=0.001))
    assert (path / VERDICT).read_bytes() == b"first"


def test_a_server_that_fails_leaves_no_mirror(server: FlakyServer, small_build: Path, tmp_path: Path) -> None:
    url = serve(server, small_build)
    for name in ("ledger.jsonl", VERDICT, "build.json"):
        server.failures[f"b/{name}"] = 2
        with pytest.raises(BuildError, match=f"b/{name} cannot be read or written, tried 2 times"):
            mirror_build(url, tmp_path / "m", retry=QUICK)
    assert not any(p.is_dir() for p in (tmp_path / "m").glob("*"))
    mirror_build(url, tmp_path / "m", retry=QUICK)


def _mirror(url: str, folder: Path) -> None:
    mirror_build(url, folder, retry=QUICK)


@pytest.mark.slow
def test_a_process_killed_while_it_mirrors_leaves_nothing(
    server: FlakyServer, small_build: Path, tmp_path: Path
) -> None:
    url = serve(server, small_build)
    server.held.add("b/ledger.jsonl")
    process = SPAWN.Process(target=_mirror, args=(url, tmp_path / "m"))
    process.start()
    assert server.half_sent.wait(60)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    server.held.clear()
    assert [p.name[:5] for p in (tmp_path / "m").iterdir() if p.is_dir()] == [".tmp-"]
    path = mirror_build(url, tmp_path / "m")
    assert [p for p in (tmp_path / "m").iterdir() if p.is_dir()] == [path]
    assert set(contents(path)) >= SMALL


@pytest.mark.slow
def test_many_threads_mirror_a_build_once(server: FlakyServer, small_build: Path, tmp_path: Path) -> None:
    url = serve(server, small_build)
    with ThreadPoolExecutor(6) as pool:
        paths = set(pool.map(lambda _: mirror_build(url, tmp_path / "m"), range(6)))
    assert len(paths) == 1
    assert server.requests["b/samples.parquet"] == 1


def test_an_unknown_protocol_is_named(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=r"nosuch://b/x.*use s3://, gs://, https://, http:// or file:///"):
        mirror_build("nosuch://b/x", tmp_path)


def test_http_that_denies_is_not_asked_again(server: FlakyServer, tmp_path: Path) -> None:
    source = server.add("a", b"x")
    server.denied.add("a")
    with pytest.raises(BuildError, match="/a: permission denied"):
        FileCache(tmp_path, 10).open(source)
    server.denied.add("a/build.json")
    with pytest.raises(BuildError, match=r"/a/build\.json: permission denied"):
        mirror_build(source.url, tmp_path / "m")
    assert server.requests == {"a": 1, "a/build.json": 1}


def test_denied_is_not_missing(server: FlakyServer, small_build: Path, tmp_path: Path) -> None:
    """A verdict that may not be read is an error of its own; what nothing depends on may be refused."""
    url = serve(server, small_build)
    server.denied = {"b/croissant.json", f"b/{SIGNED_VERDICT}"}
    path = mirror_build(url, tmp_path / "m", retry=QUICK)
    assert set(contents(path)) == {*SMALL, VERDICT}
    for name in ("build.json", VERDICT):
        server.denied = {f"b/{name}"}
        with pytest.raises(BuildError, match=f"{url}/{name}: permission denied.*credentials"):
            mirror_build(url, tmp_path / "m", retry=QUICK)


def test_what_is_gone_for_good_is_missing(server: FlakyServer, tmp_path: Path) -> None:
    source = server.add("a", b"x")
    server.gone.add("a")
    with pytest.raises(CorruptError, match=r"/a does not exist.*410 Gone"):
        FileCache(tmp_path, 10).open(source)
    assert server.requests == {"a": 1}


def test_a_web_server_is_read_from_alone(server: FlakyServer) -> None:
    place = open_object_store(server.url)
    for act in (lambda: place.write("a", b"x"), place.sizes):
        with pytest.raises(BuildError, match=r"501.*from a web server a build is read, not written"):
            act()


@pytest.mark.slow
def test_an_endpoint_that_is_not_there_is_an_error(s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
    be_impatient(monkeypatch)
    with pytest.raises(BuildError, match=r"s3://builds/x/build\.json cannot be read.*refused.*AWS_ENDPOINT_URL"):
        mirror_build("s3://builds/x", tmp_path, Retry(attempts=1))


def test_a_full_disk_is_not_blamed_on_the_store(server: FlakyServer) -> None:
    source = server.add("a", b"x" * 100_000)
    with pytest.raises(BuildError, match=r"/dev/full cannot be written.*lower trainer\.cache_gb"):  # noqa: SIM117
        with open("/dev/full", "wb", buffering=0) as sink:
            download(source, sink, QUICK)
    assert server.requests["a"] == 1


@pytest.mark.slow
def test_a_server_that_falls_silent_is_given_up(
    server: FlakyServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VLAJEPA_STORE_TIMEOUT", "0.3")
    source = server.add("a", b"x" * 100_000)
    server.held.add("a")
    start = time.monotonic()
    with open(tmp_path / "a", "wb") as sink, pytest.raises(BuildError, match=r"tried 2 times.*Timeout"):
        download(source, sink, QUICK)
    assert time.monotonic() - start < 5


@pytest.mark.parametrize("values", [(0, 1.0), (1, -1.0)])
def test_a_retry_that_is_none_is_refused(values: tuple[int, float]) -> None:
    with pytest.raises(SettingsError):
        Retry(*values)
