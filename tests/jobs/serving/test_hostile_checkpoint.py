"""A checkpoint of somebody else, whose hashes are right and whose recorded settings are not: one clear line, or it is
served; never a traceback. Values are of the wrong type, huge, or would forge lines of a terminal."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from jobs.common.policy.checkpoint_policy import CheckpointPolicy
from jobs.common.policy.load_model import load_model
from jobs.datasets.contract.build_contract import interface_of
from jobs.serving.serve import identity, warm_up, welcome
from jobs.serving.server import PolicyServer
from jobs.serving.settings import ServerSettings
from model.checkpoint.state_file import STATE, read_state, write_state
from model.exchange.initial import load_initial
from pipeline.errors import BuildError, RunError
from pipeline.format.build import Build
from tests.jobs.closed_loop.checkpoints import untrained

STATES = {
    "text": "x",
    "flag": True,
    "list": [1, 2],
    "object": {"a": 1},
    "null": None,
    "negative": -1,
    "huge": 10**40,
    "large": 10**18,
    "float": 1e308,
    "terminal": "\x1b[2J",
    "long": "y" * 100_000,
}


@pytest.fixture(scope="module")
def checkpoint(robot_build: Build, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "checkpoints" / "step-00000000"
    robot = asdict(interface_of(robot_build.manifest))
    return untrained(folder, robot_build, robot=robot, trainer={"ema": 0.0})


@pytest.fixture
def changed(checkpoint: Path) -> Iterator[Any]:
    good = (checkpoint / STATE).read_bytes()

    def change(path: str, value: Any) -> Path:
        content: Any = copy.deepcopy(read_state(checkpoint))
        place = content
        *outer, last = [int(part) if part.isdecimal() else part for part in path.split(".")]
        for part in outer:
            place = place[part]
        place[last] = value
        write_state(checkpoint, json.loads(json.dumps(content)))
        return checkpoint

    yield change
    (checkpoint / STATE).write_bytes(good)


def served(checkpoint: Path) -> str:
    """What `vlajepa serve` says before the first client."""
    policy = CheckpointPolicy(checkpoint, "cpu")
    server = PolicyServer(policy, ServerSettings(), identity(policy), lambda _: None, policy.trained_states)
    warm_up(policy, server.limits)
    return welcome(server, ServerSettings(), 8000)


def outcome(checkpoint: Path) -> str:
    try:
        text = served(checkpoint)
    except RunError as error:
        text = str(error)
        assert len(text.splitlines()) == 1 or "does not fit the model" in text
    assert all(line.isprintable() and len(line) <= 5000 for line in text.splitlines())
    return text


@pytest.mark.parametrize(
    "path",
    [
        *("robot", "robot.source", "robot.views", "robot.views.0", "robot.image_size", "robot.jpeg_quality"),
        *("robot.fps", "robot.state", "robot.chunk", "robot.statistics", "robot.state_channels"),
        *("robot.action_channels.0.names.0", "robot.action_channels.0.units", "robot.state_channels.0.meaning"),
        *("vouched", "vouched.0.build", "vouched.0.checked", "trainer", "trainer.ema", "step"),
        *("model", "model.seed", "model.attention", "model.backbone.lora", "model.backbone.lora.rank"),
        *("model.action_head.time_buckets", "model.predictor.dim", "model.freeze", "model_sizes", "model_sizes.steps"),
    ],
)
def test_every_recorded_setting_may_be_wrong(changed: Any, path: str) -> None:
    for value in STATES.values():
        outcome(changed(path, value))


@pytest.mark.parametrize(
    ("path", "value", "text"),
    [
        ("robot.image_size", 3, "image_size must be 16 to 4096, found 3"),
        ("robot.fps", 10**40, "fps must be above 0 and at most 1000, found 1000"),
        ("robot.views.0", "y" * 2000, "a name may have 1000 characters, found 2000: 'yyy"),
        ("robot.fps", "x", "robot.fps must be float, found 'x'"),
        ("model.seed", 10**40, "seed must be 0.."),
        ("model.action_head.time_buckets", 10**40, "time_buckets must be 1..1e+06"),
        ("model.action_head.hidden_size", 10**18, "asks for a model of more than"),
        ("model_sizes.steps", "x", "model_sizes.steps must be int, found 'x'"),
        ("trainer.ema", "x", "trainer.ema must be 0 to below 1, found 'x'"),
        ("trainer.ema", True, "trainer.ema must be 0 to below 1, found True"),
    ],
)
def test_what_is_wrong_is_named(changed: Any, path: str, value: Any, text: str) -> None:
    assert text in outcome(changed(path, value))


def test_export_and_init_from_read_them_alike(changed: Any, checkpoint: Path) -> None:
    model = load_model(checkpoint)
    good = read_state(checkpoint)
    for path, value in (("trainer.ema", "x"), ("model.backbone.lora", 3), ("model.backbone.lora.rank", 10**40)):
        bad = changed(path, value)
        for load in (load_model, partial(load_initial, model)):
            with pytest.raises(BuildError, match=r"/state\.json") as error:
                load(bad)
            assert len(str(error.value).splitlines()) == 1
        write_state(checkpoint, good)


def test_names_that_would_forge_lines_are_escaped(changed: Any) -> None:
    assert "\\x1b[2J" in outcome(changed("robot.views.0", "\x1b[2J"))
