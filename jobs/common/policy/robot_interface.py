"""A robot's observations, the interface of a policy, and the student's images.

Images are processed as for the shards (resized, stored as JPEG, read back), so the student sees in the closed loop what
it would have been given in training, to the byte.

Shapes: B observations, T actions in a chunk, A action width, S state width.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from jobs.common.policy.channels import Channels
from jobs.common.policy.committed import Committed
from pipeline.format.build_settings import InputSettings
from pipeline.format.schema import Observation
from pipeline.format.text.printable import shown
from pipeline.samples.inputs import encode_jpeg
from pipeline.streaming.jpeg import decode_jpeg

SMALLEST_IMAGE, LARGEST_IMAGE = 16, 4096
"""Pixels a side, as of a build: what a checkpoint or a server names is allocated."""

FASTEST = 1000
"""Frames a second."""

LONGEST_TEXT = 1000
"""Characters of a name, a unit or a meaning."""

WIDEST = 2**16
"""Channels of a state or an action, and actions of a chunk."""


@dataclass(frozen=True)
class RobotObservation:
    """The present observation of a robot or a simulator.

    images       uint8 RGB [H, W, 3] of any size, by view
    instruction  of the task
    state        float32 [S] in the build's units; of width 0 for a robot without state
    """

    images: Mapping[str, NDArray[np.uint8]]
    instruction: str
    state: NDArray[np.float32]


@dataclass(frozen=True)
class RobotInterface:
    """Inputs and outputs of a policy, from the build it was trained on.

    source        name of the build's source
    views         names of its cameras, in the student's order
    image_size    pixels a side of the stored images;  jpeg_quality  of the stored images
    fps           frames, and so actions, a second
    state, chunk, action   S, T, A
    state_channels, action_channels  what the numbers are, in order; () if nobody said
    statistics    SHA-256 of the ranges that state and action are scaled by, see `model.normalize.statistics_id`; "" if
                  no checkpoint was loaded
    """

    source: str
    views: tuple[str, ...]
    image_size: int
    jpeg_quality: int
    fps: float
    state: int
    chunk: int
    action: int
    state_channels: tuple[Channels, ...] = ()
    action_channels: tuple[Channels, ...] = ()
    statistics: str = ""

    def __post_init__(self) -> None:
        if not SMALLEST_IMAGE <= self.image_size <= LARGEST_IMAGE:
            raise ValueError(f"image_size must be {SMALLEST_IMAGE} to {LARGEST_IMAGE}, found {self.image_size}")
        if not 1 <= self.jpeg_quality <= 100:
            raise ValueError(f"jpeg_quality must be 1 to 100, found {self.jpeg_quality}")
        if not 0 < self.fps <= FASTEST:
            raise ValueError(f"fps must be above 0 and at most {FASTEST}, found {shown(self.fps)}")
        if not 0 < len(set(self.views)) == len(self.views):
            raise ValueError(f"views must be different names, at least one, found {self.views!r:.200}")
        for name, least in (("state", 0), ("chunk", 1), ("action", 1)):
            if not least <= getattr(self, name) <= WIDEST:
                raise ValueError(f"{name} must be {least} to {WIDEST}, found {getattr(self, name)}")
        for name, groups in (("state", self.state_channels), ("action", self.action_channels)):
            named = sum(len(group.names) for group in groups)
            if groups and named != getattr(self, name):
                raise ValueError(f"{name}_channels must name {getattr(self, name)} channels, found {named}")
        if (longest := max(self._texts(), key=len)) and len(longest) > LONGEST_TEXT:
            raise ValueError(f"a name may have {LONGEST_TEXT} characters, found {len(longest)}: {shown(longest)}")

    def _texts(self) -> Iterator[str]:
        yield from (self.source, self.statistics, *self.views)
        for group in (*self.state_channels, *self.action_channels):
            yield from (group.units, group.meaning, *group.names)

    def has_statistics(self, statistics: str) -> bool:
        """Whether a policy with these scales as this one does, or either does not say."""
        return not statistics or not self.statistics or statistics == self.statistics

    @classmethod
    def of(cls, manifest: Mapping[str, Any]) -> RobotInterface:
        """From a robot build's `build.json`, which does not say what the channels are: see
        `jobs.datasets.contract.build_contract`."""
        sizes, settings = manifest["sizes"], manifest["settings"]
        return cls(
            source=settings["source"]["name"],
            views=tuple(manifest["views"]),
            image_size=sizes["image_size"],
            jpeg_quality=settings["inputs"]["jpeg_quality"],
            fps=manifest["fps"],
            state=sizes["state"],
            chunk=sizes["chunk"],
            action=sizes["action"],
        )


class Policy(Protocol):
    """A checkpoint, or a served one."""

    interface: RobotInterface

    def act(self, observations: Sequence[RobotObservation], seeds: Sequence[int]) -> NDArray[np.float32]:
        """Action chunks, float32 [B, T, A] in the build's units; equal seeds and observations give equal actions.

        Raises:
            ValueError: an observation does not fit the interface; the message names what is missing.
        """
        ...

    def act_continuing(
        self, observations: Sequence[RobotObservation], seeds: Sequence[int], committed: Sequence[Committed | None]
    ) -> NDArray[np.float32]:
        """`act`, of chunks that begin with the committed actions of the delay, bit for bit, and go on from them; None:
        nothing is committed. Raises ValueError if they are no beginning of a chunk, too."""
        ...


def student_batch(observations: Sequence[RobotObservation], interface: RobotInterface) -> Observation[NDArray[Any]]:
    """Observations as the stream gives them: images uint8 [B, V, H, W, 3], state float32 [B, S]."""
    settings = InputSettings(image_size=interface.image_size, jpeg_quality=interface.jpeg_quality)
    size = interface.image_size
    images = np.empty((len(observations), len(interface.views), size, size, 3), np.uint8)
    for row, observation in enumerate(observations):
        for column, view in enumerate(interface.views):
            decode_jpeg(encode_jpeg(observation.images[view], settings), images[row, column])
    state = np.stack([np.asarray(observation.state, np.float32) for observation in observations])
    return Observation(images, tuple(observation.instruction for observation in observations), state)


def check_observation(observation: RobotObservation, interface: RobotInterface) -> None:
    """Raise ValueError unless an observation fits the interface."""
    for view in interface.views:
        image = observation.images.get(view)
        if image is None:
            raise ValueError(f"the image {view!r} is missing; the policy needs {', '.join(interface.views)}")
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise ValueError(f"image {view!r} must be uint8 [H, W, 3], got {image.dtype} {list(image.shape)}")
    if not observation.instruction.strip():
        raise ValueError("the instruction is empty; the policy needs its task")
    state = np.asarray(observation.state)
    if state.shape != (interface.state,):
        raise ValueError(f"state must have {interface.state} numbers, got shape {list(state.shape)}")
    if not np.isfinite(state).all():
        raise ValueError(f"state must be finite, got {state.tolist()}")


_WORDS = ("state_channels", "action_channels")


def without_words(state: Mapping[str, Any]) -> dict[str, Any]:
    """What a run decided, without the names and units of channels: no number follows from them, and they are those of a
    manifest that may be worded anew."""
    robot = state.get("robot")
    kept = {k: v for k, v in robot.items() if k not in _WORDS} if isinstance(robot, Mapping) else robot
    return {**state, "robot": kept}
