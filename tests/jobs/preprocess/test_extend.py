"""A build of a dataset that has grown: exactly the samples of a fresh one, the old shards untouched."""

from __future__ import annotations

import json
import shutil
from dataclasses import fields, replace
from pathlib import Path

import pytest

from jobs.audit.audit import audit
from jobs.audit.settings import AuditConfig
from jobs.preprocess.drop import drop
from jobs.preprocess.extend import extend, preprocess_new
from jobs.preprocess.settings import BuildConfig, DropConfig, ExtendConfig
from pipeline.errors import BuildError
from pipeline.format.build_settings import WindowPolicy
from tests.conftest import SampleData
from tests.jobs.parts_of_builds import WINDOW, digests, killed_at, make_here
from tests.jobs.runs import build_config, build_hashes, ssv2_source

pytestmark = pytest.mark.slow  # several builds of the sample world

NEW = 3


@pytest.fixture(scope="module")
def grown(sample_data: SampleData, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The clips as they are now."""
    return Path(shutil.copytree(sample_data.ssv2, tmp_path_factory.mktemp("grown") / "ssv2"))


@pytest.fixture(scope="module")
def old(grown: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A build of the clips before the last three of the train split came in."""
    root = Path(shutil.copytree(grown, tmp_path_factory.mktemp("before") / "ssv2"))
    edit_labels(root, lambda entries: sorted(entries, key=lambda e: int(e["id"]))[:-NEW])
    out = root.parent / "build"
    make_here(config(out, root))
    return out


@pytest.fixture(scope="module")
def extended(grown: Path, old: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The build of all clips, made without an interruption."""
    build = extend(extension(old, tmp_path_factory.mktemp("extended") / "build", grown), make_here)
    assert build is not None
    return build.path


def config(out: Path, root: Path) -> BuildConfig:
    return build_config(out, ssv2_source(root), window=WINDOW)


def extension(build: Path, out: Path, root: Path) -> ExtendConfig:
    base = config(out, root)
    return ExtendConfig(**{field.name: getattr(base, field.name) for field in fields(BuildConfig)}, build=build)


def edit_labels(root: Path, edit: object) -> None:
    path = root / "labels" / "train.json"
    path.write_text(json.dumps(edit(json.loads(path.read_text()))))  # type: ignore[operator]


def test_an_extended_build_holds_the_samples_of_a_fresh_one(grown: Path, old: Path, tmp_path: Path) -> None:
    before = build_hashes(old)
    build = extend(extension(old, tmp_path / "out", grown), make_here)
    make_here(config(tmp_path / "fresh", grown))
    assert build is not None
    assert digests(build.path) == digests(tmp_path / "fresh")
    assert len(digests(build.path)) == len(digests(old)) + NEW * WINDOW.per_episode
    after = build_hashes(build.path)
    shards = {name for name in before if name.startswith(("train", "val"))}
    assert {name: after[name] for name in shards} == {name: before[name] for name in shards}
    assert build_hashes(old) == before
    assert not (build.path / "work").exists()
    verdict = audit(AuditConfig(build=build.path, level="source", root=grown, nonce="n0", share=1.0))[0]
    assert verdict.findings == ()


def test_nothing_new_writes_nothing(
    grown: Path, extended: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert extend(extension(extended, tmp_path / "again", grown), make_here) is None
    assert "holds every episode of the source already" in capsys.readouterr().out
    assert not (tmp_path / "again").exists()


def test_a_dropped_episode_does_not_come_back(grown: Path, old: Path, tmp_path: Path) -> None:
    gone = next(iter(digests(old))).rpartition("-")[0]
    drop(DropConfig(build=old, out=tmp_path / "without", episode=gone))
    build = extend(extension(tmp_path / "without", tmp_path / "out", grown), make_here)
    assert build is not None
    assert gone not in {key.rpartition("-")[0] for key in digests(build.path)}


def test_other_settings_are_refused(grown: Path, old: Path, tmp_path: Path) -> None:
    changed = replace(extension(old, tmp_path / "out", grown), window=WindowPolicy(interval=3, every=0, per_episode=3))
    with pytest.raises(BuildError, match=r"window\.interval: 2 -> 3"):
        extend(changed, make_here)
    assert not (tmp_path / "out").exists()


def test_what_vanished_or_changed_is_reported_and_kept(
    grown: Path, old: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = Path(shutil.copytree(grown, tmp_path / "ssv2"))

    def edit(entries: list[dict[str, str]]) -> list[dict[str, str]]:
        _gone, second, *rest = sorted(entries, key=lambda e: int(e["id"]))
        second["label"] = "moving [something] elsewhere"
        return [second, *rest]

    edit_labels(root, edit)
    build = extend(extension(old, tmp_path / "out", root), make_here)
    assert build is not None
    assert digests(old).items() <= digests(build.path).items()
    said = capsys.readouterr().out
    assert "1 episodes (ssv2-" in said.split("vanished")[0]
    assert "changed in the source" in said


@pytest.mark.parametrize(
    ("function", "call"),
    [
        ("jobs.preprocess.extend.write_plan", 1),
        ("pipeline.building.shard_jobs.write_record", 1),
        ("pipeline.derived.shards.write_record_table", 3),
        ("pipeline.building.commit.describe_build", 2),
    ],
)
def test_a_killed_run_continues_to_the_same_samples(
    grown: Path, old: Path, extended: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function: str, call: int
) -> None:
    """Killed before the plan of the new episodes, in their shards, while joining, and after the last file."""
    with monkeypatch.context() as patch:
        killed_at(patch, function, call)
        with pytest.raises(KeyboardInterrupt):
            extend(extension(old, tmp_path / "out", grown), make_here)
    build = extend(extension(old, tmp_path / "out", grown), make_here)
    assert build is not None
    assert build_hashes(build.path) == build_hashes(extended)


def test_the_new_shards_come_from_the_cluster(
    grown: Path, old: Path, extended: Path, tmp_path: Path, ray_session: None
) -> None:
    build = extend(extension(old, tmp_path / "out", grown), preprocess_new)
    assert build is not None
    assert build_hashes(build.path) == build_hashes(extended)
    assert list((build.path / "logs").glob("preprocess-*.json"))
