"""What a node says that sees the run's folder of the driver, and one that does not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from jobs.cluster.nodes import reach
from pipeline.storage.store import open_store
from tests.faults.cluster import RayCluster, plain_environment
from tests.faults.driver import REPOSITORY

FILE, TOKEN = "ray/reach", "the driver's"


def nothing() -> str:
    return ""


def test_a_node_finds_the_drivers_file_and_leaves_nothing_behind(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    assert "is not the driver's there" in reach(store, FILE, TOKEN, nothing)
    store.write(FILE, TOKEN.encode())
    assert reach(store, FILE, TOKEN, nothing) == ""
    assert [path.name for path in (tmp_path / "ray").iterdir()] == ["reach"]
    assert "is not the driver's there" in reach(store, FILE, "another", nothing)


def test_the_check_of_the_run_follows(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    store.write(FILE, TOKEN.encode())
    assert reach(store, FILE, TOKEN, lambda: "no build there") == "no build there"


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    (tmp_path / FILE).mkdir(parents=True)
    found = reach(store, FILE, TOKEN, nothing)
    assert found.startswith(f"{tmp_path} is out of reach: ")


ASK = """
import sys
from functools import partial
from jobs.cluster.connect import ray_joined
from jobs.cluster.nodes import require_reach
from jobs.training.preflight import missing_builds
from pipeline.storage.store import open_store

address, folder = sys.argv[1:]
with ray_joined(address):
    require_reach(open_store(folder), "ray/reach", partial(missing_builds, []))
    require_reach(open_store(folder), "ray/reach", partial(missing_builds, [("/not/mounted", "0" * 64)]))
"""


@pytest.mark.slow
def test_every_node_of_a_cluster_is_asked_and_named(tmp_path: Path) -> None:
    with RayCluster(workers=2) as cluster:
        done = subprocess.run(
            [sys.executable, "-c", ASK, cluster.address, tmp_path],
            env=plain_environment(), cwd=REPOSITORY, capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("pipeline.errors.RunError: node "), done.stderr
    assert last.count(": there is no build at /not/mounted; mount it under the same path on every node") == 2
    assert done.stderr.count("cluster: 2 nodes, 4 processors, 0 GPUs") == 2
    assert not list(tmp_path.rglob("reach*"))
