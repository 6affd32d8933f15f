"""`vlajepa push` to the Hub, by the Hub's own client against a stand-in of the Hub."""

from __future__ import annotations

import hashlib
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest

from jobs.audit.settings import VerifyConfig
from jobs.audit.verify import verify
from jobs.sharing import hub as hub_module
from jobs.sharing.contents import Pushed
from jobs.sharing.hashed_file import HashedFile
from jobs.sharing.push import run
from jobs.sharing.settings import PushConfig
from pipeline.audit.levels.run import audit_build
from pipeline.audit.verdicts.attestation import sign_verdict
from pipeline.errors import AuditRefusedError, BuildError, CorruptError, SettingsError
from pipeline.format.file_names import SIGNED_VERDICT, VERDICT
from tests.jobs.sharing.hub_server import TOKEN, Hub
from tests.jobs.test_cli import run as run_words
from tests.pipeline.audit.tiny_build import ROBOT, write_build
from tests.pipeline.audit.verdicts.test_attestation import write_keys

PLACE = "hf://datasets/me/robot"
KEY = "datasets/me/robot"


def push(build: Path, out: str = PLACE, **settings: Any) -> Pushed:
    return run(PushConfig(what=build, out=out, **settings))


def files_of(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize("part", [None, 1000])
def test_every_file_arrives_under_its_name_and_is_audited_from_there(
    hub: Hub, build: Path, tmp_path: Path, part: int | None
) -> None:
    (build / "logs").mkdir(exist_ok=True)
    (build / "logs" / "preprocess.json").write_text("{}")
    hub.part = part
    pushed = push(build)
    repository = hub.repositories[KEY]
    there = {name: data for name, (data, _) in repository.files.items()}
    own = {f"build/{name}": data for name, data in files_of(build).items() if not name.startswith("logs/")}
    assert there == own | {name: there[name] for name in ("README.md", ".gitattributes")}
    assert set(pushed.sent) == set(there) - {".gitattributes"}
    assert not pushed.kept
    assert repository.private
    large = {name for name, (_, large) in repository.files.items() if large}
    assert large == {name for name in own if name.endswith((".tar", ".arrow", ".parquet"))}
    assert repository.commits[-1].startswith("Build tiny, fingerprint ")
    copy = (
        Path(
            huggingface_hub.snapshot_download(
                "me/robot", repo_type="dataset", local_dir=tmp_path / "copy", endpoint=hub.url
            )
        )
        / "build"
    )
    assert any("files:" in line for line in verify(VerifyConfig(build=copy)))
    assert audit_build(copy).status == "clean"


def test_what_is_there_is_not_sent_again(hub: Hub, build: Path) -> None:
    first = push(build)
    again = push(build)
    assert set(again.kept) == set(first.sent)
    assert not again.sent
    assert set(hub.puts.values()) == set(hub.regular.values()) == {1}
    assert len(hub.repositories[KEY].commits) == 2


def test_a_push_that_was_cut_off_goes_on(hub: Hub, build: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Large files that had arrived are not sent again, committed or not; until the end there is no build.json."""
    monkeypatch.setattr(hub_module, "FILES", 3)
    hub.deny_after = 4
    with pytest.raises(BuildError, match="push again"):
        push(build)
    assert "build/build.json" not in hub.repositories[KEY].files
    assert len(hub.repositories[KEY].commits) == 1
    arrived = dict(hub.puts)
    assert len(arrived) == 4
    hub.deny_after = None
    push(build)
    assert all(hub.puts[oid] == count for oid, count in arrived.items())
    assert sha256((build / "build.json").read_bytes()) == sha256(hub.repositories[KEY].files["build/build.json"][0])


def test_a_changed_file_is_refused_and_nothing_is_readable(hub: Hub, build: Path) -> None:
    shard = build / "train" / "targets-000000.arrow"
    data = bytearray(shard.read_bytes())
    data[-100] ^= 1
    shard.write_bytes(data)
    with pytest.raises(CorruptError, match=r"targets-000000\.arrow: its SHA-256 is .* is not pushed"):
        push(build)
    assert sha256(data) not in hub.stored
    assert "build/build.json" not in hub.repositories[KEY].files


def test_a_file_that_changes_between_hashing_and_sending_is_refused(
    hub: Hub, build: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client reads a file twice: what it sends is hashed too."""
    shard, sent = build / "train" / "inputs-000000.tar", []
    seek = HashedFile.seek

    def change(self: HashedFile, offset: int, whence: int = os.SEEK_SET) -> int:
        if self._listed.path == shard and offset == 0 and self.tell() == self._listed.size and not sent:
            data = bytearray(shard.read_bytes())
            data[512] ^= 1
            shard.write_bytes(data)
            sent.append(bytes(data))
        return seek(self, offset, whence)

    monkeypatch.setattr(HashedFile, "seek", change)
    with pytest.raises(CorruptError, match=r"inputs-000000\.tar: its SHA-256 is"):
        push(build)
    assert sent
    assert sha256(sent[0]) not in hub.stored
    assert not any(name.endswith("inputs-000000.tar") for name in hub.repositories[KEY].files)


def test_a_build_without_a_clean_verdict_needs_a_word(hub: Hub, build: Path) -> None:
    (build / VERDICT).unlink()
    with pytest.raises(AuditRefusedError, match=r"has not been audited.*unaudited=true"):
        push(build)
    assert not hub.repositories
    push(build, unaudited=True)
    card = hub.repositories[KEY].files["README.md"][0].decode()
    assert "**No clean verdict.**" in card
    assert "Found **clean**" not in card


def test_the_depth_and_the_signature_that_are_asked_for(hub: Hub, build: Path, tmp_path: Path) -> None:
    private, public = write_keys(tmp_path, "key", 1)
    with pytest.raises(AuditRefusedError, match="'source' is needed"):
        push(build, level="source")
    with pytest.raises(AuditRefusedError, match="is not signed"):
        push(build, public_key=public)
    sign_verdict(build, private)
    push(build, public_key=public)
    card = hub.repositories[KEY].files["README.md"][0].decode()
    assert "Found **clean** at level `shards`. The verdict is signed by the key `" in card
    assert f"build/{SIGNED_VERDICT}" in hub.repositories[KEY].files


def test_a_signature_that_is_gone_goes_there_too(hub: Hub, build: Path, tmp_path: Path) -> None:
    private, _ = write_keys(tmp_path, "key", 1)
    sign_verdict(build, private)
    push(build)
    (build / SIGNED_VERDICT).unlink()
    push(build)
    assert f"build/{SIGNED_VERDICT}" not in hub.repositories[KEY].files
    assert "Nobody signed the verdict." in hub.repositories[KEY].files["README.md"][0].decode()


def test_a_repository_of_something_else_is_refused(hub: Hub, build: Path, tmp_path: Path) -> None:
    push(build)
    other = write_build(tmp_path / "other", replace(ROBOT, seed=7))
    before = dict(hub.repositories[KEY].files)
    with pytest.raises(BuildError, match=r"hf://datasets/me/robot holds another build/build\.json"):
        push(other, unaudited=True)
    assert hub.repositories[KEY].files == before
    hub.repositories[KEY].files["build/extra.bin"] = (b"", False)
    with pytest.raises(BuildError, match=r"holds files that are not of .*: build/extra\.bin"):
        push(build)


def test_a_file_that_the_repository_ignores_is_noticed(hub: Hub, build: Path) -> None:
    hub.ignored = {"build/train/inputs-000000.tar"}
    with pytest.raises(BuildError, match=r"1 files are not there as they were sent, as build/train/inputs-000000\.tar"):
        push(build)


def test_links_are_not_followed(hub: Hub, build: Path, tmp_path: Path) -> None:
    shard = build / "train" / "inputs-000000.tar"
    shard.rename(tmp_path / "elsewhere.tar")
    shard.symlink_to(tmp_path / "elsewhere.tar")
    with pytest.raises(CorruptError, match="cannot be read"):
        push(build)


@pytest.mark.parametrize("answer", ["denied", "unknown", "gone"])
def test_neither_token_nor_signed_addresses_are_shown(
    hub: Hub, build: Path, answer: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    if answer == "denied":
        hub.deny_after = 0
    if answer == "unknown":
        monkeypatch.setenv("HF_TOKEN", "hf_AnotherToken")
    if answer == "gone":
        monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
    code, out, err = run_words(capfd, "push", str(build), f"out={PLACE}")
    assert code == 2
    assert len(err.strip().splitlines()) >= 1
    assert "Traceback" not in err
    for secret in (TOKEN, "hf_AnotherToken", "verysecret", "Bearer"):
        assert secret not in out + err
    assert "vlajepa: hf://datasets/me/robot: " in err


def test_without_a_token_nothing_is_asked(hub: Hub, build: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_module, "get_token", lambda: None)
    with pytest.raises(SettingsError, match="HF_TOKEN"):
        push(build)
    assert not hub.repositories


@pytest.mark.parametrize(
    ("out", "said"),
    [
        ("hf://me/robot", "is a build, which goes to hf://datasets/OWNER/NAME"),
        ("hf://datasets/robot", "is no repository of the Hub"),
        ("hf://datasets/../robot", "is no repository of the Hub"),
        ("hf://spaces/me/robot", "is no repository of the Hub"),
        ("/elsewhere", "a folder is copied with cp"),
        ("https://me:secret@host/x", "credentials"),
    ],
)
def test_other_places_are_refused(hub: Hub, build: Path, out: str, said: str) -> None:
    with pytest.raises((SettingsError, BuildError), match=said) as refused:
        push(build, out)
    assert "secret" not in str(refused.value)
    assert not hub.repositories
