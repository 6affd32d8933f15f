"""Builds by leaky pipelines: every file is in order, and the raw data or an experiment shows the leak.

Level "shards" must find nothing, or the mutant's level would be wrong. At level "perturb"
the build is made by honest code, and level "source" must find nothing.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from jobs.audit import audit
from jobs.config import AuditConfig
from pipeline.audit.verdict import Verdict
from tests.conftest import SampleData
from tests.leakage.mutants import LEAKY_CODE, LEAKY_PIPELINES
from tests.leakage.mutants.leaky import LeakyPipeline
from tests.leakage.world import World


def _look(world: World, build: Path, level: str) -> Verdict:
    return audit(AuditConfig(build, level, root=world.raw, seed=0, share=1.0))[0]


def _said(verdict: Verdict, mutant: LeakyPipeline) -> bool:
    return any(f.rule == mutant.rule and mutant.says in f.detail for f in verdict.findings)


@pytest.fixture(scope="module")
def honest_build(sample_data: SampleData, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    with pytest.MonkeyPatch.context() as patch:
        return {
            kind: World(tmp_path_factory.mktemp(kind), sample_data, patch, kind).build() for kind in ("video", "robot")
        }


@pytest.mark.parametrize("mutant", LEAKY_PIPELINES, ids=lambda m: f"{m.name}-{m.kind}-{m.rule}")
def test_leaky_pipeline_is_found_beside_the_raw_data(
    sample_data: SampleData, tmp_path: Path, mutant: LeakyPipeline
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        world = World(tmp_path, sample_data, patch, mutant.kind)
        mutant.apply(world)
        build = world.build()
    assert _look(world, build, "shards").findings == ()
    verdict = _look(world, build, "source")
    assert verdict.exit_code == 1
    assert _said(verdict, mutant), verdict.findings


@pytest.mark.parametrize("mutant", LEAKY_CODE, ids=lambda m: f"{m.name}-{m.kind}-{m.rule}")
def test_leaky_code_is_found_by_experiment(
    sample_data: SampleData, honest_build: dict[str, Path], tmp_path: Path, mutant: LeakyPipeline
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        world = World(tmp_path, sample_data, patch, mutant.kind)
        mutant.apply(world)
        build = honest_build[mutant.kind]
        assert _look(world, build, "source").findings == ()
        verdict = _look(world, build, "perturb")
    assert _said(verdict, mutant), verdict.findings


@pytest.mark.parametrize("kind", ["video", "robot"])
def test_honest_builds_have_no_finding_at_the_deepest_level(
    sample_data: SampleData, honest_build: dict[str, Path], tmp_path: Path, kind: str
) -> None:
    world = World(tmp_path, sample_data, pytest.MonkeyPatch(), kind)
    verdict = _look(world, honest_build[kind], "perturb")
    assert verdict.findings == ()
    assert all(count.checked for count in verdict.rules.values())
    assert verdict.coverage["samples_encoded"] == verdict.coverage["samples_perturbed"] == verdict.samples
