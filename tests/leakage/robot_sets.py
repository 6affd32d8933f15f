"""Made-up robot data in memory: states, actions and cameras of some episodes, honest ones and ones that look ahead."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]
Pixels = NDArray[np.uint8]
LENGTHS = (90, 104, 97, 88, 111, 95, 100, 92, 107, 99)


@dataclass(frozen=True)
class RobotEpisode:
    """state float64 [N, S], actions float64 [N, A], cameras uint8 [N, H, W, 3] by name."""

    state: Values
    actions: Values
    cameras: Mapping[str, Pixels] = field(default_factory=dict)


RobotSet = list[RobotEpisode]
SETS: dict[str, Callable[[], RobotSet]] = {}
"""Honest sets by name."""


def honest(make: Callable[[], RobotSet]) -> Callable[[], RobotSet]:
    SETS[make.__name__] = make
    return make


def paths(rng: np.random.Generator, frames: int, channels: int, slow: float = 10.0) -> Values:
    """Joints that wander and rest, as those of a person's demonstrations do, with the noise of a sensor."""
    speed = rng.normal(size=(frames + 60, channels))
    kernel = np.exp(-0.5 * (np.arange(-30, 31) / slow) ** 2)
    smooth = np.stack([np.convolve(column, kernel / kernel.sum(), "valid") for column in speed.T], axis=1)
    return np.cumsum(smooth[:frames] * (rng.random((frames, 1)) > 0.1), axis=0)


def measured(rng: np.random.Generator, commands: Values, noise: float = 1e-3) -> Values:
    """A robot that reaches a command one frame later, nearly."""
    reached = np.concatenate([commands[:1], commands[:-1]])
    return reached + noise * rng.normal(size=reached.shape)


def episodes(seed: int) -> Iterator[tuple[np.random.Generator, int]]:
    for number, frames in enumerate(LENGTHS):
        yield np.random.default_rng([seed, number]), frames


def gripper(rng: np.random.Generator, frames: int) -> Values:
    """1 open, 0 closed: opens and closes a few times."""
    times = np.sort(rng.choice(np.arange(8, frames - 8), 4, replace=False))
    return (np.searchsorted(times, np.arange(frames), side="right") % 2).astype(float)[:, None]


@honest
def position_control() -> RobotSet:
    """Absolute commands, measured a frame later with noise."""
    made = []
    for rng, frames in episodes(1):
        commands = np.concatenate([paths(rng, frames, 6), gripper(rng, frames)], axis=1)
        made.append(RobotEpisode(measured(rng, commands), commands))
    return made


@honest
def commanded_equals_measured_one_step_later() -> RobotSet:
    """A simulator without inertia: state[n+1] is action[n] to the bit."""
    made = []
    for rng, frames in episodes(2):
        commands = np.concatenate([paths(rng, frames, 6), gripper(rng, frames)], axis=1)
        made.append(RobotEpisode(measured(rng, commands, 0.0), commands))
    return made


def once_of(frames: int) -> Values:
    """Two channels that step once."""
    return np.asarray((np.arange(frames) > frames // 2).astype(float)[:, None] * [1.0, 2.0])


@honest
def constant_joints() -> RobotSet:
    """Joints that never move, others that move once, and a channel of zeros."""
    made = []
    for rng, frames in episodes(3):
        commands = np.concatenate([paths(rng, frames, 3), once_of(frames)], axis=1)
        still = np.tile(rng.normal(size=3), (frames, 1))
        state = np.concatenate([measured(rng, commands, 0.0), still, np.zeros((frames, 1))], axis=1)
        made.append(RobotEpisode(state, np.concatenate([commands, still], axis=1)))
    return made


@honest
def slow_robot() -> RobotSet:
    """Hardly any motion from frame to frame: every lag fits nearly as well as the right one."""
    made = []
    for rng, frames in episodes(4):
        commands = paths(rng, frames, 6, slow=25.0) * 1e-3
        made.append(RobotEpisode(measured(rng, commands, 1e-7), commands))
    return made


@honest
def periodic_motion() -> RobotSet:
    """Joints on circles and triangles, some a quarter of a period ahead of others."""
    made = []
    for rng, frames in episodes(5):
        at = np.arange(frames) + rng.integers(0, 40)
        phases = np.array([0, 5, 10, 20])
        circles = np.sin(2 * np.pi * (at[:, None] + phases) / 40)
        triangles = np.abs((at[:, None] + phases[:2]) % 24 - 12.0)
        commands = np.concatenate([circles, triangles], axis=1)
        made.append(RobotEpisode(measured(rng, commands, 0.0), commands))
    return made


@honest
def binary_grippers() -> RobotSet:
    """Two grippers that a script closes one two frames after the other, measured a frame after their commands."""
    made = []
    for rng, frames in episodes(6):
        first = gripper(rng, frames)
        second = np.concatenate([first[:1], first[:1], first[:-2]])
        commands = np.concatenate([paths(rng, frames, 3), first, second], axis=1)
        made.append(RobotEpisode(measured(rng, commands, 0.0), commands))
    return made


@honest
def delta_actions() -> RobotSet:
    """Actions are changes of the pose, to the bit those that are measured (relabelled from the state)."""
    made = []
    for rng, frames in episodes(7):
        pose = paths(rng, frames + 1, 6)
        made.append(RobotEpisode(pose[:-1], np.diff(pose, axis=0)))
    return made


@honest
def scripted_motion() -> RobotSet:
    """Straight lines between places with a smooth profile and no noise at all; it ends where it began."""
    made = []
    for rng, frames in episodes(8):
        home = np.array([0.1, 0.2, 0.3])
        places = np.stack([home, *rng.normal(size=(3, 3)), home])
        share = np.linspace(0, len(places) - 1, frames)
        part = np.minimum(share.astype(int), len(places) - 2)
        t = (share - part)[:, None]
        commands = places[part] + (places[part + 1] - places[part]) * (3 * t**2 - 2 * t**3)
        made.append(RobotEpisode(measured(rng, commands, 0.0), commands))
    return made


@honest
def state_with_its_past() -> RobotSet:
    """The state holds the pose, that of the frame before, and the action of the frame before."""
    made = []
    for rng, frames in episodes(9):
        commands = paths(rng, frames, 3)
        pose = measured(rng, commands, 0.0)
        before, last = (np.concatenate([values[:1], values[:-1]]) for values in (pose, commands))
        made.append(RobotEpisode(np.concatenate([pose, before, last], axis=1), commands))
    return made


@honest
def held_commands() -> RobotSet:
    """Commands come at a fifth of the camera's rate and are held; the robot is near them long before the next."""
    made = []
    for rng, frames in episodes(10):
        commands = np.repeat(paths(rng, frames // 5 + 1, 6), 5, axis=0)[:frames]
        made.append(RobotEpisode(measured(rng, commands, 1e-4), commands))
    return made


def _scene(rng: np.random.Generator, frames: int, size: int = 64) -> Pixels:
    """A textured background before which a bright square and a dark one wander."""
    background = rng.integers(60, 180, (size // 4, size // 4, 3)).repeat(4, 0).repeat(4, 1)
    film = np.tile(background, (frames, 1, 1, 1))
    for colour in ((230, 220, 40), (20, 30, 60)):
        way = np.clip(paths(rng, frames, 2, 6.0) * 6 + size / 2, 4, size - 12).astype(int)
        for image, (row, column) in zip(film, way, strict=True):
            image[row : row + 8, column : column + 8] = colour
    return film.astype(np.uint8)


def _noisy(rng: np.random.Generator, film: Pixels) -> Pixels:
    """As a lossy codec gives it back."""
    return np.clip(film + rng.normal(scale=2.0, size=film.shape), 0, 255).astype(np.uint8)


def _films(seed: int, cameras: Callable[[np.random.Generator, Pixels], Mapping[str, Pixels]]) -> RobotSet:
    base, made = position_control(), []
    for number, episode in enumerate(base):
        rng = np.random.default_rng([seed, number])
        front = _scene(rng, len(episode.state))
        views = {"front": front, **cameras(rng, front)}
        made.append(replace(episode, cameras={name: _noisy(rng, film) for name, film in views.items()}))
    return made


@honest
def cameras_that_stand_still() -> RobotSet:
    """One camera sees nothing move, another something once."""

    def cameras(rng: np.random.Generator, front: Pixels) -> Mapping[str, Pixels]:
        once = front.copy()
        once[: len(once) // 2], once[len(once) // 2 :] = front[0], front[len(once) // 2]
        return {"still": np.repeat(front[:1], len(front), axis=0), "once": once}

    return _films(11, cameras)


@honest
def the_same_camera_twice() -> RobotSet:
    """The second shows the same, a third another scene."""
    return _films(
        12,
        lambda rng, front: {
            "again": front,
            "other": _scene(rng, len(front)),
        },
    )


@honest
def a_camera_that_returns() -> RobotSet:
    """The robot comes back to where it began, without a cut: the first frame is the last one."""

    def cameras(rng: np.random.Generator, front: Pixels) -> Mapping[str, Pixels]:
        half = front[: (len(front) + 1) // 2]
        return {"round": np.concatenate([half, half[::-1]])[: len(front)]}

    return _films(13, cameras)


@honest
def films_that_begin_and_end_blank() -> RobotSet:
    """A camera that is not ready yet and one that fades in and out, as edited films do."""

    def cameras(rng: np.random.Generator, front: Pixels) -> Mapping[str, Pixels]:
        late, faded = front.copy(), front.astype(np.float64)
        late[0], late[-1] = 0, 0
        for i in range(6):
            faded[i] *= i / 6
            faded[-1 - i] *= i / 6
        return {"late": late, "faded": faded.astype(np.uint8)}

    return _films(14, cameras)


def _changed(make: Callable[[RobotEpisode], RobotEpisode], base: Callable[[], RobotSet]) -> Callable[[], RobotSet]:
    return lambda: [make(episode) for episode in base()]


def ahead(values: NDArray[np.generic], lag: int) -> NDArray[np.generic]:
    """Rows `lag` frames later; the last ones repeat."""
    return values[np.minimum(np.arange(len(values)) + lag, len(values) - 1)]


def _with_channel(values: Callable[[RobotEpisode], Values]) -> Callable[[RobotEpisode], RobotEpisode]:
    """The last channel of the state is replaced."""
    return lambda e: replace(e, state=np.concatenate([e.state[:, :-1], values(e).reshape(len(e.state), 1)], axis=1))


def _with_camera(film: Callable[[Pixels], Pixels]) -> Callable[[RobotEpisode], RobotEpisode]:
    return lambda e: replace(e, cameras={**e.cameras, "wrist": film(e.cameras["front"])})


LEAKY: dict[str, tuple[str, str, Callable[[], RobotSet]]] = {
    "gripper_of_a_later_action": (
        "L8",
        "frame n+2",
        _changed(_with_channel(lambda e: ahead(e.actions[:, 6], 2)), position_control),
    ),
    "the_action_of_the_frame": ("L3", "frame n", _changed(_with_channel(lambda e: e.actions[:, 2]), position_control)),
    "the_action_turned_and_scaled": (
        "L3",
        "frame n",
        _changed(_with_channel(lambda e: 0.5 - 3 * e.actions[:, 1]), commanded_equals_measured_one_step_later),
    ),
    "a_joint_of_the_next_frame": (
        "L8",
        "frame n+1",
        _changed(_with_channel(lambda e: ahead(e.state[:, 0], 1)), position_control),
    ),
    "a_rounded_joint_of_a_second_later": (
        "L8",
        "of frame n+",
        _changed(_with_channel(lambda e: np.round(ahead(e.state[:, 3], 30), 2)), position_control),
    ),
    "a_delta_ten_frames_later": (
        "L8",
        "frame n+10",
        _changed(_with_channel(lambda e: ahead(e.actions[:, 4], 10)), delta_actions),
    ),
    "the_whole_state_a_frame_late": (
        "L3",
        "frame n",
        _changed(lambda e: replace(e, state=ahead(e.state, 1)), commanded_equals_measured_one_step_later),
    ),
    "the_final_pose": (
        "L8",
        "of the first frame",
        _changed(_with_channel(lambda e: np.full(len(e.state), e.state[-1, 1])), position_control),
    ),
    "frames_left": (
        "L8",
        "of the first frame",
        _changed(_with_channel(lambda e: np.arange(len(e.state))[::-1].astype(float)), position_control),
    ),
    "camera_three_frames_ahead": ("L1", "front", _changed(_with_camera(lambda f: ahead(f, 3)), the_same_camera_twice)),
    "camera_at_the_last_frame": (
        "L1",
        "front",
        _changed(_with_camera(lambda f: np.repeat(f[-1:], len(f), axis=0)), the_same_camera_twice),
    ),
    "camera_backwards": ("L1", "front", _changed(_with_camera(lambda f: f[::-1]), the_same_camera_twice)),
    "camera_mirrored_and_ahead": (
        "L1",
        "mirrored",
        _changed(_with_camera(lambda f: ahead(f, 5)[:, :, ::-1]), the_same_camera_twice),
    ),
    "camera_half_as_large_twice_as_fast": (
        "L1",
        "front",
        _changed(
            _with_camera(
                lambda f: (
                    f[np.minimum(2 * np.arange(len(f)), len(f) - 1)]
                    .reshape(len(f), 32, 2, 32, 2, 3)
                    .mean((2, 4))
                    .astype(np.uint8)
                )
            ),
            the_same_camera_twice,
        ),
    ),
    "preview_of_the_end": (
        "L1",
        "begins with the end",
        _changed(
            lambda e: replace(e, cameras={"front": np.concatenate([e.cameras["front"][-1:], e.cameras["front"][1:]])}),
            the_same_camera_twice,
        ),
    ),
}
"""Rule, part of the message, and the set, by name."""
