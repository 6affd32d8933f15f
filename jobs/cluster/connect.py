"""Joining a Ray cluster, or starting Ray on this machine."""

from __future__ import annotations

import contextlib
import os
import re
import socket
from collections.abc import Iterator, Mapping, Set
from typing import Any

import psutil
import ray

from pipeline.errors import RunError

OWN_RAY: Mapping[str, Any] = {"idle_worker_killing_time_threshold_ms": 60_000}
"""Ray ends a worker that has been idle for a second if there are more workers than processors, as with actors that
reserve none; starting another one takes a second or two."""

ANSWER_S = 5.0
"""Seconds in which the head of a cluster must accept a connection."""

LONGEST_FOLDER = 107 - len("/ray/session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store")
"""Characters of the folder that holds Ray's: a socket's path has 107 at most."""

STARTS = 3
"""Attempts to start Ray on this machine."""


def start_ray(**options: Any) -> None:
    """Start Ray on this machine. `options`: of `ray.init`.

    Ray gives up a node that does not answer within 30 s, as on an overloaded machine, but leaves its processes running
    until this one ends. They are killed before the next attempt.

    Raises:
        RunError: it did not start in `STARTS` attempts.
    """
    before = _ray_children()
    for attempt in range(1, STARTS + 1):
        try:
            # "local": without an address, Ray would join whatever cluster /tmp/ray names, which anybody may write.
            ray.init(
                address="local", log_to_driver=False, logging_level="warning", _system_config=dict(OWN_RAY), **options
            )
            return
        except Exception as error:  # Ray has no narrower class for this
            if "timed out during startup" not in str(error):
                raise
            ray.shutdown()
            _kill_left_over(before)
            if attempt == STARTS:
                raise RunError(
                    f"Ray could not be started on this machine: {STARTS} times it was not there within 30 s; give the "
                    "machine less to do, or join a cluster with cluster.address="
                ) from error


def _ray_children() -> set[psutil.Process]:
    """Processes of a Ray's node that this process has started: Ray names its session's folder after their parent."""
    found = set()
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.Error):  # it has ended
            if re.search(rf"session_[-_\d]+_{os.getpid()}\b", " ".join(child.cmdline())):
                found.add(child)
    return found


def _kill_left_over(before: Set[psutil.Process]) -> None:
    left = _ray_children() - before
    for process in left:
        with contextlib.suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(left, timeout=10)


@contextlib.contextmanager
def ray_joined(address: str | None, num_cpus: int | None = None, object_store_mb: int | None = None) -> Iterator[None]:
    """Ray is connected while the context is open. A connection of this process from before is used, and stays.

    Args:
        address: "auto" or "HOST:PORT"; None: RAY_ADDRESS, else Ray is started here.
        num_cpus, object_store_mb: of a Ray that is started here; None: all, Ray's default.

    Raises:
        RunError: no cluster could be reached or started.
    """
    if ray.is_initialized():
        yield
        return
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # tasks without a GPU leave CUDA's variables alone
    named = "cluster.address" if address else "the variable RAY_ADDRESS"
    address = address or os.environ.get("RAY_ADDRESS")
    if address:
        require_answer(address, named)
    else:
        require_short_folder(os.environ)
    own = {} if object_store_mb is None else {"object_store_memory": object_store_mb * 2**20}
    try:
        if address:
            ray.init(address=address, log_to_driver=False, logging_level="warning")
        else:
            start_ray(num_cpus=num_cpus, include_dashboard=False, **own)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise RunError(f"cluster.address={address!r}: no Ray cluster could be reached or started: {error}") from error
    try:
        yield
    finally:
        ray.shutdown()


def require_answer(address: str, named: str) -> None:
    """Raise RunError if nobody listens at an address HOST:PORT: Ray would try for minutes.

    Args:
        named: the setting or variable that holds it.
    """
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if not host or not port.isdecimal():
        return  # "auto", or what Ray explains itself
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=ANSWER_S).close()
    except (OSError, OverflowError) as error:
        raise RunError(
            f"{named}={address}: nobody answers there ({error}); start the cluster's head (ray start --head), correct "
            "the address, or take it away to start Ray on this machine"
        ) from error


def require_short_folder(variables: Mapping[str, str]) -> None:
    """Raise RunError if the paths of Ray's sockets would be longer than the system allows.

    Args:
        variables: of the environment; Ray's folder is in RAY_TMPDIR, else in TMPDIR, else in /tmp.
    """
    name = next((name for name in ("RAY_TMPDIR", "TMPDIR") if variables.get(name)), None)
    if name is not None and len(variables[name]) > LONGEST_FOLDER:
        raise RunError(
            f"the variable {name}={variables[name]} has {len(variables[name])} characters, Ray's sockets allow "
            f"{LONGEST_FOLDER}; set RAY_TMPDIR to a short folder, such as /tmp"
        )


def require_resources(wanted: Mapping[str, float], need: str, fix: str) -> None:
    """Raise RunError unless the cluster has these: Ray would wait without end. `need` and `fix` are for the message:
    who needs them, and what to lower."""
    there = ray.cluster_resources()
    for kind, amount in wanted.items():
        if amount > there.get(kind, 0):
            have = f"the cluster has {there.get(kind, 0):g} {kind}"
            raise RunError(f"{have}, {need} {amount:g}{fix}, or start more nodes")
