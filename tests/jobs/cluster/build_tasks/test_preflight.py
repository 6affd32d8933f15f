"""What a node says that reaches the raw data, and one that does not."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobs.cluster.build_tasks.preflight import DRIVERS_FILE, missing_data
from pipeline.sources.base import EpisodeRef
from pipeline.sources.ssv2 import SSv2Source
from tests.conftest import SampleData
from tests.faults.cluster import RayCluster
from tests.faults.driver import Driver, Run


def test_a_node_that_finds_the_raw_data_has_nothing_to_say(sample_data: SampleData) -> None:
    source = SSv2Source(root=str(sample_data.ssv2), name="ssv2")
    assert missing_data(source, source.index().refs[:3]) == ""


def test_raw_data_that_is_not_mounted_is_named(sample_data: SampleData) -> None:
    refs = SSv2Source(root=str(sample_data.ssv2), name="ssv2").index().refs[:3]
    found = missing_data(SSv2Source(root="/not/mounted", name="ssv2"), refs)
    assert found.startswith("the raw data is out of reach: /not/mounted/")
    assert "mount it under the same path on every node" in found


def test_one_missing_file_is_a_matter_of_the_ledger(sample_data: SampleData) -> None:
    source = SSv2Source(root=str(sample_data.ssv2), name="ssv2")
    first, second = source.index().refs[:2]
    gone = EpisodeRef(first.id, first.split, (("gone.webm", 1),), first.num_frames, first.data)
    assert missing_data(source, [gone, second]) == ""


@pytest.mark.slow
def test_the_nodes_of_a_cluster_are_named(sample_data: SampleData, tmp_path: Path) -> None:
    with RayCluster(workers=2) as cluster:
        driver = Driver(Run(tmp_path / "build", sample_data.ssv2, cluster.address), tmp_path)
        try:
            assert driver.wait() == 0, driver.output
        finally:
            driver.kill()
    assert "cluster: 2 nodes, 4 processors, 0 GPUs" in driver.output
    assert not (tmp_path / "build" / DRIVERS_FILE).exists()
