"""A served policy is a policy; what happens when its server is late, goes away, comes back or is another."""

from __future__ import annotations

import socket
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from jobs.common.policy.channels import Channels
from jobs.serving import client as client_module
from jobs.serving.client import PolicyClient
from pipeline.errors import RunError, SettingsError
from tests.jobs.serving.fakes import (
    IDENTITY,
    IN_TIME_S,
    INTERFACE,
    FakePolicy,
    Running,
    expected,
    observation,
    running,
    until,
)


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "_BETWEEN_ATTEMPTS_S", 0.01)


def client(server: Running, **options: float) -> PolicyClient:
    return PolicyClient("127.0.0.1", server.port, **{"wait_s": IN_TIME_S, **options})


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
    return port


def test_it_acts_as_the_policy_that_is_served() -> None:
    observations, seeds = [observation(n) for n in range(7)], list(range(100, 107))
    with running(max_batch=3, keys={"front": "observation/front_cam"}) as server, client(server) as policy:
        assert policy.interface == INTERFACE
        assert policy.metadata["step"] == 7
        found = policy.act(observations, seeds)
        assert server.policy.calls == [3, 3, 1]
        assert policy.act([], []).shape == (0, 4, 2)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, FakePolicy().act(observations, seeds))


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"views": ("wrist", "front")}, r"cameras are front, wrist, expected wrist, front$"),
        (
            {"fps": 5.0, "statistics": "f" * 64},
            r"fps is 10 Hz, expected 5; statistics are eeeeeeeeeeee…, expect",
        ),
        (
            {"state_channels": (Channels(("x", "y", "z"), "millimetres", ""),)},
            r"state\[0\] is x \(metres, absolute\), expected x \(millimetres",
        ),
    ],
)
def test_a_policy_that_is_not_as_expected_is_refused_at_the_handshake(changes: dict[str, Any], text: str) -> None:
    state = (Channels(("x", "y", "z"), "metres", ""),)
    served = replace(INTERFACE, statistics="e" * 64, state_channels=state)
    with running(FakePolicy(served)) as server:
        PolicyClient(server.address, expects=served).close()
        with pytest.raises(SettingsError, match=rf"^ws://.* serves a policy that does not fit: {text}") as refused:
            PolicyClient(server.address, expects=replace(served, **changes))
        assert "\n" not in str(refused.value)
        assert not server.policy.calls
        until(lambda: sum("gone" in line for line in server.log) == 2)


def test_messages_stay_within_the_servers_limit() -> None:
    large = {view: np.zeros((400, 400, 3), np.uint8) for view in INTERFACE.views}
    observations = [type(observation())(large, "x", np.zeros(3, np.float32)) for _ in range(4)]
    with running(message_mb=2) as server, PolicyClient(server.address) as policy:
        assert policy.act(observations, [0] * 4).shape == (4, 4, 2)
    assert server.policy.calls == [2, 2]


def test_a_message_that_no_limit_allows_is_told_apart_from_a_lost_connection() -> None:
    large = {view: np.zeros((600, 700, 3), np.uint8) for view in INTERFACE.views}
    seen = type(observation())(large, "x", np.zeros(3, np.float32))
    with (
        running(message_mb=1) as server,
        client(server) as policy,
        pytest.raises(RunError, match="refused a message of"),
    ):
        policy.act([seen], [0])


def test_a_wrong_observation_is_an_error_here_and_leaves_the_connection() -> None:
    wrong = type(observation())({"front": observation().images["front"]}, "x", np.zeros(3, np.float32))
    with running() as server, client(server) as policy:
        with pytest.raises(ValueError, match="the image 'wrist' is missing"):
            policy.act([observation(), wrong], [0, 0])
        assert not server.policy.calls
        assert policy.act([observation()], [0]).shape == (1, 4, 2)
    assert sum("connected" in line for line in server.log) == 1


def test_what_the_server_refuses_is_a_wrong_observation() -> None:
    with (
        running() as server,
        client(server) as policy,
        pytest.raises(ValueError, match=r"ws://.*: observations\[0\]: seed"),
    ):
        policy.act([observation()], [-1])


def test_a_policy_that_fails_there_is_an_error_here_and_the_next_query_is_answered() -> None:
    with running(FakePolicy(broken=("xxx",))) as server, client(server) as policy:
        with pytest.raises(RunError, match="the policy failed on this query; the server's log has the reason"):
            policy.act([observation(2)], [0])
        assert policy.act([observation(3)], [0]).shape == (1, 4, 2)


def test_a_server_that_starts_later_is_waited_for() -> None:
    port = free_port()
    with ThreadPoolExecutor(1) as pool:
        found = pool.submit(PolicyClient, "127.0.0.1", port, None, IN_TIME_S)
        with running(port=port), found.result(IN_TIME_S) as policy:
            assert policy.act([observation()], [0]).shape == (1, 4, 2)


def test_no_server_is_an_error_that_says_what_to_look_at() -> None:
    port = free_port()
    with pytest.raises(
        RunError, match=rf"ws://127\.0\.0\.1:{port}: no policy server within 0 s \(ConnectionRefusedError"
    ):
        PolicyClient("127.0.0.1", port, wait_s=0.0)


def test_a_server_that_was_started_again_is_asked_again() -> None:
    port = free_port()
    with running(port=port) as server:
        policy = client(server)
        before = policy.act([observation(2)], [5])
    with running(port=port):
        np.testing.assert_array_equal(policy.act([observation(2)], [5]), before)
        policy.close()


def test_a_query_that_a_dying_server_does_not_answer_is_asked_again() -> None:
    port, slow = free_port(), FakePolicy()
    with ThreadPoolExecutor(1) as pool:
        with running(slow, port=port, grace_s=0.0) as server:
            policy = client(server)
            slow.gate.clear()
            found = pool.submit(policy.act, [observation(2)], [5])
            assert slow.entered.wait(IN_TIME_S)
            server.end()
        with running(port=port) as second:
            np.testing.assert_array_equal(found.result(IN_TIME_S), [expected(observation(2), 5)])
            assert second.policy.calls == [1]
            policy.close()


def test_another_policy_at_the_same_address_is_not_used_in_its_place() -> None:
    port = free_port()
    with running(port=port) as server:
        policy = client(server)
    other = {**IDENTITY, "step": 8}
    with running(port=port, identity=other), pytest.raises(RunError, match=r"now serves another policy: .*'step': 8"):
        policy.act([observation()], [0])


def test_a_server_that_is_gone_is_an_error() -> None:
    with running() as server:
        policy = client(server)
        policy._wait_s = 0.0
    with pytest.raises(RunError, match="no policy server within 0 s"):
        policy.act([observation()], [0])


def test_an_answer_that_does_not_come_is_an_error() -> None:
    slow = FakePolicy()
    with running(slow, grace_s=0.0) as server:
        slow.gate.clear()
        policy = client(server, answer_s=0.05)
        with pytest.raises(RunError, match=r"no answer within 0\.05 s"):
            policy.act([observation()], [0])


def test_another_kind_of_server_is_refused() -> None:
    other = {"server": "pi"}
    with (
        running(identity=other) as server,
        pytest.raises(RunError, match=r"is no `vlajepa serve`.*server='pi', wire=1"),
    ):
        client(server)


def test_the_key_is_sent_and_a_wrong_one_is_no_reason_to_wait() -> None:
    with running(api_key="secret") as server:
        with PolicyClient("127.0.0.1", server.port, "secret") as policy:
            assert policy.interface == INTERFACE
        with pytest.raises(SettingsError, match=r"401.*send the header Authorization"):
            PolicyClient("127.0.0.1", server.port, "wrong")


def test_a_full_server_is_tried_until_there_is_room() -> None:
    with running(connections=1) as server:
        first = client(server)
        with pytest.raises(RunError, match=r"503.*1 clients are connected, which is the limit"):
            client(server, wait_s=0.0)
        with ThreadPoolExecutor(1) as pool:
            found = pool.submit(client, server)
            first.close()
            with found.result(IN_TIME_S) as second:
                assert second.interface == INTERFACE
        until(lambda: any(line.endswith("0 clients") for line in server.log[-1:]))


@pytest.mark.parametrize("address", ["http://robot:80", "ws://", "ws://robot:none"])
def test_an_address_that_is_none_is_a_wrong_setting(address: str) -> None:
    with pytest.raises(SettingsError, match=r"is no address; give ws://host:port"):
        PolicyClient(address)
