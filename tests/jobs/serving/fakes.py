"""A policy without a model, and a server in a thread of the test's process."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jobs.common.policy.robot_interface import Policy, RobotInterface, RobotObservation, check_observation
from jobs.serving.limits import Ends
from jobs.serving.server import PolicyServer
from jobs.serving.settings import ServerSettings

INTERFACE = RobotInterface(
    source="bottle", views=("front", "wrist"), image_size=64, jpeg_quality=95, fps=10.0, state=3, chunk=4, action=2
)
IDENTITY = {"checkpoint": "run/step-00000007", "step": 7}
IN_TIME_S = 120.0
"""A wait that ends a test which would otherwise hang; no test passes by waiting."""


@dataclass
class FakePolicy:
    """Actions that spell the observation: first pixels, state, length of the instruction, seed.

    gate    a call waits until it is set;  entered  is set when a call begins
    calls   size of each call's batch
    broken  instructions for which it fails
    """

    interface: RobotInterface = INTERFACE
    gate: threading.Event = field(default_factory=threading.Event)
    entered: threading.Event = field(default_factory=threading.Event)
    calls: list[int] = field(default_factory=list)
    broken: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self.gate.set()

    def act(self, observations: Sequence[RobotObservation], seeds: Sequence[int]) -> NDArray[np.float32]:
        self.calls.append(len(observations))
        self.entered.set()
        assert self.gate.wait(IN_TIME_S)
        for observation in observations:
            check_observation(observation, self.interface)
            if observation.instruction in self.broken:
                raise RuntimeError(f"out of ideas for {observation.instruction}")
        return np.stack([expected(o, seed) for o, seed in zip(observations, seeds, strict=True)])


def expected(observation: RobotObservation, seed: int) -> NDArray[np.float32]:
    """What the fake policy answers, float32 [4, 2]."""
    pixels = [float(observation.images[view][0, 0, 0]) for view in INTERFACE.views]
    rows = [
        pixels,
        observation.state[:2],
        [observation.state[2], len(observation.instruction)],
        [seed % 1009, seed % 7],
    ]
    return np.array(rows, np.float32)


def observation(number: int = 0) -> RobotObservation:
    """One whose images, state and instruction encode a number below 200."""
    images = {"front": np.full((48, 64, 3), number, np.uint8), "wrist": np.full((32, 32, 3), number + 50, np.uint8)}
    return RobotObservation(images, "x" * (number + 1), np.array([number, 0.5, -number], np.float32))


def message(number: int = 0, **changes: Any) -> dict[str, Any]:
    """The observation as openpi's LIBERO example sends it; a change to None takes a key away."""
    seen = observation(number)
    content = {
        "observation/image": seen.images["front"],
        "observation/wrist_image": seen.images["wrist"],
        "observation/state": seen.state,
        "prompt": seen.instruction,
    }
    content |= {key.replace("__", "/"): value for key, value in changes.items()}
    return {key: value for key, value in content.items() if value is not None}


def until(condition: Callable[[], Any]) -> None:
    """Wait for what another thread is about to do."""
    deadline = time.monotonic() + IN_TIME_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


@dataclass(frozen=True)
class Running:
    """A server that clients can reach at `port`; what it logged; `end` stops it and waits until it has stopped."""

    server: PolicyServer
    policy: Any
    port: int
    log: list[str]
    thread: threading.Thread

    @property
    def address(self) -> str:
        return f"ws://127.0.0.1:{self.port}"

    def end(self) -> None:
        self.server.stop()
        self.thread.join(IN_TIME_S)
        assert not self.thread.is_alive()


@contextmanager
def running(
    policy: Policy | None = None,
    port: int = 0,
    identity: Mapping[str, Any] = IDENTITY,
    trained: Ends | None = None,
    actions: Ends | None = None,
    **settings: Any,
) -> Iterator[Running]:
    """A server of a policy, by default a fake one, on a free port unless one is named."""
    policy, log, ports = policy or FakePolicy(), list[str](), list[int]()
    server = PolicyServer(policy, ServerSettings(port=port, **settings), identity, log.append, trained, actions)
    ready = threading.Event()

    def started(port: int) -> None:
        ports.append(port)
        ready.set()

    thread = threading.Thread(target=lambda: asyncio.run(server.run(started)), daemon=True)
    thread.start()
    assert ready.wait(IN_TIME_S)
    found = Running(server, policy, ports[0], log, thread)
    try:
        yield found
    finally:
        if isinstance(policy, FakePolicy):
            policy.gate.set()
        found.end()
