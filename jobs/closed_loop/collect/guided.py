"""Demonstrations in which a policy acts and the script gives the labels (DAgger, arXiv 1011.0686).

A policy visits states that the script never does, and these get labels, too. Since the script takes over in the end,
the episode succeeds.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

import numpy as np

from jobs.closed_loop.actors import WIDTH
from jobs.closed_loop.collect.settings import GuideSettings
from jobs.closed_loop.process import Simulator
from jobs.common.policy.cameras import cameras_of
from jobs.common.policy.channels import channels_of
from jobs.common.policy.contract import environment_differences
from jobs.common.policy.robot_interface import Policy, RobotObservation
from jobs.simulator.libero import CHANNELS, STATE
from pipeline.errors import SettingsError


class Guide:
    """Runs episodes with a policy, of several simulators at a time.

    Args:
        cameras: the simulator's, in the order of the policy's views.
        fps: observations a second of the collection.

    Raises:
        SettingsError: the policy has more views, other actions or another rate, or shorter chunks.
    """

    def __init__(self, policy: Policy, cameras: tuple[str, ...], fps: float, settings: GuideSettings) -> None:
        views, chunk = policy.interface.views, policy.interface.chunk
        if policy.interface.fps != fps:
            raise SettingsError(
                f"guide: the policy acts at {policy.interface.fps:g} Hz, the collection at {fps:g}, where each action "
                "would move the hand too little or too far; give fps= as in the policy's build"
            )
        if policy.interface.action != WIDTH or policy.interface.state not in (0, STATE):
            raise SettingsError(
                f"guide: the policy has actions of {policy.interface.action} numbers and states of "
                f"{policy.interface.state}, LIBERO's robot of {WIDTH} and {STATE}"
            )
        if len(views) > len(cameras) or chunk < settings.execute:
            raise SettingsError(
                f"guide: the policy sees {', '.join(views)} and gives {chunk} actions; the simulator shows "
                f"{', '.join(cameras)}, and guide.execute is {settings.execute}"
            )
        robot = channels_of(CHANNELS["state"]), channels_of(CHANNELS["action"])
        wrong, _ = environment_differences(policy.interface, *robot)
        if wrong:
            raise SettingsError(f"guide: the policy does not fit LIBERO's robot: {'; '.join(wrong)}")
        self._policy, self._settings = policy, settings
        self._cameras = cameras_of(views, cameras, None)
        self._lock = threading.Lock()

    def demonstrate(
        self, simulator: Simulator, hold: int, start: int | None, seed: int, limit: int, disturbance: Mapping[str, Any]
    ) -> dict[str, Any]:
        """One episode; the answer is that of the simulator's `demonstrate`. Raises as `Simulator.ask`."""
        s = self._settings
        drawn = np.random.default_rng([seed, 1])
        seen = simulator.ask("begin_guided", start=start, seed=seed, limit=limit, disturbance=dict(disturbance))
        played = 0
        while not seen["over"]:
            guided = drawn.random() < s.share and played < s.until * limit
            actions = self._act(seen, int(drawn.integers(2**31))) if guided else None
            seen = simulator.ask("step_guided", steps=s.execute, actions=actions)
            played += s.execute * hold
        return {name: value for name, value in seen.items() if name != "over"}

    def _act(self, seen: Mapping[str, Any], seed: int) -> np.ndarray:
        state = np.asarray(seen["state"], np.float32)[: self._policy.interface.state]
        images = {view: seen["images"][camera] for view, camera in self._cameras.items()}
        with self._lock:
            chunk = self._policy.act([RobotObservation(images, seen["instruction"], state)], [seed])[0]
        return np.asarray(chunk[: self._settings.execute], np.float32)
