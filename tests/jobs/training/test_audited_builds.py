"""The gate of training, attacked: signatures, files changed after the audit, malformed metadata, builds that leak into
each other."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from jobs.training.builds.common_sizes import common_sizes
from jobs.training.builds.open_builds import open_audited, open_builds
from jobs.training.loop.settings import TrainerSettings
from jobs.training.run import run_state
from jobs.training.settings import TrainConfig
from model.settings import ModelSettings
from pipeline.audit.levels.run import audit_build
from pipeline.audit.verdicts.attestation import require_signature, sign_verdict
from pipeline.audit.verdicts.verdict import verdict_bytes, write_verdict
from pipeline.errors import AuditRefusedError, BuildError, CorruptError, RunError
from pipeline.format.enums import AuditLevel
from pipeline.format.file_names import SIGNED_VERDICT, VERDICT
from pipeline.format.text.differences import first_difference
from pipeline.streaming.reader import SampleReader
from tests.leakage.tools import edit_json, edit_tasks
from tests.pipeline.audit.tiny_build import ROBOT, ROBOT_EPISODES, TinyEpisode, TinyWorld, pretty, rehash, write_build
from tests.pipeline.audit.verdicts.test_attestation import write_keys


def audited(folder: Path, world: TinyWorld = ROBOT) -> Path:
    build = write_build(folder, world)
    write_verdict(build, audit_build(build))
    return build


@pytest.fixture
def build(tmp_path: Path) -> Path:
    return audited(tmp_path / "build")


def config(*builds: Path, **trainer: Any) -> TrainConfig:
    return TrainConfig(out=Path("/nowhere"), builds=tuple(map(str, builds)), trainer=TrainerSettings(**trainer))


def signer(build: Path, **trainer: Any) -> tuple[str, bool]:
    """Who signed as a run writes it down, and whether that was checked."""
    voucher = open_builds(config(build, **trainer))[0].voucher
    return voucher.signed_by, voucher.checked


def trust_again(build: Path) -> None:
    """What an attacker does who can write a verdict: one that is clean, of the build.json as it is now."""
    rehash(build)
    forge(build)


def forge(build: Path) -> None:
    """A clean verdict on the bytes of build.json, whatever they are."""
    raw = (build / "build.json").read_bytes()
    old = json.loads((build / VERDICT).read_bytes())
    try:
        fingerprint = json.loads(raw)["fingerprint"]
    except (ValueError, KeyError, TypeError, RecursionError):
        fingerprint = old["fingerprint"]
    old |= {"build_sha256": hashlib.sha256(raw).hexdigest(), "fingerprint": fingerprint}
    (build / VERDICT).write_bytes(pretty(old))


def test_without_a_key_what_a_signature_claims_is_recorded(build: Path, tmp_path: Path) -> None:
    assert signer(build) == ("unsigned", False)
    private, public = write_keys(tmp_path, "key", 1)
    sign_verdict(build, private)
    own = require_signature(build, public)
    assert signer(build) == (own, False)
    assert signer(build, public_key=public) == (own, True)


def test_a_signature_of_another_build_claims_nothing(build: Path, tmp_path: Path) -> None:
    other = audited(tmp_path / "other", replace(ROBOT, seed=1))
    sign_verdict(other, write_keys(tmp_path, "key", 1)[0])
    (build / SIGNED_VERDICT).write_bytes((other / SIGNED_VERDICT).read_bytes())
    assert signer(build) == ("unsigned", False)


def test_a_verdict_that_is_not_deep_enough_is_refused(build: Path) -> None:
    with pytest.raises(AuditRefusedError, match=r"its level is .shards., .source. is needed"):
        open_builds(config(build, audit_level=AuditLevel.SOURCE))
    with pytest.raises(ValueError, match="audit_level must be shards or deeper"):
        config(build, audit_level=AuditLevel.MANIFEST)


def test_with_a_key_unsigned_and_foreign_verdicts_are_refused(build: Path, tmp_path: Path) -> None:
    own, foreign = write_keys(tmp_path, "key", 1), write_keys(tmp_path, "foreign", 2)
    with pytest.raises(AuditRefusedError, match="the newest verdict is not signed"):
        open_builds(config(build, public_key=own[1]))
    clean = (build / VERDICT).read_text()
    (build / VERDICT).write_text(clean.replace('"clean"', '"leaky"'))
    with pytest.raises(AuditRefusedError, match="the build was not found clean"):
        open_builds(config(build, public_key=own[1]))
    (build / VERDICT).write_text(clean)
    sign_verdict(build, foreign[0])
    with pytest.raises(AuditRefusedError, match="is signed by"):
        open_builds(config(build, public_key=own[1]))
    sign_verdict(build, own[0])
    forged = json.loads((build / VERDICT).read_bytes()) | {"level": "perturb"}
    (build / VERDICT).write_bytes(pretty(forged))
    with pytest.raises(AuditRefusedError, match="about another verdict"):
        open_builds(config(build, public_key=own[1]))


def test_a_key_that_is_none_is_named(build: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"nothing\.pem: no such file; give the PEM public key"):
        open_builds(config(build, public_key=tmp_path / "nothing.pem"))


def test_statistics_changed_after_the_audit_are_refused(build: Path) -> None:
    """They scale every action; nothing else would notice."""
    stats = json.loads((build / "stats.json").read_bytes())
    stats["action"]["max"][0] *= 2
    (build / "stats.json").write_bytes(pretty(stats))
    with pytest.raises(CorruptError, match=r"stats\.json has SHA-256"):
        common_sizes([one.build for one in open_builds(config(build))], ModelSettings())


@pytest.mark.parametrize("name", ["samples.parquet", "stats.json", "tasks.jsonl"])
@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(path.read_bytes()[:-1] + b"\x00"),
        lambda path: path.unlink(),
        lambda path: (path.unlink(), os.mkfifo(path)),
        lambda path: (path.unlink(), path.mkdir()),
    ],
)
def test_every_metadata_file_is_the_audited_one(build: Path, name: str, damage: Callable[[Path], object]) -> None:
    opened = open_builds(config(build))[0].build
    damage(build / name)
    with pytest.raises(BuildError, match=name):
        opened.read_file(name)


def test_the_manifest_of_the_reader_is_hashed_from_the_bytes_it_parses(build: Path) -> None:
    opened = open_builds(config(build))[0].build
    data = (build / "samples.parquet").read_bytes()
    (build / "samples.parquet").write_bytes(data[:-1] + b"x")
    with pytest.raises(CorruptError, match=r"samples\.parquet has SHA-256"):
        SampleReader(opened, "train")


def _paths(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path] * bool(path) + [found for key, item in inner for found in _paths(item, (*path, key))]


def _put(document: Any, path: tuple[Any, ...], value: Any) -> None:
    for key in path[:-1]:
        document = document[key]
    if value is KeyError:
        del document[path[-1]]
    else:
        document[path[-1]] = value


def hash_of(path: tuple[Any, ...]) -> int:
    """Which of the values a place is given: the same in every run."""
    return sum(str(path).encode())


JUNK = (None, True, -1, 10**400, 1.5, "", "../../etc/passwd", "\x1b[2J\n", [], {}, KeyError)


def test_malformed_metadata_ends_in_one_line(build: Path) -> None:
    """Every value of build.json and stats.json replaced, hashes and verdict made to fit: one clear error, or none."""
    originals = {name: (build / name).read_bytes() for name in ("build.json", "stats.json", VERDICT)}
    refused = 0
    for name in ("build.json", "stats.json"):
        for path in _paths(json.loads(originals[name])):
            for junk in JUNK[hash_of(path) % 4 :: 4]:
                for other, data in originals.items():
                    (build / other).write_bytes(data)
                document = json.loads(originals[name])
                _put(document, path, junk)
                (build / name).write_bytes(pretty(document))
                forge(build) if name == "build.json" else trust_again(build)
                refused += _refused(build)
    assert refused > 200


def _refused(build: Path) -> bool:
    try:
        opened = [one.build for one in open_builds(config(build))]
        common_sizes(opened, ModelSettings())
        SampleReader(opened[0], "train")
    except RunError as error:
        return str(error).isprintable() or pytest.fail(f"more than one line: {error}")
    return False


@pytest.mark.parametrize("raw", [b"", b"[]", b"\xff", b"[" * 100_000, b'{"leaky": true, "leaky": false}', b"NaN"])
def test_a_build_json_that_is_none_ends_in_one_line(build: Path, raw: bytes) -> None:
    (build / "build.json").write_bytes(raw)
    forge(build)
    with pytest.raises(RunError) as error:
        open_builds(config(build))
    assert str(error.value).isprintable()


def test_a_verdict_cannot_forge_lines(build: Path) -> None:
    verdict = json.loads((build / VERDICT).read_bytes())
    (build / VERDICT).write_bytes(pretty(verdict | {"fingerprint": "\x1b[2K\nVERIFIED \u202e"}))
    with pytest.raises(AuditRefusedError, match=r"\\x1b\[2K\\x0aVERIFIED \\u202e"):
        open_builds(config(build))


@pytest.mark.parametrize("name", ["audit", VERDICT, SIGNED_VERDICT, "build.json"])
def test_links_are_refused(build: Path, tmp_path: Path, name: str) -> None:
    sign_verdict(build, write_keys(tmp_path, "key", 1)[0])
    (build / name).rename(tmp_path / "elsewhere")
    (build / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(AuditRefusedError, match=r"is a link or no regular file"):
        open_builds(config(build))


def _moved(source: str) -> TinyWorld:
    """The world under another name: of its episodes the first is held out, and another one is trained on."""
    first, unusable, second, _ = ROBOT_EPISODES
    episodes = (replace(first, split="val"), unusable, second, TinyEpisode("ep_d", "train", 0, 13))
    return replace(ROBOT, name=source, episodes=episodes, seed=1)


def test_an_episode_that_another_build_holds_out_is_refused_by_name(build: Path, tmp_path: Path) -> None:
    other = audited(tmp_path / "other", _moved("renamed"))
    with pytest.raises(AuditRefusedError, match=r"episode ep_a is in train of .*build and in val of .*other as ep_a"):
        open_builds(config(build, other))
    with pytest.raises(AuditRefusedError, match=r"episode ep_a is in train of .*build and in val of .*other as ep_a"):
        open_builds(config(other, build))


def test_builds_that_split_alike_are_trained_together(build: Path, tmp_path: Path) -> None:
    other = audited(tmp_path / "other", replace(ROBOT, name="renamed", seed=1))
    assert len(open_builds(config(build, other))) == 2


def _hashed(build: Path, rename: Callable[[str], str]) -> None:
    """As if planned with `hash_raw`, from files that have other names."""

    def edit(tasks: list[Any]) -> None:
        for ref in (ref for task in tasks for ref in task["episodes"]):
            ref["sha256"] = [f"{sum(ref['id'].encode()):064x}" for _ in ref["files"]]
            ref["files"] = [[rename(path), size] for path, size in ref["files"]]

    edit_json(build, "build.json", lambda d: d["settings"].update(hash_raw=True), repair=False)
    edit_tasks(build, edit)
    (build / VERDICT).write_bytes(verdict_bytes(audit_build(build)))


def test_a_renamed_copy_is_known_by_its_hash(build: Path, tmp_path: Path) -> None:
    other = audited(tmp_path / "other", _moved("renamed"))
    _hashed(other, lambda path: f"copies/{path}")
    assert len(open_builds(config(build, other))) == 2
    _hashed(build, lambda path: path)
    with pytest.raises(AuditRefusedError, match="episode ep_a is in train of"):
        open_builds(config(build, other))


def test_no_key_vouches_for_a_build_that_is_stamped_leaky(build: Path, tmp_path: Path) -> None:
    """The stamp is in reach of whoever can write the build; it must not lead around the key."""
    edit_json(build, "build.json", lambda content: content.update(leaky=True))
    public = write_keys(tmp_path, "key", 1)[1]
    with pytest.raises(AuditRefusedError, match=r"is stamped leaky, and no key vouches"):
        open_audited(str(build), True, TrainerSettings(public_key=public))


def test_a_resumed_run_has_the_same_bytes_of_build_json(build: Path) -> None:
    (opened,) = open_builds(config(build))
    sizes, _ = common_sizes([opened.build], ModelSettings())
    before, after = (run_state(config(build), [one], sizes) for one in (opened, replace(opened, sha256="0" * 64)))
    assert first_difference(before, after).startswith("build_sha256.tiny was ")
