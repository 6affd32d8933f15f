"""Starting a Ray of one's own on a machine with too much to do."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import psutil
import pytest
import ray

from jobs.cluster.connect import LONGEST_FOLDER, STARTS, ray_joined, require_answer, require_short_folder, start_ray
from pipeline.errors import RunError


class _Ray:
    """Stands in for `ray.init` and `ray.shutdown`; fails so many times."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, failures: int, message: str, starting: Callable[[], object] = int
    ) -> None:
        self.starts, self.ends = 0, 0
        self._failures, self._message, self._starting = failures, message, starting
        monkeypatch.setattr(ray, "init", self._init)
        monkeypatch.setattr(ray, "shutdown", self._shutdown)

    def _init(self, **_: Any) -> None:
        self.starts += 1
        self._starting()
        if self.starts <= self._failures:
            raise Exception(self._message)

    def _shutdown(self) -> None:
        self.ends += 1


LATE = "The current node timed out during startup. This could happen because"


def test_a_ray_that_came_too_late_is_started_again(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = _Ray(monkeypatch, STARTS - 1, LATE)
    start_ray(num_cpus=1)
    assert (fake.starts, fake.ends) == (STARTS, STARTS - 1)


def test_it_is_given_up_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = _Ray(monkeypatch, STARTS, LATE)
    with pytest.raises(RunError, match="not there within 30 s; give the machine less to do"):
        start_ray(num_cpus=1)
    assert fake.starts == STARTS


def test_what_a_failed_start_leaves_running_is_killed_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    def child(pid: int) -> subprocess.Popen[bytes]:
        wait = [
            sys.executable,
            "-c",
            "import time; time.sleep(600)",
            f"--logs=/x/session_2026-01-02_03-04-05_6_{pid}/logs",
        ]
        process = subprocess.Popen(wait)
        while psutil.Process(process.pid).cmdline() != wait:  # a program that was just started has none for a moment
            time.sleep(0.001)
        return process

    bystanders = [child(1), child(os.getpid())]
    nodes: list[subprocess.Popen[bytes]] = []
    try:
        _Ray(monkeypatch, STARTS - 1, LATE, lambda: nodes.append(child(os.getpid())))
        start_ray(num_cpus=1)
        assert [node.poll() is None for node in nodes] == [False] * (STARTS - 1) + [True]
        assert all(process.poll() is None for process in bystanders)
    finally:
        for process in (*bystanders, *nodes):
            process.kill()
            process.wait()


def test_other_errors_are_not_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = _Ray(monkeypatch, STARTS, "no space left")
    with pytest.raises(Exception, match="no space left"):
        start_ray(num_cpus=1)
    assert fake.starts == 1


@pytest.mark.parametrize("scheme", ["", "ray://"])
def test_an_address_at_which_nobody_answers_is_said_within_seconds(
    monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"{scheme}127.0.0.1:{free.getsockname()[1]}"  # bound and not listening
        monkeypatch.setenv("RAY_ADDRESS", address)
        started = time.monotonic()
        with pytest.raises(RunError, match=f"the variable RAY_ADDRESS={address}: nobody answers"), ray_joined(None):
            pass
        with pytest.raises(RunError, match=r"cluster\.address="), ray_joined(address):
            pass
        assert time.monotonic() - started < 20
        free.listen()
        require_answer(address, "cluster.address")
    require_answer("auto", "cluster.address")


def test_a_folder_too_long_for_sockets_names_its_variable() -> None:
    long = "/" + "x" * LONGEST_FOLDER
    require_short_folder({"TMPDIR": long[:-1]})
    require_short_folder({"TMPDIR": long, "RAY_TMPDIR": "/tmp"})
    require_short_folder({})
    for name in ("TMPDIR", "RAY_TMPDIR"):
        with pytest.raises(RunError, match=f"the variable {name}=.*set RAY_TMPDIR to a short folder"):
            require_short_folder({name: long})
