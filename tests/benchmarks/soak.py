"""Many clients of a policy server, some of them hostile: do the others wait longer, and does its memory grow?"""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import random
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
from websockets.exceptions import WebSocketException
from websockets.sync.client import ClientConnection, connect

from jobs.common.policy.robot_interface import RobotObservation
from jobs.serving.client import PolicyClient
from jobs.serving.server import PolicyServer
from jobs.serving.settings import ServerSettings
from jobs.serving.wire import pack
from tests.benchmarks.report import Series, Target, interleaved, print_table
from tests.benchmarks.serving import ROBOT, NoPolicy

TRAINED = (np.full(ROBOT.state, -1, np.float32), np.ones(ROBOT.state, np.float32))
_LONG = 8 * 2**20
_PATIENCE_S = 60.0


@dataclass(frozen=True)
class Scale:
    """Clients at a time, how many of them are hostile, and queries of one measurement together."""

    clients: int = 50
    hostile: int = 10
    queries: int = 20_000


TINY = Scale(clients=4, hostile=1, queries=40)


def run(folder: Path, repeats: int, scale: Scale) -> None:
    """Measure the friendly clients alone and beside hostile ones, and print both and the server's memory."""
    with _served(folder) as (port, pid):
        _phase(port, scale, 0)
        begun = _resident_mb(pid)
        runs = {
            "friendly clients alone": lambda: _phase(port, scale, 0),
            f"with {scale.hostile} hostile ones of {scale.clients}": lambda: _phase(port, scale, scale.hostile),
        }
        alone, beside = interleaved(runs, repeats).values()
        grown = _resident_mb(pid) - begun
    print_table(
        "Policy server: 99th percentile of a friendly client's latency",
        "ms",
        [alone, beside],
        [Target(beside.over(alone, "with hostile ones / alone"), 2.0, at_most=True)],
        [f"{scale.clients} clients, {scale.queries:,} queries a measurement, a policy that answers at once, localhost"],
    )
    print_table("Policy server: memory that it took meanwhile", "MiB", [Series("resident, end - begin", (grown,))], [])


def _phase(port: int, scale: Scale, hostile: int) -> float:
    """The 99th percentile in milliseconds of the friendly clients' queries."""
    friendly, stop = scale.clients - hostile, threading.Event()
    each = max(1, scale.queries // scale.clients)
    with ThreadPoolExecutor(scale.clients) as pool:
        attacks = [pool.submit(_attack, port, number, stop) for number in range(hostile)]
        answers = [pool.submit(_ask, port, each) for _ in range(friendly)]
        took = [ms for answer in answers for ms in answer.result()]
        stop.set()
        for attack in attacks:
            attack.result()
    return float(np.percentile(took, 99))


def _ask(port: int, count: int) -> list[float]:
    """Milliseconds of each query of a friendly client."""
    took = []
    with PolicyClient("127.0.0.1", port) as client:
        for number in range(count):
            started = time.perf_counter()
            client.act([_observation()], [number])
            took.append(1e3 * (time.perf_counter() - started))
    return took


def _attack(port: int, seed: int, stop: threading.Event) -> None:
    """One hostile connection after the other."""
    kinds: list[Callable[[ClientConnection], None]] = [
        _garbage,
        _huge_state,
        _long_text,
        _unfinished,
        _leaves,
        _too_big,
    ]
    chosen = random.Random(seed)
    while not stop.is_set():
        opening = connect(f"ws://127.0.0.1:{port}", compression=None, proxy=None, close_timeout=0.1)
        with contextlib.suppress(OSError, WebSocketException), opening as connection:
            connection.recv(_PATIENCE_S)
            chosen.choice(kinds)(connection)
        stop.wait(0.02)


def _garbage(connection: ClientConnection) -> None:
    connection.send(random.randbytes(100_000))
    connection.recv(_PATIENCE_S)


def _huge_state(connection: ClientConnection) -> None:
    connection.send(_message(np.full(8, 3e38, np.float32), "pick up"))
    connection.recv(_PATIENCE_S)


def _long_text(connection: ClientConnection) -> None:
    connection.send(_message(np.zeros(8, np.float32), "pick up " * 10_000))
    connection.recv(_PATIENCE_S)


def _unfinished(connection: ClientConnection) -> None:
    connection.socket.sendall(b"\x82\xff" + _LONG.to_bytes(8, "big") + bytes(4) + bytes(2**20))


def _leaves(connection: ClientConnection) -> None:
    connection.send(_message(np.zeros(8, np.float32), "pick up"))
    connection.socket.shutdown(2)


def _too_big(connection: ClientConnection) -> None:
    connection.socket.sendall(b"\x82\xff" + (2**40).to_bytes(8, "big") + bytes(4))
    connection.recv(_PATIENCE_S)


def _message(state: np.ndarray, text: str) -> bytes:
    picture = _observation().images["front"]
    return pack({"images/front": picture, "images/wrist": picture, "observation/state": state, "prompt": text})


def _observation() -> RobotObservation:
    return RobotObservation(
        dict.fromkeys(ROBOT.views, np.zeros((64, 64, 3), np.uint8)), "pick up", np.zeros(8, np.float32)
    )


def _serve(sender: Connection, log: Path) -> None:
    """The server's process."""
    with open(log, "a") as file:
        settings = ServerSettings(port=0, held_mb=64, message_mb=16, connections=256)
        server = PolicyServer(
            NoPolicy(), settings, {"checkpoint": "soak", "step": 0}, lambda line: print(line, file=file), TRAINED
        )
        asyncio.run(server.run(sender.send))


@contextmanager
def _served(folder: Path) -> Iterator[tuple[int, int]]:
    """Port and process of a server of its own process."""
    receiver, sender = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(
        target=_serve, args=(sender, folder / "log.txt"), daemon=True
    )
    process.start()
    try:
        assert process.pid is not None
        yield receiver.recv(), process.pid
    finally:
        process.terminate()
        process.join()


def _resident_mb(pid: int) -> float:
    """Of a process, in MiB."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024
