"""What is asked of a cluster, and what becomes of episodes whose reader hangs or kills its process."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import urllib.request
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import ray

from jobs.cluster.build_tasks.episode_registry import DEATHS, DEATHS_WITH_NODES, EpisodeRegistry
from jobs.cluster.build_tasks.ray_pool import _check_resources
from jobs.cluster.build_tasks.run_progress import read_progress
from jobs.datasets.configured_source import SourceChoice
from jobs.preprocess.preprocess import preprocess
from pipeline.audit.levels.run import audit_build
from pipeline.errors import RunError
from pipeline.sources.base import EpisodeRef
from pipeline.sources.episode.opened import OpenedEpisode
from pipeline.sources.ssv2 import SSv2Source
from pipeline.storage.store import open_store
from tests.conftest import SampleData
from tests.jobs.runs import CLUSTER, build_config, ssv2_source


@pytest.mark.slow
def test_a_cluster_that_can_never_run_the_tasks_is_refused(ray_session: None) -> None:
    _check_resources(CLUSTER)
    cpus = ray.cluster_resources()["CPU"]
    with pytest.raises(RunError, match=r"the cluster has 4 CPU, the settings need 5"):
        _check_resources(replace(CLUSTER, encoders=int(cpus), encoder_cpus=1.0))
    with pytest.raises(RunError, match=r"0 GPU, the settings need 1"):
        _check_resources(replace(CLUSTER, encoder_gpus=1.0))
    with pytest.raises(RunError, match=r"0 decoder, the settings need 1"):
        _check_resources(replace(CLUSTER, task_resources={"decoder": 1}))


def test_an_episode_is_blamed_when_it_took_too_long_or_its_readers_died() -> None:
    registry = EpisodeRegistry(5.0, lambda: frozenset({"node"}))
    for attempt in range(DEATHS):
        assert registry.blamed("t") == {}
        registry.started("t", str(attempt), "deadly", "encoder", "node")
        registry.started("t", "ended", "other")
        registry.finished("t", "ended")
    registry.timed_out("slow")
    reasons = {episode: reason for episode, (reason, _) in registry.blamed("t").items()}
    assert reasons == {"deadly": "kills-reader", "slow": "timed-out"}
    assert registry.blamed("another task") == registry.blamed("t")


def test_an_episode_is_not_blamed_for_encoders_and_nodes_that_died() -> None:
    living = {"node"}
    registry = EpisodeRegistry(5.0, lambda: frozenset(living))
    for attempt in range(DEATHS_WITH_NODES - 1):
        registry.started("t", f"with its encoder {attempt}", "sound", f"encoder {attempt}", "node")
        registry.owner_died(f"encoder {attempt}")
        registry.started("t", f"after its encoder {attempt}", "sound", f"encoder {attempt}", "node")
        registry.started("t", f"with its node {attempt}", "sound", "living encoder", f"dead node {attempt}")
    assert registry.blamed("t") == {}
    registry.started("t", "one more", "sound", "living encoder", "another dead node")
    assert set(registry.blamed("t")) == {"sound"}


class TrapSource(SSv2Source):
    """Something-Something-v2 with an episode that hangs its reader, or one that crashes it: no settings of a source."""

    hangs = crashes = ""
    driver = 0

    @classmethod
    def with_trap(cls, root: Path, **trap: Any) -> SourceChoice:
        source = cls(root=str(root), name="ssv2")
        for name, value in trap.items():
            object.__setattr__(source, name, value)
        return SourceChoice("ssv2", source)

    def open(self, ref: EpisodeRef) -> OpenedEpisode:
        if ref.id == self.hangs and os.getpid() != self.driver:
            ctypes.CDLL(None).sleep(1000)
        if ref.id == self.crashes and os.getpid() != self.driver:
            os.kill(os.getpid(), signal.SIGSEGV)
        return super().open(ref)


@pytest.mark.slow
@pytest.mark.parametrize(("trap", "reason"), [("hangs", "timed-out"), ("crashes", "kills-reader")])
def test_an_episode_that_hangs_or_crashes_its_reader_is_left_out(
    trap: str, reason: str, sample_data: SampleData, ray_session: None, tmp_path: Path
) -> None:
    clips = [entry["id"] for entry in json.loads((sample_data.ssv2 / "labels" / "train.json").read_text())]
    traps: dict[str, Any] = {trap: f"ssv2-{clips[1]}", "driver": os.getpid()}
    source = TrapSource.with_trap(sample_data.ssv2, **traps)
    cluster = replace(CLUSTER, episode_limit_s=6.0)
    build = preprocess(
        replace(
            build_config(tmp_path / "out", ssv2_source(sample_data.ssv2)),
            source=source,
            cluster=cluster,
            max_bad_share=0.5,
        )
    )
    ledger = [json.loads(line) for line in (build.path / "ledger.jsonl").read_bytes().splitlines()]
    assert [(row["episode"], row["reason"]) for row in ledger] == [(f"ssv2-{clips[1]}", reason)]
    assert build.manifest["counts"]["train"]["episodes"] == len(clips) - 1
    assert audit_build(build.path).status == "clean"
    progress = read_progress(open_store(build.path))
    assert progress is not None
    assert progress.skipped == 1
    metrics = published_metrics()
    assert "vlajepa_skipped{" in metrics
    assert "vlajepa_node_samples_per_s{" in metrics


def published_metrics() -> str:
    """What Prometheus would read on the first node."""
    (node,) = ray.nodes()
    url = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
    with urllib.request.urlopen(url, timeout=30) as answer:
        content: str = answer.read().decode()
    return content
