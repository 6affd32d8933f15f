"""Before a run on several nodes: which there are, and a question to each.

A node without a mount or without credentials would fail its tasks one after the other, each after its retries.
"""

from __future__ import annotations

import contextlib
import sys
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import ray
from ray.exceptions import GetTimeoutError, RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from pipeline.errors import BuildError, RunError
from pipeline.storage.store import Store

ANSWER_S = 120.0
"""Seconds for a node to answer: it starts a worker and loads the readers first."""

Check = Callable[[], str]
"""Runs on a node and says what is wrong there; "" if nothing is. It can be pickled."""


@dataclass(frozen=True)
class Node:
    """A node of the cluster with processors or GPUs."""

    id: str
    address: str
    cpus: float
    gpus: float


def living_nodes() -> list[Node]:
    """Those that can run tasks, by their addresses."""
    found = []
    for node in ray.nodes():
        cpus, gpus = (float(node["Resources"].get(kind, 0)) for kind in ("CPU", "GPU"))
        if node["Alive"] and (cpus or gpus):
            found.append(Node(node["NodeID"], node["NodeManagerAddress"], cpus, gpus))
    return sorted(found, key=lambda node: (node.address, node.id))


def require_reach(store: Store, name: str, check: Check) -> None:
    """Print the nodes, and let each find, write and remove a file of the run's folder, and then do the check. A single
    node is not asked: it is the driver's own, or says the same at its first task.

    Args:
        store: of the run's folder.
        name: of the driver's file in it, while nodes are asked.

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
    with _drivers_file(store, name) as token:
        asked = {node: _task(node).remote(partial(reach, store, name, token, check)) for node in nodes}
        problems = [f"node {node.address}: {found}" for node, ticket in asked.items() if (found := _answer(ticket))]
    if problems:
        raise RunError("; ".join(problems))


def reach(store: Store, name: str, token: str, check: Check) -> str:
    """What keeps this process from the run's folder, or what the check finds; "" if nothing does."""
    own = f"{name}-{uuid.uuid4().hex}"
    try:
        if store.read(name).decode(errors="replace") != token:
            return f"{store.where} is not the driver's there; all nodes must see one folder"
        store.write(own, b"")
        store.remove(own)
    except FileNotFoundError:
        return f"{store.where} is not the driver's there; all nodes must see one folder"
    except (BuildError, OSError) as error:
        return f"{store.where} is out of reach: {error}"
    return check()


@contextlib.contextmanager
def _drivers_file(store: Store, name: str) -> Iterator[str]:
    """The file while the nodes are asked; gives what is in it."""
    token = uuid.uuid4().hex
    store.write(name, token.encode())
    try:
        yield token
    finally:
        store.remove(name)


def _task(node: Node) -> ray.remote_function.RemoteFunction:
    here = NodeAffinitySchedulingStrategy(node.id, soft=False)
    return _check_task.options(num_cpus=0, scheduling_strategy=here)


def _answer(ticket: ray.ObjectRef) -> str:
    try:
        found: str = ray.get(ticket, timeout=ANSWER_S)
    except GetTimeoutError:
        return f"no answer within {ANSWER_S:g} seconds; a folder there may hang, or it lacks this package"
    except RayError as error:
        return f"{str(error).strip().splitlines()[-1]}; every node needs this package or image"
    return found


@ray.remote(max_retries=0)
def _check_task(check: Check) -> str:
    return check()
