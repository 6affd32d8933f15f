"""A Ray cluster of several nodes on this machine, each a session of processes that can be killed as one."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

QUICK = {
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_failure_threshold": "3",
    "RAY_gcs_rpc_server_reconnect_timeout_s": "15",
    "RAY_raylet_start_wait_time_s": "120",
}
"""A node that is gone is noticed after 3 s instead of 15 s, a head after 15 s instead of 60 s: the same course of
events in less time. A node may take its time to start on a busy machine."""


TOKEN = uuid.uuid4().hex * 2
"""Of the clusters of this process: without one, whether Ray asks for a token depends on what lies in ~/.ray."""


def plain_environment(**more: str) -> dict[str, str]:
    """This process's environment without the address of anybody's Ray; one thread a process."""
    kept = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    fixed = {"OMP_NUM_THREADS": "1", "RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN}
    return kept | fixed | QUICK | more


@dataclass
class RayCluster:
    """A head without processors, and worker nodes. Use as a context manager.

    cpus         of each worker node, as Ray counts them
    workers      nodes at the start
    environment  of every process of the cluster besides this process's own
    """

    workers: int = 3
    cpus: int = 2
    object_store_mb: int = 100
    environment: Mapping[str, str] = field(default_factory=dict)
    address: str = ""
    _folder: str = ""
    _nodes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    _count: int = 0

    def __enter__(self) -> RayCluster:
        self._folder = tempfile.mkdtemp(prefix="rf-")  # short: sockets lie in it, whose paths may have 107 characters
        try:
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.kill_all()
        shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def nodes(self) -> list[str]:
        """Names of the worker nodes that were not killed."""
        return [name for name in self._nodes if name != "head"]

    @property
    def alive(self) -> bool:
        """Whether the head has neither been killed nor ended by itself."""
        return "head" in self._nodes and self._nodes["head"].poll() is None

    def start(self) -> None:
        """Start head and worker nodes; they are there when this returns."""
        port = _free_port()
        self.address = f"127.0.0.1:{port}"
        ports = ["--ray-client-server-port", str(_free_port()), "--dashboard-agent-listen-port", str(_free_port())]
        self._launch("head", ["--head", "--port", str(port), "--include-dashboard=false", "--num-cpus=0", *ports])
        self._wait_for("head")
        for _ in range(self.workers):
            self.add_node()

    def add_node(self, resources: str = "{}") -> str:
        """Start one more worker node; its name. Nodes that start at the same time would choose the same sockets.

        Args:
            resources: of its own besides processors, as JSON.
        """
        name = self._launch_worker(resources)
        self._wait_for(name)
        return name

    def heal(self) -> None:
        """As many worker nodes as at the start; all of it anew if the head is gone."""
        for name in [name for name, process in self._nodes.items() if process.poll() is not None]:
            self.kill_node(name)
        if not self.alive:
            self.kill_all()
            self.start()
        while len(self.nodes) < self.workers:
            self.add_node()

    def kill_node(self, name: str) -> None:
        """SIGKILL all processes of a node at once, as a loss of power would."""
        process = self._nodes.pop(name)
        _kill_session(process.pid)
        process.wait()

    def kill_all(self) -> None:
        for name in [*self.nodes, "head"]:
            if name in self._nodes:
                self.kill_node(name)

    def pids(self, title: str) -> list[int]:
        """Processes of the worker nodes and the head whose title begins so, as in `ray::_decode_task`."""
        sessions = {process.pid for process in self._nodes.values()}
        return [pid for pid, session in _sessions() if session in sessions and _title(pid).startswith(title)]

    def pids_of(self, node: str, title: str) -> list[int]:
        """As `pids`, on one node."""
        session = self._nodes[node].pid
        return [pid for pid, found in _sessions() if found == session and _title(pid).startswith(title)]

    def _launch_worker(self, resources: str) -> str:
        self._count += 1
        name = f"node-{self._count}"
        ports = ["--dashboard-agent-listen-port", str(_free_port()), "--min-worker-port=0", "--max-worker-port=0"]
        self._launch(name, ["--address", self.address, f"--num-cpus={self.cpus}", "--resources", resources, *ports])
        return name

    def _launch(self, name: str, words: list[str]) -> None:
        command = [
            sys.executable,
            "-m",
            "ray.scripts.scripts",
            "start",
            "--block",
            "--disable-usage-stats",
            "--node-name",
            name,
            "--node-ip-address",
            "127.0.0.1",
            "--object-store-memory",
            str(self.object_store_mb * 2**20),
            *words,
        ]
        environment = plain_environment(RAY_TMPDIR=self._folder, **self.environment)
        with open(Path(self._folder, f"{name}.log"), "wb") as log:
            self._nodes[name] = subprocess.Popen(
                command, env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )

    def _wait_for(self, name: str, seconds: float = 120) -> None:
        """Return once `ray start` says that the node runs."""
        log, until = Path(self._folder, f"{name}.log"), time.monotonic() + seconds
        while "Ray runtime started" not in log.read_text(errors="replace"):
            if time.monotonic() > until or self._nodes[name].poll() is not None:
                raise RuntimeError(f"{name} did not start within {seconds:g} s: {log.read_text(errors='replace')}")
            time.sleep(0.1)


def kill_process_tree(process: subprocess.Popen[bytes]) -> None:
    """SIGKILL a process that was started in a session of its own, and all that it started."""
    _kill_session(process.pid)
    process.wait()


def _kill_session(session: int) -> None:
    """Until nothing of it is left: a process may be starting another one right now."""
    for _ in range(50):
        pids = [pid for pid, found in _sessions() if found == session]
        if not pids:
            return
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)


def _sessions() -> Iterator[tuple[int, int]]:
    """(pid, session) of every process that is no zombie (fields 3 and 6 of /proc/PID/stat)."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with contextlib.suppress(OSError):
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                if fields[0] not in "ZX":
                    yield int(entry.name), int(fields[3])


def _title(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    return ""


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
