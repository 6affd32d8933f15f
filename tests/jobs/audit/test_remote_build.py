"""Builds on S3 are audited, verified and let into training there: the same verdict, to the byte, as on a disk."""

from __future__ import annotations

import errno
import json
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import pytest

from jobs.audit import audit as audit_command
from jobs.audit.audit import audit, sheets
from jobs.audit.remote_build import RemoteBuild, remote_build
from jobs.audit.settings import AuditConfig, VerifyConfig
from jobs.audit.verify import verify
from jobs.cluster.settings import ClusterSettings
from jobs.training.builds.open_builds import open_audited
from jobs.training.loop.settings import TrainerSettings
from pipeline.audit.build import open_build
from pipeline.audit.entries import ShardEntry
from pipeline.audit.levels.run import audit_build
from pipeline.audit.verdicts.verdict import RuleCount, verdict_bytes, write_verdict
from pipeline.errors import AuditRefusedError, BuildError
from pipeline.format.build import Build
from pipeline.format.file_names import HISTORY, SIGNED_VERDICT, VERDICT
from pipeline.storage import object_store
from pipeline.storage.object_store import open_object_store
from pipeline.storage.retry import Retry
from tests.conftest import SampleData
from tests.jobs.test_cli import run
from tests.leakage.tools import ARROW, TAR
from tests.pipeline.audit.tiny_build import ROBOT, TinyEpisode, write_build
from tests.pipeline.audit.verdicts.test_attestation import write_keys
from tests.pipeline.storage.flaky_proxy import FlakyProxy, even_rates
from tests.pipeline.storage.s3_server import be_impatient, put_object, s3_server, upload


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    with s3_server() as bucket:
        yield bucket


@pytest.fixture
def local(tmp_path: Path) -> Path:
    return write_build(tmp_path / "build")


@pytest.fixture
def url(s3: str) -> str:
    """A place of its own."""
    return f"{s3}/{uuid.uuid4().hex}/build"


def objects(url: str) -> dict[str, bytes]:
    store = open_object_store(url)
    return {name: store.read(name) for name in store.sizes() if not name.endswith("/")}


def put(url: str, name: str, data: bytes) -> None:
    put_object(f"{url}/{name}", data)


def remove(url: str, name: str) -> None:
    open_object_store(url).remove(name)


@pytest.mark.slow
def test_a_build_is_audited_where_it_lies(
    local: Path, url: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    upload(local, url)
    before = objects(url)
    code, out, _ = run(capsys, "audit", url)
    assert code == 0
    assert f"verdict: {url}/{VERDICT}\nreport: {url}/audit/report.html" in out
    assert run(capsys, "audit", str(local))[0] == 0
    names = (VERDICT, "audit/report.html")
    after = objects(url)
    (kept,) = [name for name in after if name.startswith(HISTORY)]
    assert json.loads(after.pop(kept))["verdict"].encode() == after[VERDICT]
    assert after == before | {name: (local / name).read_bytes() for name in names}
    assert list(scratch.iterdir()) == []


def full_disk(*_: object) -> NoReturn:
    raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))


@pytest.mark.slow
@pytest.mark.parametrize("fails", ["write_report", "write_verdict"])
def test_a_leak_reaches_the_bucket_whatever_fails_here(
    local: Path, url: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    assert run(capsys, "audit", str(local))[0] == 0
    upload(local, url)
    put(url, ARROW, _flipped(local, ARROW))
    if fails == "write_report":
        monkeypatch.setattr(audit_command, fails, full_disk)
    else:  # the disk is full before the verdict is written, and after the clean one was removed
        monkeypatch.setattr("pipeline.audit.verdicts.verdict.archive", full_disk)
    code, out, said = run(capsys, "audit", url)
    assert code == 1
    assert "LEAK: 21 samples" in out
    assert f"{url} cannot be written: File too large; free space there, and audit again" in said
    there = objects(url)
    assert "audit/report.html" not in there
    assert fails == "write_verdict" or json.loads(there[VERDICT])["status"] == "leak"
    with pytest.raises(AuditRefusedError):
        open_audited(url, allow_leaky=False, settings=TrainerSettings(cache_folder=local.parent / "cache"))


@pytest.mark.slow
def test_a_leak_takes_the_place_of_a_verdict_that_may_not_be_removed(
    local: Path, url: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(capsys, "audit", str(local))[0] == 0
    upload(local, url)
    put(url, ARROW, _flipped(local, ARROW))

    def refuse(store: object, name: str) -> NoReturn:
        raise BuildError(f"{name}: permission denied (DELETE)")

    with monkeypatch.context() as patch:
        patch.setattr("pipeline.storage.object_store.ObjectStore.remove", refuse)
        code, out, said = run(capsys, "audit", url)
    assert (code, "LEAK: 21 samples" in out, "permission denied (DELETE)" in said) == (1, True, True)
    assert json.loads(objects(url)[VERDICT])["status"] == "leak"


def test_no_page_of_a_clean_verdict_stays_beside_a_leak(
    local: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(capsys, "audit", str(local))[0] == 0
    assert (local / "audit/report.html").exists()
    (local / ARROW).write_bytes(_flipped(local, ARROW))
    monkeypatch.setattr(audit_command, "write_report", full_disk)
    assert run(capsys, "audit", str(local))[0] == 1
    assert json.loads((local / VERDICT).read_bytes())["status"] == "leak"
    assert not (local / "audit/report.html").exists()


def _flipped(build: Path, name: str) -> bytes:
    data = (build / name).read_bytes()
    return data[:-1] + bytes([data[-1] ^ 1])


def _flip(name: str) -> Callable[[dict[str, bytes]], None]:
    def edit(files: dict[str, bytes]) -> None:
        files[name] = files[name][:-1] + bytes([files[name][-1] ^ 1])

    return edit


@pytest.mark.slow
@pytest.mark.parametrize(
    ("edit", "says"),
    [
        (lambda files: files.update({"notes.txt": b"frame 12 follows"}), "notes.txt: is not listed"),
        (lambda files: files.update({"hidden/deep/a": b"x", "hidden/b": b"x"}), "hidden: is a folder that does not"),
        (lambda files: files.update({"croissant.json": b"{}"}), "croissant.json: is not what build.json gives"),
        (lambda files: files.pop(ARROW), f"{ARROW}: listed in build.json, but missing"),
        (_flip(ARROW), f"{ARROW}: has SHA-256"),
        (_flip("ledger.jsonl"), "ledger.jsonl: has SHA-256"),
        (lambda files: files.update({TAR: files[TAR] + b"more"}), f"{TAR}: has "),
        (lambda files: files.update({ARROW: b""}), f"{ARROW}: has 0 bytes"),
    ],
)
def test_what_is_wrong_with_objects_is_what_is_wrong_with_files(
    edit: Callable[[dict[str, bytes]], object], says: str, local: Path, url: str
) -> None:
    files = {path.relative_to(local).as_posix(): path.read_bytes() for path in local.rglob("*") if path.is_file()}
    edit(files)
    shutil.rmtree(local)
    for name, data in files.items():
        (local / name).parent.mkdir(parents=True, exist_ok=True)
        (local / name).write_bytes(data)
        put(url, name, data)
    with remote_build(url) as place:
        there = audit_build(place.root, fetcher=place)
        pictures = sheets(place.root, there, place)
    here = audit_build(local)
    assert verdict_bytes(there) == verdict_bytes(here)
    assert pictures == sheets(local, here)
    assert any(says in f"{finding.file}: {finding.detail}" for finding in there.findings)


@pytest.mark.slow
@pytest.mark.parametrize("level", ["source", "perturb"])
def test_a_deep_audit_finds_the_same_there(level: str, video_build: Build, sample_data: SampleData, url: str) -> None:
    upload(video_build.path, url)
    settings = AuditConfig(build=video_build.path, level=level, root=sample_data.ssv2, nonce="n5", share=0.2)
    here, shown_here = audit(settings)
    with remote_build(url) as place:
        there, shown_there = audit(replace(settings, build=place.root), fetcher=place)
    assert here.status == "clean"
    assert verdict_bytes(there) == verdict_bytes(here)
    assert shown_there == shown_here


@pytest.mark.slow
@pytest.mark.parametrize("level", ["shards", "source"])
def test_workers_of_a_cluster_fetch_their_own_shards(
    level: str, video_build: Build, sample_data: SampleData, url: str, ray_session: None
) -> None:
    upload(video_build.path, url)
    cluster = ClusterSettings(num_cpus=2, encoders=2, object_store_mb=256)
    settings = AuditConfig(build=video_build.path, level=level, root=sample_data.ssv2, nonce="n5", share=0.2)
    here = verdict_bytes(audit(settings)[0])
    with remote_build(url) as place:
        there, _ = audit(replace(settings, build=place.root, ray=True, cluster=cluster), fetcher=place)
        assert not list(place.root.glob("*/*.tar"))
    assert verdict_bytes(there) == here


@pytest.mark.slow
def test_what_keeps_an_audit_from_being_made_is_the_same_and_names_the_url(local: Path, url: str) -> None:
    upload(local, url)
    for name in ("samples.parquet", "tasks.jsonl"):
        (local / name).unlink()
        remove(url, name)
        with pytest.raises(BuildError, match=f"{name} is missing") as here:
            audit_build(local)
        with pytest.raises(BuildError) as there, remote_build(url) as place:
            audit_build(place.root, fetcher=place)
        assert str(there.value) == str(here.value).replace(str(local), url)


@pytest.mark.slow
def test_marks_of_folders_are_no_findings_unless_they_hold_something(
    local: Path, url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    upload(local, url)
    for name in ("", "train/", "audit/"):
        put(url, name, b"")
    assert run(capsys, "audit", url)[0] == 0
    put(url, "train/", b"what comes next")
    put(url, "frame 12 follows/", b"")
    code, out, _ = run(capsys, "audit", url)
    assert code == 1
    assert "train/: is not listed in build.json" in out
    assert "frame 12 follows: is a folder that does not belong to a build" in out


@pytest.mark.slow
def test_two_shards_lie_on_the_disk_at_a_time(tmp_path: Path, url: str) -> None:
    episodes = tuple(TinyEpisode(f"ep_{i}", "train", i, 11) for i in range(5))
    world = replace(ROBOT, episodes=(*episodes, TinyEpisode("ep_v", "val", 0, 11)))
    local = write_build(tmp_path / "build", world)
    upload(local, url)
    seen: list[int] = []
    with remote_build(url) as place:

        def count(_done: int, _total: int) -> None:
            seen.append(sum(1 for path in place.root.glob("*/*-0*") if path.is_file()))

        verdict = audit_build(place.root, progress=count, fetcher=place)
        assert not list(place.root.glob("*/*.tar"))
    assert verdict == audit_build(local)
    assert len(seen) == 7
    assert max(seen) <= 4  # two files each


@pytest.mark.slow
def test_training_accepts_what_was_audited_there(
    local: Path, url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = TrainerSettings(cache_folder=tmp_path / "cache")
    upload(local, url)
    with pytest.raises(AuditRefusedError, match="has not been audited"):
        open_audited(url, False, settings)
    assert run(capsys, "audit", url)[0] == 0
    assert open_audited(url, False, settings).build.remote == url
    put(url, "notes.txt", b"x")
    assert run(capsys, "audit", url)[0] == 1
    with pytest.raises(AuditRefusedError, match="the build was not found clean"):
        open_audited(url, False, settings)


@pytest.mark.slow
def test_a_build_is_verified_where_it_lies(
    local: Path, url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    private, public = write_keys(tmp_path, "key", 1)
    upload(local, url)
    code, out, _ = run(capsys, "audit", url, f"sign_key={private}")
    assert code == 0
    assert f"signed: {url}/{SIGNED_VERDICT}" in out
    before = objects(url)
    code, out, _ = run(capsys, "verify", url, f"public_key={public}")
    assert code == 0
    assert "files: 11 with" in out
    assert f"VERIFIED: {url}" in out
    for name, data, says in (
        (ARROW, before[ARROW][:-1] + b"?", f"{ARROW} has another SHA-256"),
        (TAR, before[TAR] + b"?", f"{TAR} has {len(before[TAR]) + 1} bytes"),
        ("samples.parquet", before["samples.parquet"][:-1] + b"?", "samples.parquet has another SHA-256"),
        (ARROW, None, f"{ARROW} is missing"),
    ):
        put(url, name, data) if data is not None else remove(url, name)
        with remote_build(url) as place, pytest.raises(AuditRefusedError, match=f"1 files changed .*: {says}"):
            verify(VerifyConfig(build=place.root), place)
        put(url, name, before[name])
    put(url, "build.json", before["build.json"] + b"\n")
    code, out, err = run(capsys, "verify", url)
    assert (code, out) == (1, "")
    assert f"NOT VERIFIED: {url}/{VERDICT}: it is about a build.json with SHA-256" in err


@pytest.mark.slow
def test_a_signature_goes_with_its_verdict(
    local: Path, url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    private, _ = write_keys(tmp_path, "key", 1)
    upload(local, url)
    assert run(capsys, "audit", url, f"sign_key={private}")[0] == 0
    put(url, "notes.txt", b"x")
    assert run(capsys, "audit", url)[0] == 1
    after = objects(url)
    assert SIGNED_VERDICT not in after
    kept = [json.loads(data) for name, data in after.items() if name.startswith(HISTORY)]
    assert [bool(entry["signed_by"]) for entry in sorted(kept, key=lambda e: e["status"])] == [True, False]


@pytest.mark.slow
def test_a_deeper_verdict_is_kept(local: Path, url: str, capsys: pytest.CaptureFixture[str]) -> None:
    write_verdict(local, replace(audit_build(local), level="perturb"))
    upload(local, url)
    before = objects(url)
    code, out, _ = run(capsys, "audit", url)
    assert code == 0
    assert "is of level perturb, deeper than this one" in out
    after = objects(url)
    assert after[VERDICT] == before[VERDICT]
    assert "audit/report.html" not in after
    assert len([name for name in after if name.startswith(HISTORY)]) == 2


@pytest.mark.slow
def test_level_manifest_fetches_no_shard(local: Path, url: str, capsys: pytest.CaptureFixture[str]) -> None:
    upload(local, url)
    remove(url, ARROW)
    assert run(capsys, "audit", url, "level=manifest")[0] == 0
    found = objects(url)
    assert "audit/verdict-manifest.json" in found
    assert VERDICT not in found


@pytest.mark.slow
def test_what_cannot_be_audited_has_another_exit_code(
    local: Path, url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for command, place in (("audit", url), ("verify", "s3://no-such-bucket/build")):
        code, _, err = run(capsys, command, place)
        assert code == 2
        assert f"{place} holds no build.json" in err
    upload(local, url)
    put(url, "build.json", b"{")
    code, _, err = run(capsys, "audit", url)
    assert code == 2
    assert f"{url}/build.json" in err
    assert VERDICT not in objects(url)


@pytest.fixture
def flaky(s3: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[FlakyProxy]:
    """A proxy that every store finds in the environment; a request is given up quickly and tried again at once."""
    made = FlakyProxy(os.environ["AWS_ENDPOINT_URL"], seed=2)
    be_impatient(monkeypatch)
    monkeypatch.setattr(object_store, "Retry", lambda **_: Retry(attempts=25, delay=0.0))
    with made.running() as address:
        monkeypatch.setenv("AWS_ENDPOINT_URL", address)
        yield made


@pytest.mark.slow
def test_a_flaky_store_changes_no_verdict(
    local: Path, url: str, flaky: FlakyProxy, capsys: pytest.CaptureFixture[str]
) -> None:
    upload(local, url)
    flaky.rates = even_rates(0.4)
    assert run(capsys, "audit", url)[0] == 0
    assert run(capsys, "verify", url)[0] == 0
    flaky.rates = {}
    assert flaky.injected > 15
    run(capsys, "audit", str(local))
    assert objects(url)[VERDICT] == (local / VERDICT).read_bytes()


@pytest.mark.slow
def test_a_store_that_fails_leaves_no_verdict(
    local: Path, url: str, flaky: FlakyProxy, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(object_store, "Retry", lambda **_: Retry(attempts=2, delay=0.0))
    write_verdict(local, replace(audit_build(local), samples=0))  # clean, and another than the one to come
    upload(local, url)
    flaky.forced = {"PUT": ["503"] * 2}
    code, out, err = run(capsys, "audit", url)
    assert code == 2
    assert "cannot be read or written, tried 2 times" in err
    assert "verdict:" not in out
    assert VERDICT not in objects(url)


def test_an_entry_knows_its_files(local: Path) -> None:
    shard = open_build(local).shards[0]
    assert shard.files == (shard.inputs, shard.targets)


@pytest.mark.slow
def test_a_verdict_that_came_during_the_audit_is_kept(
    local: Path, url: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = audit_build(local)
    deeper = replace(found, level="perturb", rules=found.rules | {"L2": RuleCount(3, 1)})
    upload(local, url)

    def slow(*args: Any) -> Any:
        put(url, VERDICT, verdict_bytes(deeper))
        return real(*args)

    real = audit_command.audit
    monkeypatch.setattr(audit_command, "audit", slow)
    code, out, _ = run(capsys, "audit", url)
    assert code == 0
    assert "is of level perturb, deeper than this one" in out
    assert objects(url)[VERDICT] == verdict_bytes(deeper)


def test_a_place_that_gives_other_files_to_a_deeper_level(
    video_build: Build, sample_data: SampleData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What level `shards` hashed must be what level `source` compares: else one file is vouched for by the other."""
    there = Path(shutil.copytree(video_build.path, tmp_path / "there"))
    seen: set[str] = set()
    real = RemoteBuild.present

    def present(self: RemoteBuild, shard: ShardEntry) -> AbstractContextManager[None]:
        if shard.inputs.path in seen:  # the second round: the last byte of a tar says nothing that is compared
            for path in there.glob("*/inputs-*.tar"):
                path.write_bytes(path.read_bytes()[:-1] + b"x")
        seen.add(shard.inputs.path)
        return real(self, shard)

    monkeypatch.setattr(RemoteBuild, "present", present)
    with remote_build(f"file://{there}") as place:
        settings = AuditConfig(build=place.root, level="source", root=sample_data.ssv2, nonce="n5", share=0.2)
        found, _ = audit(settings, fetcher=place)
    assert {finding.file for finding in found.findings} == {entry.inputs.path for entry in open_build(there).shards}
    assert all("has SHA-256" in finding.detail for finding in found.findings)
