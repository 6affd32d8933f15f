"""Builds by leaky pipelines: every file is in order, and the raw data or an experiment shows the leak.

Level "shards" must find nothing, or the mutant's level would be wrong. At level "perturb"
the build is made by honest code, and level "source" must find nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from jobs.audit.audit import audit
from jobs.audit.settings import AuditConfig
from pipeline.audit.raw.decoding.video import read_video
from pipeline.audit.raw.registry import open_raw
from pipeline.audit.rederive.images import Facts
from pipeline.audit.rederive.raw_episode import EpisodeWork, SampleWork, check_episode
from pipeline.audit.rederive.reencode import EncoderClaim
from pipeline.audit.verdicts.verdict import Verdict
from pipeline.format.build_settings import InputSettings
from pipeline.samples.inputs import encode_jpeg
from pipeline.sources.ssv2 import SSv2Source
from tests.conftest import SampleData
from tests.leakage.marks import one_a_rule
from tests.leakage.pipelines import LEAKY_CODE, LEAKY_PIPELINES
from tests.leakage.pipelines.pipeline import LeakyPipeline
from tests.leakage.world import World

REST = ("video", "int8", "tubelet")


def _audited(world: World, build: Path, level: str) -> Verdict:
    return audit(AuditConfig(build=build, level=level, root=world.raw, nonce="n0", share=1.0))[0]


def _reported(verdict: Verdict, mutant: LeakyPipeline) -> bool:
    return any(f.rule == mutant.rule and mutant.message in f.detail for f in verdict.findings)


@pytest.fixture(scope="module")
def honest_build(sample_data: SampleData, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    @cache
    def build(kind: str) -> Path:
        with pytest.MonkeyPatch.context() as patch:
            return World(tmp_path_factory.mktemp(kind), sample_data, patch, kind).build()

    return build


@pytest.mark.parametrize("mutant", list(one_a_rule(LEAKY_PIPELINES, {"L1", "L2"})))
def test_leaky_pipeline_is_found_beside_the_raw_data(
    sample_data: SampleData, tmp_path: Path, mutant: LeakyPipeline
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        world = World(tmp_path, sample_data, patch, mutant.kind)
        mutant.apply(world)
        build = world.build()
    assert _audited(world, build, "shards").findings == ()
    verdict = _audited(world, build, "source")
    assert verdict.exit_code == 1
    assert _reported(verdict, mutant), verdict.findings


@pytest.mark.slow
@pytest.mark.parametrize("mutant", list(one_a_rule(LEAKY_CODE, {"L2"})))
def test_leaky_code_is_found_by_experiment(
    sample_data: SampleData, honest_build: Callable[[str], Path], tmp_path: Path, mutant: LeakyPipeline
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        world = World(tmp_path, sample_data, patch, mutant.kind)
        mutant.apply(world)
        build = honest_build(mutant.kind)
        assert _audited(world, build, "source").findings == ()
        verdict = _audited(world, build, "perturb")
    assert _reported(verdict, mutant), verdict.findings


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["robot", *REST])
def test_honest_builds_have_no_finding_at_the_deepest_level(
    sample_data: SampleData, honest_build: Callable[[str], Path], tmp_path: Path, kind: str
) -> None:
    world = World(tmp_path, sample_data, pytest.MonkeyPatch(), kind)
    verdict = _audited(world, honest_build(kind), "perturb")
    assert verdict.findings == ()
    assert all(count.checked for count in verdict.rules.values())
    assert verdict.coverage["samples_encoded"] == verdict.coverage["samples_perturbed"] == verdict.samples


@pytest.mark.parametrize(
    "offset", [1, pytest.param(-1, marks=pytest.mark.slow), pytest.param(2, marks=pytest.mark.slow)]
)
def test_other_library_versions_do_not_hide_a_neighbouring_frame(
    sample_data: SampleData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, offset: int
) -> None:
    """Images are then compared within bounds. In a video this slow the next frame differs by half a grey level."""
    videos: dict[Path, list[NDArray[np.uint8]]] = {}

    def slow(path: Path) -> Iterator[tuple[float, NDArray[np.uint8]]]:
        frames = videos.setdefault(path, [frame for _, frame in read_video(path)])
        for index in range(len(frames)):
            blend = 0.94 * frames[0] + 0.06 * frames[index]
            yield index / 12, blend.round().astype(np.uint8)

    monkeypatch.setattr("pipeline.audit.raw.ssv2.read_video", slow)
    raw = open_raw({"type": "ssv2", "name": "ssv2"}, sample_data.ssv2)
    ref = next(ref for ref in SSv2Source(root=str(sample_data.ssv2)).index().refs if ref.split == "train")
    shown = [frame for _, frame in raw.open(ref.id).frames("video")]
    claim = EncoderClaim(64, "squash", "float32", "")
    facts = Facts(("video",), 64, 95, exact=False, encoder=claim)
    now = len(shown) // 2
    for at in (now, now + offset):
        frame = shown[at].copy()
        frame[::8, ::8] ^= 1  # other bytes, nearly the same image
        images = {"video": encode_jpeg(frame, InputSettings(image_size=64, jpeg_quality=95))}
        sample = SampleWork("k", now, len(shown), now / 12, (now,), (now / 12,), images, None, None, 0)
        result = check_episode(EpisodeWork(ref.id, "train", "f", (sample,)), facts, raw)
        assert [rule for rule, _, _ in result.problems] == ([] if at == now else ["L1"]), result.problems
        if at != now:
            assert f"closest is frame {at}" in result.problems[0][2]
