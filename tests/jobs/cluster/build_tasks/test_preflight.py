"""What a node says that reaches the raw data and the build, and one that does not."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobs.cluster.build_tasks.preflight import DRIVERS_FILE, reach
from pipeline.sources.base import EpisodeRef
from pipeline.sources.ssv2 import SSv2Source
from pipeline.storage.store import open_store
from tests.conftest import SampleData
from tests.faults.cluster import RayCluster
from tests.faults.driver import Driver, Run

TOKEN = "the driver's"


def test_a_node_that_reaches_both_has_nothing_to_say(sample_data: SampleData, tmp_path: Path) -> None:
    source, store = SSv2Source(root=str(sample_data.ssv2), name="ssv2"), open_store(tmp_path)
    refs = source.index().refs[:3]
    assert "is not the driver's there" in reach(store, source, refs, TOKEN)
    store.write(DRIVERS_FILE, TOKEN.encode())
    assert reach(store, source, refs, TOKEN) == ""
    assert list(store.sizes()) == [DRIVERS_FILE]
    assert "is not the driver's there" in reach(store, source, refs, "another")


def test_raw_data_that_is_not_mounted_is_named(sample_data: SampleData, tmp_path: Path) -> None:
    refs = SSv2Source(root=str(sample_data.ssv2), name="ssv2").index().refs[:3]
    store, elsewhere = open_store(tmp_path), SSv2Source(root="/not/mounted", name="ssv2")
    store.write(DRIVERS_FILE, TOKEN.encode())
    found = reach(store, elsewhere, refs, TOKEN)
    assert found.startswith("the raw data is out of reach: /not/mounted/")
    assert "mount it under the same path on every node" in found


def test_one_missing_file_is_a_matter_of_the_ledger(sample_data: SampleData, tmp_path: Path) -> None:
    source, store = SSv2Source(root=str(sample_data.ssv2), name="ssv2"), open_store(tmp_path)
    store.write(DRIVERS_FILE, TOKEN.encode())
    first, second = source.index().refs[:2]
    gone = EpisodeRef(first.id, first.split, (("gone.webm", 1),), first.num_frames, first.data)
    assert reach(store, source, [gone, second], TOKEN) == ""


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
