"""A cluster without a processor when the run begins, as an autoscaler leaves it, and nodes that come and go."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest

from jobs.cluster.build_tasks.ray_pool import _check_resources
from jobs.cluster.settings import ClusterSettings
from pipeline.audit.levels.run import audit_build
from tests.conftest import SampleData
from tests.faults.cluster import RayCluster
from tests.faults.driver import Driver, Run
from tests.jobs.runs import CLUSTER


def test_the_least_number_of_encoders_is_not_above_the_most() -> None:
    with pytest.raises(ValueError, match="min_encoders=3 is more than encoders=2"):
        ClusterSettings(encoders=2, min_encoders=3)


def test_a_cluster_may_have_nothing_yet() -> None:
    """No resource is asked for, so no cluster is needed to say so."""
    _check_resources(replace(CLUSTER, encoders=64, encoder_gpus=1.0, min_encoders=0))


@pytest.mark.slow
def test_a_build_is_made_by_nodes_that_come_after_its_driver(sample_data: SampleData, tmp_path: Path) -> None:
    with RayCluster(workers=0) as cluster:
        settings = ("cluster.min_encoders=0",)
        driver = Driver(Run(tmp_path / "build", sample_data.ssv2, cluster.address, settings), tmp_path)
        try:
            time.sleep(20)  # it has joined, and its encoders wait for a node
            assert driver.running, driver.output
            node = cluster.add_node()
            while driver.running and not list((tmp_path / "build").glob("train/targets-*")):
                time.sleep(0.2)
            cluster.kill_node(node)
            cluster.add_node()
            assert driver.wait() == 0, driver.output
        finally:
            driver.kill()
    assert audit_build(tmp_path / "build", "shards").status == "clean"
    ledger = (tmp_path / "build" / "ledger.jsonl").read_text()
    assert "kills-reader" not in ledger, ledger
