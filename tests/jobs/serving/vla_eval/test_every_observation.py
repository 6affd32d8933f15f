"""Every observation is looked at before an action is given, also while a chunk has actions left."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import msgpack
import numpy as np
import pytest
from numpy.typing import NDArray
from websockets.sync.client import ClientConnection, connect

from jobs.serving.vla_eval.session import PATH
from tests.jobs.serving.fakes import IN_TIME_S, Running, expected, observation, running


def array(value: NDArray[Any]) -> dict[str, Any]:
    return {"__ndarray__": True, "data": value.tobytes(), "dtype": value.dtype.str, "shape": list(value.shape)}


def payload(number: int, **changes: Any) -> dict[str, Any]:
    seen = observation(number)
    images = {view: array(image) for view, image in seen.images.items()}
    return {"images": images, "task_description": seen.instruction, "states": array(seen.state), "seed": 1, **changes}


@dataclass
class Talk:
    socket: ClientConnection
    server: Running
    seq: int = 0

    def act(self, content: dict[str, Any]) -> tuple[str, Any]:
        """The type of the answer, and its action or error."""
        self.seq += 1
        self.socket.send(msgpack.packb({"type": "observation", "payload": content, "seq": self.seq, "timestamp": 0.0}))
        answer = msgpack.unpackb(self.socket.recv(IN_TIME_S))
        assert answer["seq"] == self.seq
        if answer["type"] == "error":
            return "error", answer["payload"]["error"]
        return "action", np.frombuffer(answer["payload"]["actions"]["data"], np.float32)


@contextmanager
def talking() -> Iterator[Talk]:
    with running() as server, connect(server.address + PATH, proxy=None) as socket:
        yield Talk(socket, server)


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({}, "image 'front' is missing"),
        (payload(5, states=array(np.array([np.nan, 0, 0]))), "state"),
        (payload(5, states=array(np.zeros(2))), "state"),
        (payload(5, images={"front": "nonsense", "wrist": payload(5)["images"]["wrist"]}), "must be a uint8 array"),
        (payload(5, images={"front": payload(5)["images"]["front"]}), "the policy needs front, wrist"),
        (payload(5, task_description="x" * 10_000), "the instruction may have"),
        (payload(5, task_description=None), "instruction"),
        (payload(5, seed=-1), "seed must be an integer"),
    ],
)
def test_a_wrong_observation_is_refused_while_actions_are_left_and_ends_them(wrong: dict[str, Any], text: str) -> None:
    with talking() as talk:
        chunk = expected(observation(5), 1)
        np.testing.assert_array_equal(talk.act(payload(5))[1], chunk[0])
        kind, error = talk.act(wrong)
        assert kind == "error"
        assert text in error
        assert any("refused: " in line for line in talk.server.log)
        np.testing.assert_array_equal(talk.act(payload(5))[1], chunk[0])  # asked anew
        np.testing.assert_array_equal(talk.act(payload(5))[1], chunk[1])
    assert talk.server.policy.calls == [1, 1]


def test_another_instruction_asks_the_policy_anew() -> None:
    with talking() as talk:
        one, other = expected(observation(5), 1), expected(observation(7), 1)
        found = [talk.act(payload(number))[1] for number in (5, 5, 7, 7, 5)]
    for action, wanted in zip(found, [one[0], one[1], other[0], other[1], one[0]], strict=True):
        np.testing.assert_array_equal(action, wanted)
    assert talk.server.policy.calls == [1, 1, 1]
