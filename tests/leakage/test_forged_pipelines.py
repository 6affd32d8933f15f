"""Builds that claim to be made by what nobody has: no claim of a build makes its audit weaker."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from jobs.audit.audit import audit, describe
from jobs.audit.settings import AuditConfig
from pipeline.errors import BuildError
from pipeline.format.libraries import library_versions
from tests.conftest import SampleData
from tests.leakage.marks import one_a_rule
from tests.leakage.pipelines import FORGED_PIPELINES
from tests.leakage.pipelines.pipeline import LeakyPipeline
from tests.leakage.world import World


@pytest.mark.parametrize("mutant", list(one_a_rule(FORGED_PIPELINES)))
def test_forged_pipeline_is_refused_and_found_by_an_inexact_audit(
    sample_data: SampleData, tmp_path: Path, mutant: LeakyPipeline
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        world = World(tmp_path, sample_data, patch, mutant.kind)
        mutant.apply(world)
        build = world.build()
    settings = AuditConfig(build=build, level="source", root=world.raw, nonce="n0", share=1.0)
    assert audit(replace(settings, level="shards"))[0].findings == ()
    with pytest.raises(BuildError, match=r"could not be audited exactly\. .*Install these versions"):
        audit(settings)
    verdict, _ = audit(replace(settings, inexact=True))
    assert any(f.rule == mutant.rule and mutant.message in f.detail for f in verdict.findings), verdict.findings
    assert not verdict.exact


@pytest.mark.parametrize(
    "kind", ["video", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("int8", "robot", "tubelet"))]
)
def test_an_honest_build_of_another_machine_is_clean_and_the_verdict_says_what_is_weaker(
    sample_data: SampleData, tmp_path: Path, kind: str
) -> None:
    """Latents by an encoder in float32, where the audit encodes in bfloat16: other rounding, which frames decide."""
    with pytest.MonkeyPatch.context() as patch:
        world = World(tmp_path, sample_data, patch, kind)
        patch.setattr("jobs.preprocess.plan.library_versions", lambda: {**library_versions(), "pillow": "1.2.3"})
        world.claimed_dtype = "bfloat16"
        build = world.build()
    settings = AuditConfig(build=build, level="source", root=world.raw, nonce="n0", share=1.0, inexact=True)
    verdict, _ = audit(settings)
    assert verdict.findings == ()
    assert not verdict.exact
    assert verdict.coverage["latents_within_bounds"] > 0 == verdict.coverage["latents_equal_to_the_bit"]
    assert any("pillow 1.2.3 (here" in claim for claim in verdict.claims)
    assert any("of the way to step 3 in step 0" in claim and "99 %" in claim for claim in verdict.claims)
    assert describe(verdict).endswith("INEXACT: not all was derived to the byte (inexact=true)")


@pytest.mark.parametrize("dtype", ["float32", pytest.param("bfloat16", marks=pytest.mark.slow)])
def test_the_same_machine_reproduces_every_bit(sample_data: SampleData, tmp_path: Path, dtype: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        world = World(tmp_path, sample_data, patch, "robot")
        world.encoder = replace(world.encoder, dtype=dtype)
        build = world.build()
    verdict, _ = audit(AuditConfig(build=build, level="source", root=world.raw, nonce="n0", share=1.0))
    assert verdict.findings == ()
    assert verdict.exact
    assert verdict.tolerance == {}
    assert verdict.coverage["latents_within_bounds"] == 0 < verdict.coverage["latents_equal_to_the_bit"]
    assert any(claim.startswith("latents: derived to the bit on") for claim in verdict.claims)
