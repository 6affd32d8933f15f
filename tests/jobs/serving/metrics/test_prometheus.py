"""What Prometheus reads of a policy server, whose clients behave or do not."""

from __future__ import annotations

import asyncio
import socket
import urllib.request
from collections.abc import Mapping

import pytest
from prometheus_client.parser import text_string_to_metric_families
from websockets.exceptions import ConnectionClosedError, InvalidStatus
from websockets.sync.client import connect

from jobs.serving.metrics.prometheus import GAUGES, PREFIX, Refusal
from jobs.serving.server import PolicyServer
from jobs.serving.settings import ServerSettings
from jobs.serving.wire import pack
from pipeline.errors import SettingsError
from tests.jobs.serving.fakes import IDENTITY, IN_TIME_S, FakePolicy, Running, message, running, until
from tests.jobs.serving.test_server import client, infer, refusal


def numbers(server: Running) -> Mapping[str, float]:
    """Samples by name and label, without their prefix: queries_total, refusals_total/key, batch_bucket/2.0."""
    url = f"http://127.0.0.1:{server.server.metrics_port}/metrics"
    with urllib.request.urlopen(url, timeout=IN_TIME_S) as answer:
        families = list(text_string_to_metric_families(answer.read().decode()))
    return {
        "/".join([sample.name.removeprefix(f"{PREFIX}_"), *sample.labels.values()]): sample.value
        for family in families
        for sample in family.samples
    }


def test_queries_latencies_and_batches_are_counted() -> None:
    policy = FakePolicy()
    with running(policy, metrics_port=0) as server:
        one, two, three = client(server), client(server), client(server)
        policy.gate.clear()
        one.send(pack(message(1)))
        assert policy.entered.wait(IN_TIME_S)
        two.send(pack({"observations": [message(2), message(3)]}))
        three.send(pack(message(4)))
        until(lambda: numbers(server)["waiting"] == 3)
        busy = numbers(server)
        policy.gate.set()
        for each in (one, two, three):
            each.recv(IN_TIME_S)
        until(lambda: numbers(server)["held_bytes"] == 0)
        idle = numbers(server)
        one.close()
        until(lambda: numbers(server)["clients"] == 2)
    assert busy["clients"] == busy["connections"] == 3
    sent = 3 * 64 * 48 * 3  # three front images wait, at least, and their messages are held
    assert busy["held_bytes"] > sent
    assert busy["queries_total"] == 0
    assert idle["queries_total"] == 4
    assert idle["waiting"] == 0
    assert idle["latency_seconds_count"] == 3
    assert idle["latency_seconds_sum"] > 0
    assert idle["batch_count"] == 2
    assert idle["batch_sum"] == 4
    assert idle["batch_bucket/1.0"] == 1
    assert idle["batch_bucket/4.0"] == 2


def test_refusals_are_counted_by_their_kind() -> None:
    policy = FakePolicy(broken=("x" * 2,))
    with running(policy, metrics_port=0, api_key="secret", connections=1, idle_s=0.0) as server:
        key = {"Authorization": "Api-Key secret"}
        with pytest.raises(InvalidStatus):
            connect(server.address, proxy=None)
        refusal(client(server, additional_headers=key), pack({"observations": []}))
        refusal(client(server, additional_headers=key), b"no message")
        refusal(client(server, additional_headers=key), pack(message(1)))
        first = client(server, additional_headers=key)
        second = client(server, additional_headers=key)  # takes the place of the first
        policy.gate.clear()
        policy.entered.clear()
        second.send(pack(message(2)))
        assert policy.entered.wait(IN_TIME_S)
        with pytest.raises(InvalidStatus):
            client(server, additional_headers=key)
        policy.gate.set()
        with pytest.raises(ConnectionClosedError):
            first.recv(IN_TIME_S)
        found = numbers(server)
    refused = {kind: found[f"refusals_total/{kind}"] for kind in Refusal}
    assert refused == {
        **dict.fromkeys(Refusal, 0),
        Refusal.MESSAGE: 2,
        Refusal.POLICY: 1,
        Refusal.KEY: 1,
        Refusal.IDLE: 1,
        Refusal.FULL: 1,
    }


def test_who_floods_the_server_is_counted() -> None:
    with running(metrics_port=0, message_mb=1, held_mb=1) as server:
        pings = client(server)
        pings.socket.sendall(b"\x89\x80\0\0\0\0" * 500)
        until(lambda: numbers(server)["refusals_total/pings"] == 1)
        large = [client(server) for _ in range(3)]
        for each in large:  # begin messages of 0.9 MiB, and do not end them
            each.socket.sendall(b"\x82\xff" + (900 * 2**10).to_bytes(8, "big") + b"\0" * (4 + 600 * 2**10))
        until(lambda: numbers(server)["refusals_total/memory"] >= 1)


def test_what_clients_send_makes_no_new_label() -> None:
    with running(metrics_port=0) as server:
        before = set(numbers(server))
        for number in range(20):
            refusal(client(server), pack({f"key{number}": number, "prompt": f"text {number}"}))
            with pytest.raises(InvalidStatus):
                connect(f"{server.address}/healthz", user_agent_header=f"client {number}", proxy=None)
        infer(client(server), message(1, prompt="another"))
        after = numbers(server)
    assert set(after) == before
    assert after["refusals_total/message"] == 20
    assert before >= {*GAUGES, "queries_total"}


def test_a_port_that_is_taken_is_named_and_none_is_opened_unless_asked_for() -> None:
    with running() as server:
        assert server.server.metrics_port is None
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        server = PolicyServer(FakePolicy(), ServerSettings(port=0, metrics_port=port), IDENTITY, lambda _: None)
        with pytest.raises(SettingsError, match=rf"^metrics_port={port} cannot be opened on 127\.0\.0\.1"):
            asyncio.run(server.run())
