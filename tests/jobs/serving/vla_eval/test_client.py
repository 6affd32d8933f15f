"""vla-eval's own client gets from the server what our client gets."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from jobs.common.policy.channels import channels_of
from jobs.common.policy.robot_interface import RobotObservation
from jobs.serving.client import PolicyClient
from jobs.serving.vla_eval.session import PATH
from jobs.simulator.libero import CHANNELS, osc_pose
from tests.jobs.serving.fakes import INTERFACE, FakePolicy, Running, observation, running

connection = pytest.importorskip("vla_eval.connection", reason="vla-eval is not installed (extra: evaluators)")
LIBERO = "vla_eval.benchmarks.libero.benchmark:LIBEROBenchmark"
ROBOT = replace(
    INTERFACE,
    views=("agentview", "wrist"),
    state=8,
    action=7,
    state_channels=channels_of(CHANNELS["state"]),
    action_channels=channels_of(CHANNELS["action"]),
)


class Chunks:
    """Actions that spell the images' first pixels, the state and the seed."""

    interface = ROBOT

    def act(self, observations: list[RobotObservation], seeds: list[int]) -> NDArray[np.float32]:
        rows = []
        for seen, seed in zip(observations, seeds, strict=True):
            pixels = [float(seen.images[view][0, 0, 0]) / 1e4 for view in ROBOT.views]
            first = [*pixels, *seen.state[:4] / 1e2, seed % 2]
            rows.append(np.stack([np.array(first, np.float32) * (step + 1) / 4 for step in range(ROBOT.chunk)]))
        return np.stack(rows)


def talk(server: Running, talker: Callable[[Any], Awaitable[Any]], benchmark: str | None = None) -> Any:
    async def run() -> Any:
        client = connection.Connection(server.address + PATH, timeout=60.0, max_retries=1)
        await client.connect(benchmark=benchmark)
        try:
            return await talker(client)
        finally:
            await client.close()

    return asyncio.run(run())


def sent(seen: RobotObservation, **more: Any) -> dict[str, Any]:
    """An observation as vla-eval's benchmarks send it."""
    images, state = dict(seen.images), seen.state.astype(np.float64)
    return {"images": images, "task_description": seen.instruction, "states": state, **more}


def played(count: int, seen: RobotObservation, **more: Any) -> Callable[[Any], Awaitable[list[NDArray[Any]]]]:
    async def play(client: Any) -> list[NDArray[Any]]:
        await client.start_episode({"task": {"name": seen.instruction}})
        found = [(await client.act(sent(seen, **more)))["actions"] for _ in range(count)]
        await client.end_episode({"metrics": {"success": False}})
        return found

    return play


def test_both_clients_get_the_same_actions() -> None:
    seen = observation(5)
    with running() as server, PolicyClient(server.address) as ours:
        (chunk,) = ours.act([seen], [12345])
        found = talk(server, played(INTERFACE.chunk + 1, seen, seed=12345))
    np.testing.assert_array_equal(np.stack(found[:-1]), chunk)
    assert found[0].dtype == np.float32
    np.testing.assert_array_equal(found[-1], chunk[0])  # the chunk is used up, and the policy asked again
    assert len(server.policy.calls) == 3


@pytest.mark.parametrize("kind", ["png", "raw"])
def test_images_come_as_they_were_sent(kind: Any) -> None:
    from vla_eval.protocol.numpy_codec import get_image_format, set_image_format

    rng, before = np.random.default_rng(0), get_image_format()
    images = {view: rng.integers(0, 256, (24, 32, 3)).astype(np.uint8) for view in INTERFACE.views}
    seen = replace(observation(3), images=images)
    set_image_format(kind)
    try:
        with running() as server, PolicyClient(server.address) as ours:
            (found,) = talk(server, played(1, seen, seed=7))
            np.testing.assert_array_equal(found, ours.act([seen], [7])[0, 0])
    finally:
        set_image_format(before)


def test_a_new_episode_asks_the_policy_anew_and_execute_says_when_else() -> None:
    async def two_episodes(client: Any) -> list[NDArray[Any]]:
        first = await played(3, observation(1), seed=3)(client)
        return first + await played(1, observation(2), seed=3)(client)

    with running(execute=2) as server, PolicyClient(server.address) as ours:
        one, two = ours.act([observation(1), observation(2)], [3, 3])
        found = talk(server, two_episodes)
    for action, wanted in zip(found, [one[0], one[1], one[0], two[0]], strict=True):
        np.testing.assert_array_equal(action, wanted)


@pytest.mark.parametrize("turned", [False, True])
def test_libero_gets_what_its_controller_takes_and_the_policy_sees_upright_images(turned: bool) -> None:
    image = np.zeros((8, 8, 3), np.uint8)
    image[0, 0], image[0, -1] = 40, 90  # turned by 180 degrees from bottom-up is mirrored from upright
    state = np.arange(8, dtype=np.float32)
    theirs = RobotObservation({"agentview": image, "wrist": image + 1}, "go", state)
    upright = {view: shown if turned else shown[:, ::-1] for view, shown in theirs.images.items()}
    with running(Chunks(), turned=turned) as server, PolicyClient(server.address) as ours:  # type: ignore[arg-type]
        (chunk,) = ours.act([replace(theirs, images=upright)], [1])
        found, info = talk(server, _with_info(played(2, theirs, seed=1)), LIBERO)
    for action, wanted in zip(found, chunk, strict=False):
        np.testing.assert_allclose(action, osc_pose(wanted), rtol=1e-6)
    assert info["observation_params"] == {"send_wrist_image": True, "send_state": True, "quat_no_antipodal": True}


def _with_info(talker: Callable[[Any], Awaitable[Any]]) -> Callable[[Any], Awaitable[Any]]:
    async def run(client: Any) -> Any:
        return await talker(client), client.server_info

    return run


async def _greeted(client: Any) -> Any:
    return client.server_info


def test_its_orchestrator_finds_nothing_wrong_with_libero() -> None:
    from vla_eval import specs

    theirs = {"position": specs.POSITION_DELTA, "rotation": specs.ROTATION_AA, "gripper": specs.GRIPPER_CLOSE_POS}
    shown = {"agentview": specs.IMAGE_RGB, "wrist": specs.IMAGE_RGB, "language": specs.LANGUAGE}
    shown["state"] = specs.STATE_EEF_POS_AA_GRIP
    with running(Chunks()) as server:
        info, raw = talk(server, _greeted, LIBERO), talk(server, _greeted)
    action, seen = (
        {key: specs.DimSpec.from_dict(spec) for key, spec in info[f"{kind}_spec"].items()}
        for kind in ("action", "observation")
    )
    assert specs.check_specs(action, theirs, seen, shown) == []
    assert "rotation vector, change" in raw["action_spec"]["actions"]["description"]


def test_a_policy_of_another_robot_is_refused_for_libero() -> None:
    other = Chunks()
    angles = {**CHANNELS["state"][1], "names": ["roll", "pitch", "yaw"]}
    states = channels_of([CHANNELS["state"][0], angles, CHANNELS["state"][2]])
    other.interface = replace(ROBOT, state_channels=states)
    with running(other) as server:
        with pytest.raises(RuntimeError, match="Expected HELLO reply"):
            talk(server, _greeted, LIBERO)
        assert talk(server, _greeted)["observation_spec"]["state"]["format"] == "eef_pos3_euler3_gripper2"
    assert any(r"the policy does not fit LIBERO's robot: state[3] is roll" in line for line in server.log)


def test_cameras_of_other_names_are_told_apart_by_the_wrist() -> None:
    seen = observation(5)
    named = {"eye_in_hand": seen.images["wrist"], "agentview": seen.images["front"]}
    with running() as server, PolicyClient(server.address) as ours:
        (found,) = talk(server, played(1, replace(seen, images=named), seed=7))
        np.testing.assert_array_equal(found, ours.act([seen], [7])[0, 0])


def test_what_is_wrong_is_said_and_the_connection_stays() -> None:
    seen = observation(2)
    blind = replace(seen, images={"agentview": seen.images["front"]})

    async def wrong_then_right(client: Any) -> Any:
        with pytest.raises(RuntimeError, match=r"the policy needs front, wrist, the message has images agentview; say"):
            await played(1, blind)(client)
        with pytest.raises(RuntimeError, match=r"the policy failed on this query; the server's log has the reason"):
            await played(1, replace(seen, instruction="hard"))(client)
        return await played(1, seen, seed=1)(client)

    with running(FakePolicy(broken=("hard",))) as server:
        assert talk(server, wrong_then_right)[0].shape == (2,)
    assert any("refused: the policy needs front" in line for line in server.log)
    assert any("out of ideas for hard" in line for line in server.log)
