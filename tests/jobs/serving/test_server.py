"""The server as openpi's client sees it: many of them, wrong ones, ones that go away."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgpack
import numpy as np
import pytest
from websockets.exceptions import ConnectionClosedError, ConnectionClosedOK, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from jobs.serving.keys import noise_seed
from jobs.serving.server import FAILED
from jobs.serving.wire import pack, unpack
from tests.jobs.serving.fakes import IN_TIME_S, FakePolicy, Running, expected, message, observation, running, until


def client(server: Running, **options: Any) -> ClientConnection:
    """A connection as openpi's client makes it, after the metadata."""
    connection = connect(server.address, compression=None, max_size=None, proxy=None, **options).__enter__()
    connection.recv(IN_TIME_S)
    return connection


def infer(connection: ClientConnection, content: dict[str, Any]) -> dict[str, Any]:
    connection.send(pack(content))
    reply = connection.recv(IN_TIME_S)
    assert isinstance(reply, bytes), reply
    return unpack(reply)


def refusal(connection: ClientConnection, data: bytes | str) -> tuple[str, int | None]:
    """The text of an error and the code the connection is then closed with."""
    connection.send(data)
    text = connection.recv(IN_TIME_S)
    assert isinstance(text, str)
    with pytest.raises(ConnectionClosedError):
        connection.recv(IN_TIME_S)
    return text, connection.close_code


def test_a_client_is_told_what_it_has_to_know() -> None:
    with running(keys={"wrist": "cam_wrist"}, max_batch=5) as server:
        with connect(server.address, proxy=None) as connection:
            hello = unpack(connection.recv(IN_TIME_S, decode=False))
        assert hello == server.server.metadata
    assert (hello["server"], hello["wire"], hello["checkpoint"], hello["step"]) == (
        "vlajepa",
        1,
        "run/step-00000007",
        7,
    )
    assert hello["interface"] == {
        "source": "bottle",
        "views": ["front", "wrist"],
        "image_size": 64,
        "jpeg_quality": 95,
        "fps": 10.0,
        "state": 3,
        "chunk": 4,
        "action": 2,
        "state_channels": [],
        "action_channels": [],
        "statistics": "",
    }
    assert [camera["name"] for camera in hello["contract"]["cameras"]] == ["front", "wrist"]
    assert (hello["contract"]["control_hz"], hello["contract"]["chunk"]) == (10.0, 4)
    assert hello["keys"] == {
        "images": {
            "front": ["images/front", "observation/front", "observation/image"],
            "wrist": ["cam_wrist", "images/wrist", "observation/wrist", "observation/wrist_image"],
        },
        "state": ["observation/state", "state"],
        "prompt": ["prompt"],
        "seed": "seed",
        "committed": ["committed", "delay"],
        "group": "observations",
    }
    assert hello["limits"] == {
        "max_batch": 5,
        "message_bytes": 64 * 2**20,
        "instruction_characters": 1000,
        "image_side": 4096,
        "state": None,
    }


def test_a_reply_holds_actions_and_timing() -> None:
    with running() as server:
        connection = client(server)
        first, second = infer(connection, message(3, seed=8)), infer(connection, message(4, seed=9))
    assert first.keys() == {"actions", "server_timing"}
    assert first["actions"].dtype == np.float32
    np.testing.assert_array_equal(first["actions"], expected(observation(3), 8))
    np.testing.assert_array_equal(second["actions"], expected(observation(4), 9))
    assert first["server_timing"].keys() == {"infer_ms", "wait_ms", "batch"}
    assert second["server_timing"].keys() == {"infer_ms", "wait_ms", "batch", "prev_total_ms"}


def test_noise_is_that_of_the_seed_and_the_number_of_the_query() -> None:
    with running(seed=5) as server:
        for connection in (client(server), client(server)):
            for number in range(3):
                found = infer(connection, message(1))["actions"]
                np.testing.assert_array_equal(found, expected(observation(1), noise_seed(5, number)))
    assert len({noise_seed(seed, number) for seed in range(4) for number in range(4)}) == 16
    assert all(0 <= noise_seed(0, number) < 2**63 for number in range(100))


def test_a_group_is_answered_together() -> None:
    with running() as server:
        reply = infer(client(server), {"observations": [message(n, seed=n) for n in range(5)]})
    assert server.policy.calls == [5]
    np.testing.assert_array_equal(reply["actions"], [expected(observation(n), n) for n in range(5)])


def test_eight_clients_at_once_get_their_own_answers_in_shared_calls() -> None:
    policy = FakePolicy()

    def ask(number: int) -> Sequence[np.ndarray]:
        with connect(server.address, compression=None, proxy=None) as connection:
            connection.recv(IN_TIME_S)
            return [infer(connection, message(number + query, seed=number))["actions"] for query in range(5)]

    with running(policy, max_batch=4) as server, ThreadPoolExecutor(8) as pool:
        policy.gate.clear()
        client(server).send(pack(message()))
        assert policy.entered.wait(IN_TIME_S)
        found = [pool.submit(ask, 10 * number) for number in range(8)]
        until(lambda: server.server._batcher.waiting == 8)
        policy.gate.set()
        for number, answers in enumerate(found):
            wanted = [expected(observation(10 * number + query), 10 * number) for query in range(5)]
            np.testing.assert_array_equal(answers.result(IN_TIME_S), wanted)
    assert policy.calls[:2] == [1, 4]
    assert sum(policy.calls) == 41


BAD: dict[str, tuple[bytes | str, str]] = {
    "garbage": (b"\xc1garbage", "not a msgpack message"),
    "text": ("text", "must be binary msgpack, got a text frame"),
    "missing": (pack(message(observation__image=None)), "image 'front' is missing; send it as images/front or"),
    "dtype": (pack(message(observation__image=np.zeros((8, 8, 3)))), "must be a uint8 array"),
    "nan": (pack(message(observation__state=np.full(3, np.nan))), "state must be finite"),
    "empty prompt": (pack(message(prompt="")), "the instruction is empty"),
    "seed": (pack(message(seed=-1)), "seed must be an integer"),
    "empty group": (pack({"observations": []}), "may hold 1 to 2 observations"),
    "large group": (pack({"observations": [message()] * 3}), "may hold 1 to 2 observations"),
    "group": (pack({"observations": [message(), {"prompt": "x"}]}), "observations[1]: the image 'front' is missing"),
    "no map": (pack({"observations": [message(), 7]}), "observations[1]: an observation is a map, got a int"),
    "objects": (
        msgpack.packb({"x": {b"__ndarray__": True, b"data": b"", b"dtype": "|O", b"shape": [0]}}),
        "dtype '|O' is refused",
    ),
}
"""What is sent, and a part of the answer."""


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_message_costs_its_client_the_connection_and_nobody_else(kind: str) -> None:
    data, fragment = BAD[kind]
    with running(max_batch=2) as server:
        good = client(server)
        text, code = refusal(client(server), data)
        assert fragment in text
        assert code == 1007
        np.testing.assert_array_equal(infer(good, message(2, seed=1))["actions"], expected(observation(2), 1))
        assert server.policy.calls == [1]


def test_a_message_beyond_the_limit_is_refused_with_the_limit() -> None:
    with running(message_mb=1) as server:
        good, connection = client(server), client(server)
        connection.send(pack(message(observation__image=np.zeros((1024, 1024, 3), np.uint8))))
        with pytest.raises(ConnectionClosedError, match=r"1009 \(message too big\).*1048576 bytes"):
            connection.recv(IN_TIME_S)
        assert infer(good, message())["actions"].shape == (4, 2)


def test_a_policy_that_fails_for_one_client_answers_the_others() -> None:
    policy = FakePolicy(broken=(observation(3).instruction,))
    with running(policy) as server:
        good = client(server)
        text, code = refusal(client(server), pack(message(3)))
        assert (text, code) == (FAILED, 1011)
        assert infer(good, message(1))["actions"].shape == (4, 2)
    assert any("Traceback" in line and "out of ideas" in line for line in server.log)


@pytest.mark.parametrize(
    "headers", [{}, {"Authorization": "Api-Key wrong"}, {"Authorization": "secret"}, {"Authorization": "Api-Key \xe9"}]
)
def test_without_the_key_nobody_is_served(headers: dict[str, str]) -> None:
    with running(api_key="secret") as server, pytest.raises(InvalidStatus, match="401"):
        client(server, additional_headers=headers)
    assert not server.log


def test_web_pages_are_refused() -> None:
    with running() as server, pytest.raises(InvalidStatus, match="403"):
        client(server, origin="http://example.com")


def test_there_is_room_for_so_many_clients_and_again_when_one_leaves() -> None:
    with running(connections=1) as server:
        first = client(server)
        with pytest.raises(InvalidStatus, match="503"):
            client(server)
        first.close()
        until(lambda: any(line.endswith("gone (code 1000), 0 clients") for line in server.log[-1:]))
        assert infer(client(server), message())["actions"].shape == (4, 2)


def leave(connection: ClientConnection) -> None:
    connection.close()


def die(connection: ClientConnection) -> None:
    """Without a word, as a process that is killed."""
    connection.socket.shutdown(2)


@pytest.mark.parametrize("end", [leave, die])
def test_a_client_that_goes_away_while_it_waits_is_forgotten(
    end: Callable[[ClientConnection], None], caplog: pytest.LogCaptureFixture
) -> None:
    policy = FakePolicy()
    with running(policy) as server:
        first, gone = client(server), client(server)
        policy.gate.clear()
        first.send(pack(message(1, seed=1)))
        assert policy.entered.wait(IN_TIME_S)
        gone.send(pack(message(2)))
        until(lambda: server.server._batcher.waiting == 1)
        end(gone)
        until(lambda: any(" gone (code" in line for line in server.log))
        policy.gate.set()
        np.testing.assert_array_equal(unpack(first.recv(IN_TIME_S))["actions"], expected(observation(1), 1))
        assert infer(first, message(3))["actions"].shape == (4, 2)
    assert policy.calls == [1, 1]
    assert not [record for record in caplog.records if record.name == "asyncio"]


def test_a_stop_finishes_the_queries_under_way_and_lets_everybody_go() -> None:
    policy = FakePolicy()
    with running(policy) as server:
        working, waiting, idle = client(server), client(server), client(server)
        policy.gate.clear()
        working.send(pack(message(1, seed=1)))
        assert policy.entered.wait(IN_TIME_S)
        waiting.send(pack(message(2, seed=2)))
        until(lambda: server.server._batcher.waiting == 1)
        server.server.stop()
        with pytest.raises(ConnectionClosedOK, match=r"1001 \(going away\) the server stops"):
            idle.recv(IN_TIME_S)
        with pytest.raises(OSError, match="refused"):
            client(server)
        policy.gate.set()
        for number, connection in ((1, working), (2, waiting)):
            reply = connection.recv(IN_TIME_S, decode=False)
            np.testing.assert_array_equal(unpack(reply)["actions"], expected(observation(number), number))
            with pytest.raises(ConnectionClosedOK, match="1001"):
                connection.recv(IN_TIME_S)
        server.end()


def test_a_policy_that_never_returns_does_not_keep_the_server_from_stopping() -> None:
    policy = FakePolicy()
    with running(policy, grace_s=0.0) as server:
        connection = client(server)
        policy.gate.clear()
        connection.send(pack(message()))
        assert policy.entered.wait(IN_TIME_S)
        server.end()
        with pytest.raises(ConnectionClosedError):
            connection.recv(IN_TIME_S)
    assert "1 queries were not answered within grace_s=0" in server.log


def test_rate_and_latency_are_said_now_and_then() -> None:
    with running(report_s=0.01) as server:
        connection = client(server)
        infer(connection, {"observations": [message(), message()]})
        until(lambda: any("queries/s, batch 2.0, latency p50" in line for line in server.log))
