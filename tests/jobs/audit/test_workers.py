"""`vlajepa audit ray=true`: the verdict, the evidence and the claims of one process, by workers that each do a part."""

from __future__ import annotations

import contextlib
import json
import pickle
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from jobs.audit.audit import audit
from jobs.audit.settings import AuditConfig
from jobs.audit.workers import BenchRecipe, recipe_of
from jobs.cluster.settings import ClusterSettings
from pipeline.audit.verdicts.verdict import verdict_bytes
from pipeline.errors import BuildError
from pipeline.format.build import Build
from pipeline.format.libraries import library_versions as build_libraries
from tests.conftest import SampleData
from tests.jobs.runs import build_config, make_here, ssv2_source
from tests.leakage.world import World
from tests.pipeline.audit.levels.scattered import Scattered

CLUSTER = ClusterSettings(num_cpus=2, encoders=2, encoder_cpus=1.0, object_store_mb=256)


def audit_scattered(settings: AuditConfig, patch: pytest.MonkeyPatch) -> tuple[bytes, object]:
    """As `audit` on a cluster, without one."""
    recipe: BenchRecipe = pickle.loads(pickle.dumps(recipe_of(settings, settings.nonce or "", None)))
    with contextlib.ExitStack() as stack, patch.context() as inner:
        runner = Scattered(lambda: stack.enter_context(recipe.open()))
        inner.setattr("jobs.audit.audit._runner", lambda *_: contextlib.nullcontext(runner))
        verdict, evidence = audit(settings)
    return verdict_bytes(verdict), evidence


def audit_here(settings: AuditConfig) -> tuple[bytes, object]:
    verdict, evidence = audit(settings)
    return verdict_bytes(verdict), evidence


@pytest.mark.parametrize("kind", ["video", pytest.param("robot", marks=pytest.mark.slow)])
def test_a_clean_build_in_pieces(
    kind: str,
    video_build: Build,
    robot_build: Build,
    sample_data: SampleData,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    build, root = (video_build, sample_data.ssv2) if kind == "video" else (robot_build, sample_data.lerobot)
    settings = AuditConfig(build=build.path, level="perturb", root=root, nonce="n5", share=0.2)
    here = audit_here(settings)
    assert b'"status": "clean"' in here[0]
    assert audit_scattered(settings, monkeypatch) == here


def test_findings_duplicates_and_pictures_in_pieces(
    sample_data: SampleData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A validation clip that is a train clip, and another clip in the place of one."""
    raw = Path(shutil.copytree(sample_data.ssv2, tmp_path / "raw"))
    train, val = _clips(raw, "train"), _clips(raw, "validation")
    copied = raw / "20bn-something-something-v2"
    shutil.copyfile(copied / f"{train[0]}.webm", copied / f"{val[0]}.webm")
    build = make_here(build_config(tmp_path / "build", ssv2_source(raw), hash_raw=True))
    shutil.copyfile(copied / f"{train[2]}.webm", copied / f"{train[3]}.webm")
    settings = AuditConfig(build=build.path, level="source", root=raw, nonce="n5", share=1.0)
    here = audit_here(settings)
    for text in (b"shows the same as train episode", b"the stored image is not frame", b"the raw file 20bn"):
        assert text in here[0]
    assert here[1].duplicates  # type: ignore[attr-defined]
    assert audit_scattered(settings, monkeypatch) == here


def _clips(raw: Path, split: str) -> list[str]:
    return [row["id"] for row in json.loads((raw / "labels" / f"{split}.json").read_text())]


def test_residuals_of_an_inexact_audit_in_pieces(
    sample_data: SampleData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        world = World(tmp_path, sample_data, patch, "video")
        patch.setattr("jobs.preprocess.plan.library_versions", lambda: {**build_libraries(), "pillow": "1.2.3"})
        world.claimed_dtype = "bfloat16"
        build = world.build()
    settings = AuditConfig(build=build, level="source", root=world.raw, nonce="n0", share=1.0, inexact=True)
    here = audit_here(settings)
    assert b"would have been found with 99 % certainty" in here[0]
    assert audit_scattered(settings, monkeypatch) == here


def test_a_worker_with_another_build_or_libraries_is_refused(video_build: Build, sample_data: SampleData) -> None:
    recipe = recipe_of(AuditConfig(build=video_build.path), "n5", None)
    with pytest.raises(BuildError, match="another build on a worker"), replace(recipe, build_sha256="0").open():
        pass
    recipe = replace(recipe, versions=(("numpy", "0.1"),))
    with pytest.raises(BuildError, match=r"a worker has numpy .*, the audit was begun with 0\.1"), recipe.open():
        pass


def test_settings_of_a_cluster_need_ray(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="ray=true alone"):
        AuditConfig(build=tmp_path, cluster=CLUSTER)
    with pytest.raises(ValueError, match="level shards, source or perturb"):
        AuditConfig(build=tmp_path, ray=True, level="manifest")


@pytest.mark.slow
@pytest.mark.parametrize("level", ["shards", "source", "perturb"])
def test_on_ray(level: str, video_build: Build, sample_data: SampleData, ray_session: None) -> None:
    settings = AuditConfig(build=video_build.path, level=level, root=sample_data.ssv2, nonce="n5", share=0.2)
    assert audit_here(replace(settings, ray=True, cluster=CLUSTER)) == audit_here(settings)
