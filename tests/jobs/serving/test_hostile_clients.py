"""Clients that want the server ill, slow or full: it is not, and who behaves is served."""

from __future__ import annotations

import contextlib
import socket
import time
import urllib.error
import urllib.request

import numpy as np
import pytest
from websockets.exceptions import ConnectionClosedError, InvalidMessage, InvalidStatus
from websockets.sync.client import ClientConnection

from jobs.serving import health
from jobs.serving.health import own_question
from jobs.serving.limits import InputLimits
from jobs.serving.log_lines import bounded, websockets_logger
from jobs.serving.wire import pack
from tests.jobs.serving.fakes import (
    IN_TIME_S,
    INTERFACE,
    FakePolicy,
    Running,
    expected,
    message,
    observation,
    running,
    until,
)
from tests.jobs.serving.test_server import client, infer, refusal

TRAINED = (np.array([-1, 0, 5], np.float32), np.array([1, 0.5, 5], np.float32))
LONG = "x" * 1001


def health_of(server: Running) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/healthz") as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


@pytest.mark.parametrize(
    ("changes", "fragment"),
    [
        ({"observation__state": np.array([3e38, 0, 5], np.float32)}, r"state[0] must be -21 to 21, got 3e+38"),
        ({"observation__state": np.array([0, -1e30, 5])}, r"state[1] must be -10 to 10.5, got -1e+30"),
        ({"observation__state": [0, 0, 15.1]}, r"state[2] must be -5 to 15, got 15.1"),
        ({"prompt": LONG}, "the instruction may have 1000 characters, got 1001"),
        ({"observation__image": np.zeros((1, 4097, 3), np.uint8)}, "may have 4096 pixels a side, got 4097 x 1"),
        ({"observation__image": np.zeros((5000, 1, 3), np.uint8)}, "may have 4096 pixels a side, got 1 x 5000"),
        ({"prompt": "pick up " * 10_000}, "the instruction may have 1000 characters, got 80000"),
    ],
)
def test_what_no_policy_was_trained_on_is_the_clients_fault(changes: dict, fragment: str) -> None:
    with running(trained=TRAINED) as server:
        for _ in range(8):
            text, code = refusal(client(server), pack(message(5, **changes)))
            assert fragment in text
            assert code == 1007
        assert not server.policy.calls
        assert health_of(server) == (200, "OK\n")


def test_the_limits_are_in_the_metadata_and_reach_beyond_training() -> None:
    with running(trained=TRAINED, state_margin=2.0, instruction_characters=7) as server:
        assert server.server.metadata["limits"]["state"] == {"low": [-5, -2, 3], "high": [5, 2.5, 7]}
        assert server.server.metadata["limits"]["instruction_characters"] == 7
        inside = message(1, observation__state=np.array([5, -2, 7], np.float32))
        assert infer(client(server), inside)["actions"].shape == (4, 2)


def test_limits_of_extreme_ranges_are_finite() -> None:
    most = np.finfo(np.float32).max
    limits = InputLimits.around(10, 10.0, (np.array([-most], np.float32), np.array([most], np.float32)))
    question = own_question(INTERFACE, limits)
    assert np.isfinite(question.state).all()
    limits.check(question)


def test_a_failure_shows_clients_no_exception_and_no_path() -> None:
    policy = FakePolicy(broken=("/secret/path",))
    with running(policy) as server:
        text, code = refusal(client(server), pack(message(3, prompt="/secret/path")))
        assert code == 1011
        assert "secret" not in text
        assert "RuntimeError" not in text
        assert any("out of ideas for /secret/path" in line for line in server.log)


def test_queries_that_fail_do_not_decide_the_health() -> None:
    policy = FakePolicy(broken=(observation(3).instruction,))
    with running(policy) as server:
        for _ in range(8):
            refusal(client(server), pack(message(3)))
        assert health_of(server) == (200, "OK\n")


def test_a_policy_that_fails_is_ill_until_it_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "_FRESH_S", 0.0)
    policy = FakePolicy(broken=("wait",))
    with running(policy, api_key="secret") as server:
        assert health_of(server) == (503, f"{health.FAILED}\n")
        policy.broken = ()
        assert health_of(server) == (200, "OK\n")


def test_a_policy_that_hangs_is_ill() -> None:
    policy = FakePolicy()
    with running(policy, health_s=0.05) as server:
        policy.gate.clear()
        assert health_of(server) == (503, "the policy has not answered within 0.05 s\n")
        policy.gate.set()


def test_who_asks_for_the_health_often_does_not_keep_the_policy_busy() -> None:
    with running() as server:
        assert {health_of(server) for _ in range(20)} == {(200, "OK\n")}
        assert server.policy.calls == [1]


def test_the_health_question_goes_before_those_that_wait() -> None:
    policy = FakePolicy()
    with running(policy, max_batch=1) as server:
        policy.gate.clear()
        connections = [client(server) for _ in range(4)]
        for number, connection in enumerate(connections):
            connection.send(pack(message(number, seed=1)))
        until(lambda: server.server._batcher.waiting == 3)
        (asked,) = server.server._batcher.submit([health.Query(own_question(INTERFACE, server.server.limits), 0)], True)
        policy.entered.clear()
        policy.gate.set()
        assert asked.result(IN_TIME_S).batch == 1
        for number, connection in enumerate(connections):
            assert connection.recv(IN_TIME_S, decode=False)
            del number


def test_an_idle_client_gives_its_place_to_one_who_comes() -> None:
    with running(connections=2, idle_s=0.2) as server:
        idle, working = client(server), client(server)
        time.sleep(0.3)
        infer(working, message())
        newcomer = client(server)
        with pytest.raises(ConnectionClosedError, match=r"1013.*idle; the place was needed"):
            idle.recv(IN_TIME_S)
        for connection in (working, newcomer):
            np.testing.assert_array_equal(infer(connection, message(2, seed=1))["actions"], expected(observation(2), 1))


def test_a_client_that_waits_for_its_answer_keeps_its_place() -> None:
    policy = FakePolicy()
    with running(policy, connections=1, idle_s=0.0) as server:
        waiting = client(server)
        policy.gate.clear()
        waiting.send(pack(message(1)))
        assert policy.entered.wait(IN_TIME_S)
        with pytest.raises(InvalidStatus, match="503"):
            client(server)
        policy.gate.set()
        assert waiting.recv(IN_TIME_S)


def unfinished(connection: ClientConnection, megabytes: int) -> None:
    """The beginning of a binary message of 8 MiB, as a client would send it that never ends it."""
    head = b"\x82\xff" + (8 * 2**20).to_bytes(8, "big") + b"\0\0\0\0"
    with contextlib.suppress(OSError):  # cut off meanwhile
        connection.socket.sendall(head + bytes(megabytes * 2**20 - len(head)))


def test_messages_that_never_end_take_bounded_memory_and_the_largest_is_cut_off() -> None:
    with running(message_mb=8, held_mb=20) as server:
        good = client(server)
        hostile = [client(server) for _ in range(5)]
        for connection in hostile:
            unfinished(connection, 7)
        until(lambda: sum("cut off" in line for line in server.log) == 3)
        assert server.server._intake.total <= 20 * 2**20
        np.testing.assert_array_equal(infer(good, message(2, seed=1))["actions"], expected(observation(2), 1))


def test_what_was_answered_is_no_longer_counted() -> None:
    with running(message_mb=1, held_mb=1) as server:
        connection = client(server)
        for number in range(40):  # 40 times 12 KB of images and headers
            infer(connection, message(number % 9, seed=1))
        until(lambda: server.server._intake.total < 2**12)


def test_a_connection_that_never_becomes_a_websocket_is_forgotten() -> None:
    with running() as server:
        with socket.create_connection(("127.0.0.1", server.port)) as plain:
            plain.sendall(b"GET / HTTP/1.1\r\n")
            until(lambda: server.server._intake.total == 16)
        until(lambda: server.server._intake.total == 0)


def test_connections_that_say_nothing_do_not_use_up_the_files() -> None:
    with running(connections=2) as server, contextlib.ExitStack() as stack:
        good = client(server)
        silent = [stack.enter_context(socket.create_connection(("127.0.0.1", server.port))) for _ in range(120)]
        silent[0].settimeout(IN_TIME_S)
        assert silent[0].recv(1) == b""  # the server closed it: the newest are kept
        until(lambda: len(server.server._intake._open) == 2 * 2 + 64)
        np.testing.assert_array_equal(infer(good, message(2, seed=1))["actions"], expected(observation(2), 1))
        stack.close()
        until(lambda: len(server.server._intake._open) == 1)
        assert infer(client(server), message())["actions"].shape == (4, 2)


def frames(kind: int, count: int, content: bytes = b"") -> bytes:
    """Frames that do not end a message, as a client masks them."""
    return (bytes([kind, 0x80 | len(content)]) + b"\0\0\0\0" + content) * count


@pytest.mark.parametrize("kind", [0x89, 0x8A])
@pytest.mark.parametrize("content", [b"", b"x" * 125])
def test_a_flood_of_pings_ends_with_its_connection(kind: int, content: bytes, caplog: pytest.LogCaptureFixture) -> None:
    with running() as server:
        good, hostile = client(server), client(server)
        with contextlib.suppress(OSError):
            hostile.socket.sendall(frames(kind, 50_000, content))
        until(lambda: any("more than 100 pings in a second" in line for line in server.log))
        until(lambda: len(server.server._intake._open) == 1)
        np.testing.assert_array_equal(infer(good, message(2, seed=1))["actions"], expected(observation(2), 1))
        assert not caplog.records


def test_pings_of_a_client_that_waits_are_answered() -> None:
    with running() as server:
        connection = client(server)
        for _ in range(90):
            assert connection.ping().wait(IN_TIME_S)
        assert infer(connection, message())["actions"].shape == (4, 2)


def test_a_message_in_tiny_pieces_counts_with_what_the_pieces_take() -> None:
    with running(message_mb=1, held_mb=1) as server:
        good, hostile = client(server), client(server)
        with contextlib.suppress(OSError):
            hostile.socket.sendall(frames(0x02, 1) + frames(0x00, 3000))
        until(lambda: any("cut off: clients' messages take more than" in line for line in server.log))
        np.testing.assert_array_equal(infer(good, message(2, seed=1))["actions"], expected(observation(2), 1))


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"\x16\x03\x01\x02\x00",
        b"GET /\x1b[31m\n HTTP/9\r\n\r\n",
        b"GET /" + 9000 * b"\x1b[2J" + b" HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + 200 * b"X: \x1b[2J\r\n" + b"\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\n",
        b"GET / HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: \xff\r\n\r\n",
    ],
)
def test_a_malformed_request_writes_a_bounded_line_at_most(
    request_bytes: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    with running() as server:
        with socket.create_connection(("127.0.0.1", server.port)) as plain, contextlib.suppress(OSError):
            plain.sendall(request_bytes)
            plain.shutdown(socket.SHUT_WR)
            while plain.recv(4096):
                pass
        assert infer(client(server), message())["actions"].shape == (4, 2)
        assert all(line.isprintable() and len(line) < 300 for line in server.log)
    assert capfd.readouterr() == ("", "")


def test_what_websockets_has_to_say_is_escaped_and_bounded() -> None:
    log: list[str] = []
    logger = websockets_logger(bounded(log.append))
    for error in (InvalidMessage("\x1b[2J" * 99), OSError("\n\u202e"), ValueError("\x1b" * 9000)):
        try:
            raise error
        except Exception:
            logger.error("failed", exc_info=True)
    assert log[0] == "failed: " + ("\\x1b[2J" * 99)[:200]
    assert log[1] == "failed: \\x0a\\u202e"
    assert log[2].startswith("Traceback")
    assert len(log[2]) == 4000
    assert "\x1b" not in "".join(log)


def test_a_failing_policy_writes_no_escapes_of_its_client_to_the_log() -> None:
    with running(FakePolicy(broken=("\x1b[2J\u202e",))) as server:
        refusal(client(server), pack(message(3, prompt="\x1b[2J\u202e")))
        until(lambda: any("out of ideas for \\x1b[2J\\u202e" in line for line in server.log))
