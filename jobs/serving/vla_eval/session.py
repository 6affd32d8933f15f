"""A client of vla-eval: one action for each observation, in what its benchmark takes.

vla-eval asks at every step, and its model server keeps the chunk: here the policy is asked at the first observation of
an episode, and again when `execute` actions of its chunk are used up or the instruction is another one.

What is known of a benchmark is applied where the client's hello names it. LIBERO (vla_eval.benchmarks.libero*): images
come turned by 180 degrees, as in OpenVLA's copies; actions go to the controller, see `jobs.simulator.libero.osc_pose`.
Others get actions in the build's units, and the specification in the hello says so.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jobs.common.policy.cameras import on_the_wrist
from jobs.common.policy.channels import channels_of, each_channel
from jobs.common.policy.contract import environment_differences
from jobs.common.policy.robot_interface import RobotInterface, RobotObservation
from jobs.serving.keys import MessageKeys, flatten, read_observation
from jobs.serving.vla_eval.messages import PROTOCOL_VERSION, EncodedImage
from jobs.simulator.libero import CHANNELS, osc_pose

PATH = "/vla-eval"
"""Of the server's URL, for these clients."""

_LIBERO = "vla_eval.benchmarks.libero"
_POSE = 7
_IMAGE = {"name": "image", "dims": 0, "format": "rgb_hwc_uint8"}


class VlaEvalSession:
    """What is kept between the messages of a client.

    Args:
        execute: actions of a chunk that are given before the policy is asked again.
        turned: images of the policy's build are turned by 180 degrees.
    """

    def __init__(self, interface: RobotInterface, keys: MessageKeys, execute: int, turned: bool) -> None:
        self._interface, self._keys, self._execute, self._turned = interface, keys, execute, turned
        self._left: deque[NDArray[np.float32]] = deque()
        self._instruction = ""
        self._libero = False

    def hello(self, payload: Mapping[str, Any]) -> dict[str, Any]:
        """Take a client's hello; the answer's payload. Raises ValueError if the policy does not fit its benchmark."""
        benchmark = payload.get("benchmark")
        self._libero, libero = False, isinstance(benchmark, str) and benchmark.startswith(_LIBERO)
        if libero and self._interface.action != _POSE:
            raise ValueError(f"LIBERO takes {_POSE} numbers of action, the policy gives {self._interface.action}")
        if libero:
            robot = channels_of(CHANNELS["state"]), channels_of(CHANNELS["action"])
            wrong, _ = environment_differences(self._interface, *robot)
            if wrong:
                raise ValueError(f"the policy does not fit LIBERO's robot: {'; '.join(wrong)}")
        self._libero = libero
        self.begin()
        wanted = {"send_wrist_image": any(map(on_the_wrist, self._interface.views))}
        wanted |= {"send_state": bool(self._interface.state)}
        return {
            "harness_version": "vlajepa",
            "protocol_version": PROTOCOL_VERSION,
            "model_server": "vlajepa",
            "capabilities": {},
            "observation_params": wanted | ({"quat_no_antipodal": True} if self._libero else {}),
            "action_spec": self._action_spec(),
            "observation_spec": self._observation_spec(),
        }

    def begin(self) -> None:
        """An episode begins or ends: nothing of an earlier chunk counts."""
        self._left.clear()

    def due(self, instruction: str) -> bool:
        """Whether the policy must be asked before there is an action: none is left, or they were for other words."""
        if instruction != self._instruction:
            self.begin()
        return not self._left

    def chosen(self, payload: Mapping[str, Any]) -> dict[str, Any]:
        """The payload with the keys that `read_observation` knows, of images those that the policy looks at, encoded.

        Raises:
            ValueError: it cannot be told which camera is which view.
        """
        content = dict(payload)
        content.setdefault("prompt", payload.get("task_description"))
        if "states" in payload:
            content.setdefault("state", payload["states"])
        values = flatten(content)
        found = {view: next((key for key in keys if key in values), None) for view, keys in self._keys.images.items()}
        images = payload.get("images")
        if None in found.values() and isinstance(images, Mapping):
            pairs = _paired(self._interface.views, [name for name in images if isinstance(name, str)])
            found = {view: key or f"images/{pairs[view]}" for view, key in found.items()}
        kept = {key: value for key, value in values.items() if not isinstance(value, EncodedImage)}
        named = {view: key for view, key in found.items() if key is not None}
        if missing := sorted(key for key in named.values() if key not in values):
            raise ValueError(f"{missing[0]} is no image")
        return kept | {f"images/{view}": values[key] for view, key in named.items()}

    def observation(self, chosen: Mapping[str, Any]) -> RobotObservation:
        """The observation of a payload's `chosen`, checked. Takes the time of decoding images. Raises ValueError if it
        does not fit the policy."""
        content = {
            key: self._upright(value.decode()) if isinstance(value, EncodedImage) else value
            for key, value in chosen.items()
        }
        keys = {view: (f"images/{view}",) for view in self._interface.views}
        return read_observation(content, MessageKeys(keys, self._keys.state, self._keys.prompt), self._interface)

    def add(self, chunk: NDArray[np.float32], instruction: str) -> None:
        """Take the policy's answer to an observation with this instruction, float32 [T, A]."""
        self._left.extend(chunk[: self._execute])
        self._instruction = instruction

    def action(self) -> NDArray[np.float32]:
        """The next action, float32 [A], in what the benchmark takes."""
        action = self._left.popleft()
        return np.asarray(osc_pose(action), np.float32) if self._libero else action

    def _upright(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return np.ascontiguousarray(image[:, ::-1]) if self._libero and not self._turned else image

    def _action_spec(self) -> dict[str, Any]:
        if self._libero:
            return {
                "position": {"name": "position", "dims": 3, "format": "delta_xyz", "range": [-1, 1]},
                "rotation": {"name": "rotation", "dims": 3, "format": "axis_angle", "range": [-3.15, 3.15]},
                "gripper": {"name": "gripper", "dims": 1, "format": "binary_close_positive", "range": [-1, 1]},
            }
        about = ", ".join(channel.text for channel in each_channel(self._interface.action_channels))
        spec = {"name": "actions", "dims": self._interface.action, "format": "raw"}
        return {"actions": {**spec, "description": about} if about else spec}

    def _observation_spec(self) -> dict[str, Any]:
        spec: dict[str, Any] = {"language": {"name": "language", "dims": 0, "format": "language"}}
        if self._libero:
            wrist = any(map(on_the_wrist, self._interface.views))
            spec |= {"agentview": _IMAGE, **({"wrist": _IMAGE} if wrist else {})}
        if self._interface.state:
            names = tuple(channel.name for channel in each_channel(self._interface.state_channels))
            form = next((form for begin, form in _STATES.items() if names[:6] == tuple(begin.split())), "raw")
            spec["state"] = {"name": "state", "dims": self._interface.state, "format": form}
        return spec


_STATES = {
    "x y z ax ay az": "eef_pos3_axisangle3_gripper2",
    "x y z roll pitch yaw": "eef_pos3_euler3_gripper2",
}
"""First channels of a state -> vla-eval's name for such a state, whose client warns of another one."""


def _paired(views: Sequence[str], cameras: Sequence[str]) -> dict[str, str]:
    """View -> camera, where names differ: those of the wrist by their names, the others by their order."""
    ours, theirs = ([name for name in names if not on_the_wrist(name)] for names in (views, cameras))
    wrists = [[name for name in names if on_the_wrist(name)] for names in (views, cameras)]
    if len(theirs) < len(ours) or len(wrists[1]) < len(wrists[0]):
        raise ValueError(
            f"the policy needs {', '.join(views)}, the message has images {', '.join(cameras) or 'of no camera'}; say "
            "which is which with keys= of the server"
        )
    return dict(zip([*ours, *wrists[0]], [*theirs[: len(ours)], *wrists[1]], strict=False))
