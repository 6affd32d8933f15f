"""The files of docs/deploy: what they would run, with Slurm's variables, and that it is accepted."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from jobs.cluster.metrics import METRICS
from jobs.serving.metrics.prometheus import GAUGES, PREFIX, ServingMetrics
from tests.test_docs import ROOT, manifests, require_accepted

DEPLOY = ROOT / "docs/deploy"

TOOLS = {
    "scontrol": "echo node-1; echo node-2",
    # Slurm's: the tasks of a job, one after the other
    "srun": """
while [[ $1 == --* ]]; do shift; done
for ((task = 0; task < SLURM_NTASKS; task++)); do
    SLURM_PROCID=$task SLURM_LOCALID=$((task % SLURM_NTASKS_PER_NODE)) "$@"
done""",
    # Ray's, which runs what follows -- on the first of its nodes
    "ray": """
[[ $SLURM_PROCID != 0 ]] && exit
echo "ray $1 $2 $3 $4 $5"
shift 6
"$@"
""",
    "vlajepa": """
echo "rank ${RANK:-} ${LOCAL_RANK:-} of ${WORLD_SIZE:-} ${LOCAL_WORLD_SIZE:-} at ${MASTER_ADDR:-}"
printf "vlajepa"; printf " %q" "$@"; echo
""",
}


@pytest.fixture
def slurm(tmp_path: Path) -> dict[str, str]:
    """Environment of a job of two nodes with two tasks each, in which every tool says what it was given."""
    (tmp_path / "venv/bin").mkdir(parents=True)
    for name, script in TOOLS.items():
        tool = tmp_path / "venv/bin" / name
        tool.write_text(f"#!/bin/bash\n{script}\n")
        tool.chmod(0o755)
    job = {"JOB_NODELIST": "node-[1-2]", "JOB_NUM_NODES": "2", "NTASKS": "4", "NTASKS_PER_NODE": "2", "JOB_ID": "7"}
    path = f"{tmp_path / 'venv/bin'}:{os.environ['PATH']}"
    return {"PATH": path, "HOME": str(tmp_path), "VENV": str(tmp_path / "venv")} | {
        f"SLURM_{name}": value for name, value in job.items()
    }


def _lines(script: str, environment: dict[str, str], *words: str) -> list[str]:
    done = subprocess.run(
        ["bash", DEPLOY / script, *words], env=environment, check=True, capture_output=True, text=True, timeout=60
    )
    return done.stdout.splitlines()


@pytest.mark.usefixtures(manifests.__name__)
def test_slurm_preprocesses_on_one_ray_of_all_nodes(
    slurm: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ray, _, command = _lines("preprocess.sbatch", slurm, "limit=10")
    assert ray == "ray symmetric-run --address node-1:6379 --min-nodes 2"
    words = shlex.split(command)
    assert words[:2] == ["vlajepa", "preprocess"]
    assert {"cluster.address=node-1:6379", "cluster.encoders=16", "limit=10"} <= set(words)
    require_accepted(shlex.join(words[1:]), monkeypatch, capsys)


def test_slurm_trains_with_a_task_for_each_rank(
    slurm: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = _lines("train.sbatch", slurm | {"OUT": "/runs/with space"}, "model=tiny")
    assert lines[::2] == [f"rank {rank} {rank % 2} of 4 2 at node-1" for rank in range(4)]
    assert len(set(lines[1::2])) == 1
    words = shlex.split(lines[1])
    assert words == ["vlajepa", "train", "builds=[/builds/ssv2,/builds/droid]", "out=/runs/with space", "model=tiny"]
    require_accepted(shlex.join(words[1:]), monkeypatch, capsys)


@pytest.mark.usefixtures(manifests.__name__)
def test_kubernetes_runs_a_command_that_is_accepted(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    job: dict[str, Any] = yaml.safe_load((DEPLOY / "rayjob.yaml").read_text())
    command, *words = shlex.split(job["spec"]["entrypoint"])
    assert command == "vlajepa"
    require_accepted(shlex.join(words), monkeypatch, capsys)
    cluster = job["spec"]["rayClusterSpec"]
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    images = {c["image"] for group in groups for c in group["template"]["spec"]["containers"]}
    assert len(images) == 1, "driver and workers must have the same libraries"
    constraints = (ROOT / "constraints.txt").read_text().splitlines()
    assert f"ray=={cluster['rayVersion']}" in constraints


def test_the_dashboard_shows_metrics_that_there_are() -> None:
    dashboard = json.loads((DEPLOY / "grafana.json").read_text())
    shown = {name for panel in dashboard["panels"] for name in METRIC.findall(panel["targets"][0]["expr"])}
    page = set(METRIC.findall((ROOT / "docs/guides/watching.md").read_text()))
    there = {f"vlajepa_{name}" for name in METRICS}
    assert shown == there
    assert page <= there


def test_the_dashboard_and_the_page_show_every_metric_of_a_policy_server() -> None:
    there = {family.name for family in ServingMetrics().collect()} | {f"{PREFIX}_{name}" for name in GAUGES}
    dashboard = json.loads((DEPLOY / "grafana.json").read_text())
    shown = {name for panel in dashboard["panels"] for t in panel["targets"] for name in SERVED.findall(t["expr"])}
    assert {re.sub("_(total|bucket|sum|count)$", "", name) for name in shown} == there
    page = (ROOT / "docs/guides/watching.md").read_text()
    assert all(name.removeprefix(PREFIX) in page for name in there)
    assert {re.sub("_total$", "", name) for name in SERVED.findall(page)} <= there


SERVED = re.compile(rf"({PREFIX}_\w+)")
METRIC = re.compile(r"ray_(vlajepa_\w+)")
