"""`vlajepa serve` with a real model, and how it ends."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jobs.common.policy.checkpoint_policy import CheckpointPolicy
from jobs.common.policy.robot_interface import RobotObservation
from jobs.serving.client import PolicyClient
from jobs.serving.limits import InputLimits
from jobs.serving.serve import run, serve_until_signal, warm_up, welcome
from jobs.serving.server import PolicyServer
from jobs.serving.settings import ServeConfig, ServerSettings
from model.checkpoint.checkpoint import save_weights
from model.checkpoint.vouched import VOUCHED, as_json
from pipeline.errors import SettingsError
from tests.jobs.closed_loop.checkpoints import CLAIMED_CLEAN
from tests.jobs.composed import compose_settings
from tests.jobs.serving.fakes import IDENTITY, IN_TIME_S, INTERFACE, FakePolicy, observation, running
from tests.model.helpers import SIZES, small_model, small_settings

ROBOT = replace(INTERFACE, image_size=SIZES.image_size, state=SIZES.state, chunk=SIZES.chunk, action=SIZES.action)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a tiny model with fresh weights."""
    folder = tmp_path_factory.mktemp("run") / "checkpoints" / "step-00000000"
    state = {
        "model": asdict(small_settings()),
        "model_sizes": asdict(SIZES),
        "robot": asdict(ROBOT),
        VOUCHED: as_json(CLAIMED_CLEAN),
    }
    save_weights(folder, small_model(), state)
    return folder


def robot_observation(number: int) -> RobotObservation:
    seen = observation(number)
    return replace(seen, state=np.full(SIZES.state, number, np.float32))


def test_a_served_checkpoint_acts_as_the_checkpoint(checkpoint: Path) -> None:
    policy = CheckpointPolicy(checkpoint, "cpu")
    assert policy.trained_states is not None
    assert warm_up(policy, InputLimits.around(9, 1.0, policy.trained_states)) > 0
    observations, seeds = [robot_observation(n) for n in range(3)], [4, 5, 6]
    with running(policy) as server, PolicyClient(server.address) as client:
        assert client.interface == policy.interface == replace(ROBOT, statistics=policy.interface.statistics)
        assert client.metadata["contract"]["statistics"] == policy.interface.statistics
        found = client.act(observations, seeds)
    assert found.shape == (3, SIZES.chunk, SIZES.action)
    np.testing.assert_allclose(found, policy.act(observations, seeds), atol=1e-5)


def settings_of(*overrides: str) -> ServeConfig:
    return compose_settings("serve", ServeConfig, overrides)


def test_the_command_line_alone_gives_the_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VLAJEPA_API_KEY", raising=False)
    assert settings_of("policy=a") == ServeConfig(policy=Path("a"))


def test_the_key_comes_from_the_environment_and_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLAJEPA_API_KEY", "secret")
    settings = settings_of("policy=a")
    assert settings.api_key == "secret"
    assert "secret" not in repr(settings)


def test_keys_are_given_on_the_command_line() -> None:
    found = settings_of("policy=a", "keys={front: cam_high, state: obs/joints+obs/gripper}")
    assert found.keys == {"front": "cam_high", "state": "obs/joints+obs/gripper"}


@pytest.mark.parametrize(
    ("changes", "fragment"),
    [
        ({"port": 70000}, r"port must be 0\.\.65535"),
        ({"host": " "}, "host must be an address"),
        ({"seed": -1}, "seed must be at least 0"),
        ({"max_batch": 0}, "max_batch must be at least 1"),
        ({"connections": 0}, "connections must be at least 1"),
        ({"message_mb": 0}, "message_mb must be at least 1"),
        ({"message_mb": 9, "held_mb": 8}, "held_mb must be at least message_mb=9, got 8"),
        ({"instruction_characters": 0}, "instruction_characters must be at least 1"),
        ({"state_margin": -1.0}, "state_margin must be at least 0"),
        ({"health_s": 0.0}, "health_s must be above 0"),
        ({"ping_s": 0.0}, "ping_s must be above 0"),
        ({"silent_s": float("inf")}, "silent_s must be above 0 and below inf"),
        ({"grace_s": -1.0}, "grace_s must be at least 0"),
        ({"api_key": "\n"}, "api_key must be null or printable ASCII"),
        ({"api_key": ""}, "api_key must be null or printable ASCII"),
        ({"device": "tpu"}, "device must be one of auto, cpu, cuda"),
    ],
)
def test_settings_are_checked(changes: dict[str, Any], fragment: str) -> None:
    with pytest.raises(ValueError, match=fragment):
        ServeConfig(policy=Path("a"), **changes)


def test_cuda_is_not_asked_for_where_there_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "state.json").write_text("{}")
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(SettingsError, match="device=cuda, but PyTorch finds no CUDA device"):
        run(settings_of(f"policy={tmp_path}", "device=cuda"))


@pytest.mark.parametrize(
    ("host", "api_key", "fragment"),
    [
        ("127.0.0.1", None, "every user of this machine may use it"),
        ("localhost", None, "every user of this machine may use it"),
        ("0.0.0.0", None, "EVERYBODY WHO REACHES THE PORT may use it"),
        ("robot.lan", None, "EVERYBODY WHO REACHES THE PORT may use it"),
        ("0.0.0.0", "secret", "prompt"),
    ],
)
def test_it_says_where_it_serves_what_and_to_whom(host: str, api_key: str | None, fragment: str) -> None:
    settings = ServerSettings(host=host, api_key=api_key)
    lines = welcome(PolicyServer(FakePolicy(), settings, IDENTITY), settings, 8001).splitlines()
    assert lines[0] == f"serving run/step-00000007 (step 7) at ws://{host}:8001"
    assert lines[1] == "  image front: images/front or observation/front or observation/image"
    assert lines[-1].endswith(fragment)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_after_the_query_under_way(number: signal.Signals) -> None:
    policy, port = FakePolicy(), Future[int]()
    server = PolicyServer(policy, ServerSettings(port=0), IDENTITY, lambda line: None)

    def ask() -> np.ndarray:
        with PolicyClient("127.0.0.1", port.result(IN_TIME_S)) as client:
            policy.gate.clear()
            with ThreadPoolExecutor(1) as pool:
                found = pool.submit(client.act, [observation(1)], [2])
                assert policy.entered.wait(IN_TIME_S)
                os.kill(os.getpid(), number)
                policy.gate.set()
                return found.result(IN_TIME_S)

    started: Callable[[int], None] = port.set_result
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(ask)
        asyncio.run(serve_until_signal(server, started))
        np.testing.assert_array_equal(answer.result(IN_TIME_S), FakePolicy().act([observation(1)], [2]))
    assert signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler)


@pytest.mark.slow
def test_the_command_serves_until_sigterm_and_exits_with_0(checkpoint: Path) -> None:
    # A separate process takes seconds to import PyTorch
    code = "from jobs.cli import main; main()"
    words = ["serve", f"policy={checkpoint.parent.parent}", "port=0", "device=cpu", "keys={front: cam}"]
    process = subprocess.Popen([sys.executable, "-c", code, *words], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    found = next(filter(None, (re.search(r"at (ws://\S+)", line) for line in process.stdout)))
    with PolicyClient(found[1]) as client:
        assert client.act([robot_observation(1)], [0]).shape == (1, SIZES.chunk, SIZES.action)
        assert client.metadata["keys"]["images"]["front"][0] == "cam"
        process.send_signal(signal.SIGTERM)
        assert process.wait(IN_TIME_S) == 0
    assert process.stdout.read().endswith("stopped\n")
