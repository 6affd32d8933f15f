"""Before a run on several nodes: which there are, and whether each reaches the raw data and the build.

A node without a mount or without credentials would fail its tasks one after the other, each after its retries.
"""

from __future__ import annotations

import sys
import uuid
from collections.abc import Sequence
from dataclasses import dataclass

import ray
from ray.exceptions import GetTimeoutError, RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from pipeline.errors import BuildError, EpisodeError, RunError
from pipeline.format.file_names import WORK_FOLDER
from pipeline.sources.base import EpisodeRef, Source
from pipeline.sources.files import check_files
from pipeline.storage.store import Store

ANSWER_S = 120.0
"""Seconds for a node to answer: it starts a worker and loads the readers first."""

DRIVERS_FILE = f"{WORK_FOLDER}/reach"

TRIED = 3
"""Episodes of which a node has to find one: a few may be missing, which the run notes in its ledger."""


@dataclass(frozen=True)
class Node:
    """A node of the cluster with processors or GPUs."""

    id: str
    address: str
    cpus: float
    gpus: float


def require_reach(store: Store, source: Source, refs: Sequence[EpisodeRef]) -> None:
    """Print the nodes, and let each write and read a file of the build and look up raw files. One node is not asked: it
    is the driver's own, or says the same at its first task.

    Raises:
        RunError: a node cannot, or does not answer; the message names it, and what to do.
    """
    nodes = living_nodes()
    sys.stderr.write(
        f"cluster: {len(nodes)} node{'s' * (len(nodes) != 1)}, {sum(node.cpus for node in nodes):g} processors, "
        f"{sum(node.gpus for node in nodes):g} GPUs\n"
    )
    if len(nodes) < 2:
        return
    token = uuid.uuid4().hex
    store.write(DRIVERS_FILE, token.encode())
    asked = {node: _task(node).remote(store, source, tuple(refs[:TRIED]), token) for node in nodes}
    problems = [f"node {node.address}: {problem}" for node, ticket in asked.items() if (problem := _answer(ticket))]
    store.remove(DRIVERS_FILE)
    if problems:
        raise RunError("; ".join(problems))


def living_nodes() -> list[Node]:
    """Those that can run tasks, by their addresses."""
    found = []
    for node in ray.nodes():
        cpus, gpus = (float(node["Resources"].get(kind, 0)) for kind in ("CPU", "GPU"))
        if node["Alive"] and (cpus or gpus):
            found.append(Node(node["NodeID"], node["NodeManagerAddress"], cpus, gpus))
    return sorted(found, key=lambda node: (node.address, node.id))


def reach(store: Store, source: Source, refs: Sequence[EpisodeRef], token: str) -> str:
    """What keeps this process from the raw data or the build; "" if nothing does. token: what the driver wrote."""
    own = f"{DRIVERS_FILE}-{uuid.uuid4().hex}"
    try:
        if store.read(DRIVERS_FILE).decode(errors="replace") != token:
            return f"{store.where} is not the driver's there; all nodes must see one folder"
        store.write(own, b"")
        store.remove(own)
    except FileNotFoundError:
        return f"{store.where} is not the driver's there; all nodes must see one folder"
    except (BuildError, OSError) as error:
        return f"the build is out of reach: {error}"
    missing = [problem for ref in refs if (problem := _missing(source, ref))]
    if refs and len(missing) == len(refs):
        return f"the raw data is out of reach: {missing[0]}; mount it under the same path on every node"
    return ""


def _missing(source: Source, ref: EpisodeRef) -> str:
    try:
        check_files(source.root, ref)
    except EpisodeError as error:
        return error.detail if error.reason == "missing-file" else ""
    return ""


def _task(node: Node) -> ray.remote_function.RemoteFunction:
    here = NodeAffinitySchedulingStrategy(node.id, soft=False)
    return _reach_task.options(num_cpus=0, scheduling_strategy=here)


def _answer(ticket: ray.ObjectRef) -> str:
    try:
        found: str = ray.get(ticket, timeout=ANSWER_S)
    except GetTimeoutError:
        return f"no answer within {ANSWER_S:g} seconds; a folder there may hang, or it lacks this package"
    except RayError as error:
        return f"{str(error).strip().splitlines()[-1]}; every node needs this package or image"
    return found


@ray.remote(max_retries=0)
def _reach_task(store: Store, source: Source, refs: Sequence[EpisodeRef], token: str) -> str:
    return reach(store, source, refs, token)
