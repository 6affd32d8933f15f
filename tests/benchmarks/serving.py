"""A served policy against the same policy called directly: latency, and the rate of several clients."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from jobs.common.policy.checkpoint_policy import CheckpointPolicy
from jobs.common.policy.robot_interface import Policy, RobotInterface, RobotObservation
from jobs.serving.client import PolicyClient
from jobs.serving.server import PolicyServer
from jobs.serving.settings import ServerSettings
from model.checkpoint.checkpoint import save_weights
from model.checkpoint.vouched import VOUCHED, as_json
from model.normalize import BuildStats, ChannelRange
from model.settings import tiny_settings
from model.vla_jepa import build_model
from pipeline.format.schema import Sizes
from tests.benchmarks.report import Series, Target, interleaved, print_table
from tests.jobs.closed_loop.checkpoints import CLAIMED_CLEAN

SIZES = Sizes(views=2, image_size=224, steps=3, tokens=4, width=10, state=8, chunk=7, action=7)
ROBOT = RobotInterface(
    "benchmark", ("front", "wrist"), SIZES.image_size, 95, 10.0, SIZES.state, SIZES.chunk, SIZES.action
)
CAMERA = 256
"""Pixels a side of the pictures that are sent."""


@dataclass(frozen=True)
class Scale:
    """Queries of one measurement without a policy, with the model, and of each client; clients at once."""

    round_trips: int = 200
    model_trips: int = 20
    each: int = 20
    clients: tuple[int, ...] = (1, 2, 4, 8)


TINY = Scale(round_trips=2, model_trips=1, each=1, clients=(1, 2))


class NoPolicy:
    """Zeros at once: what is left is the server."""

    interface = ROBOT

    def act(self, observations: list[RobotObservation], seeds: list[int]) -> np.ndarray:
        return np.zeros((len(observations), ROBOT.chunk, ROBOT.action), np.float32)


def run(folder: Path, repeats: int, scale: Scale) -> None:
    """Time both policies, called and served, and print the tables."""
    tiny = _tiny_policy(folder)
    policies: dict[str, tuple[Policy, int]] = {
        "no policy": (NoPolicy(), scale.round_trips),
        "tiny model": (tiny, scale.model_trips),
    }
    for name, (policy, count) in policies.items():
        with _served(policy) as port, PolicyClient("127.0.0.1", port) as client:
            runs = {
                "called": lambda policy=policy, count=count: _latency(policy, count),
                "served": lambda client=client, count=count: _latency(client, count),
            }
            for warm_up in runs.values():
                warm_up()
            series = interleaved(runs, repeats)
        called, served = series["called"], series["served"]
        added = tuple(slow - fast for slow, fast in zip(served.values, called.values, strict=True))
        print_table(
            f"Policy server, {name}: median latency of a query",
            "ms",
            [called, served, Series("served - called", added)],
            [Target(served.over(called, "served / called"), 1.2, at_most=True)] if policy is tiny else [],
            [f"2 pictures of {CAMERA} px, {2 * CAMERA**2 * 3 / 1024:.0f} KiB a query, one client, localhost"],
        )
    with _served(tiny) as port:
        runs = {f"{n} clients": lambda n=n: _rate(port, n, scale.each) for n in scale.clients}
        series = interleaved(runs, repeats)
    first = series[f"{scale.clients[0]} clients"]
    ratios = [series[f"{n} clients"].over(first, f"{n} clients / 1 client") for n in scale.clients[1:]]
    print_table(
        "Policy server, tiny model: queries of several clients, batched", "queries/s", [*series.values()], ratios
    )


def _latency(policy: Policy, count: int) -> float:
    """Median milliseconds of a query."""
    seen, took = _observation(), []
    for number in range(count):
        started = time.perf_counter()
        policy.act([seen], [number])
        took.append(1e3 * (time.perf_counter() - started))
    return float(np.median(took))


def _rate(port: int, clients: int, each: int) -> float:
    """Queries a second of clients that each ask one after another."""

    def ask(_: int) -> None:
        with PolicyClient("127.0.0.1", port) as client:
            together.wait()
            for number in range(each):
                client.act([_observation()], [number])

    together = threading.Barrier(clients + 1)
    with ThreadPoolExecutor(clients) as pool:
        done = [pool.submit(ask, number) for number in range(clients)]
        together.wait()
        started = time.perf_counter()
        for one in done:
            one.result()
        return clients * each / (time.perf_counter() - started)


@contextmanager
def _served(policy: Policy) -> Iterator[int]:
    """The port of a server in a thread of this process."""
    server = PolicyServer(policy, ServerSettings(port=0), {"checkpoint": "benchmark", "step": 0}, lambda line: None)
    ports, ready = list[int](), threading.Event()

    def started(port: int) -> None:
        ports.append(port)
        ready.set()

    thread = threading.Thread(target=lambda: asyncio.run(server.run(started)))
    thread.start()
    ready.wait()
    try:
        yield ports[0]
    finally:
        server.stop()
        thread.join()


def _tiny_policy(folder: Path) -> CheckpointPolicy:
    settings = tiny_settings()
    stats = BuildStats(
        ChannelRange((-1.0,) * SIZES.state, (1.0,) * SIZES.state), ChannelRange((-1.0,) * 7, (1.0,) * SIZES.action)
    )
    state = {
        "model": asdict(settings),
        "model_sizes": asdict(SIZES),
        "robot": asdict(ROBOT),
        VOUCHED: as_json(CLAIMED_CLEAN),
    }
    save_weights(folder / "step-00000000", build_model(settings, SIZES, stats), state)
    return CheckpointPolicy(folder / "step-00000000", "cpu")


def _observation() -> RobotObservation:
    picture = np.random.default_rng(0).integers(0, 256, (CAMERA, CAMERA, 3), dtype=np.uint8)
    return RobotObservation(
        dict.fromkeys(ROBOT.views, picture), "pick up the bottle", np.zeros(ROBOT.state, np.float32)
    )
