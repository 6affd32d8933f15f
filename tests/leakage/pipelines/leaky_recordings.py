"""Pipelines that read recordings of ROS 2 and take messages that came after the frame; and recordings that look ahead.

See `tests.mcap_files.recorded`: a frame each 83 ms, the wrist 11 ms and the joints 9 ms before it, commands 4 ms after.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.sources.mcap.episode import Aligned
from pipeline.sources.mcap.matching import Clock, first_after, last_before
from pipeline.sources.mcap.recording import CameraSeries
from tests.leakage.pipelines.pipeline import LeakyPipeline
from tests.leakage.world import World
from tests.mcap_files.recorded import NAMES, recorded_source, write_recordings
from tests.mcap_files.writer import MS, Sent, joints, text

Change = Callable[[list[Sent]], list[Sent]]


def _record(world: World, change: Change = list, **settings: Any) -> None:
    world.raw_copy = write_recordings(world.data.lerobot, world.folder / "recordings", change)
    source = recorded_source(world.raw_copy, **settings)
    world.source = {key: value for key, value in source.items() if key != "root"}


def _numbers(world: World, choose: Callable[[NDArray[np.int64], Clock], NDArray[Any]]) -> None:
    """Of the state's messages others are taken: numbers of the messages, which may lie between two, for the frames."""

    def measured(aligned: Aligned, name: str) -> NDArray[np.float64]:
        series = aligned._recording.fields[name]
        places = np.clip(choose(series.times, aligned.clock), 0, len(series.times) - 1)
        below = np.floor(places).astype(int)
        above, share = np.minimum(below + 1, len(series.times) - 1), (places - below)[:, None]
        return series.values[below] * (1 - share) + series.values[above] * share

    world.patch.setattr(Aligned, "measured", measured)


def state_of_the_next_message(world: World) -> None:
    _record(world)
    _numbers(world, lambda times, clock: last_before(times, clock) + 1)


def state_of_the_nearest_message(world: World) -> None:
    """As approximate time synchronisation does; 60 ms after the frame is nearer than 200 before it."""

    def sparse(messages: list[Sent]) -> list[Sent]:
        states = [m for m in messages if m.topic == "/joint_states"]
        dropped = {id(m) for m in states[2::4]} | {id(m) for m in states[3::4]}
        return [m for m in messages if id(m) not in dropped]

    def nearest(times: NDArray[np.int64], clock: Clock) -> NDArray[np.int64]:
        before = last_before(times, clock)
        after = np.minimum(before + 1, len(times) - 1)
        return np.where(clock.before - times[before] <= np.abs(times[after] - clock.before), before, after)

    _record(world, sparse, max_age_s=0.5)
    _numbers(world, nearest)


def state_between_two_messages(world: World) -> None:
    """Interpolated to the time of the frame: a ninth of the state is of the message after it."""

    def between(times: NDArray[np.int64], clock: Clock) -> NDArray[np.float64]:
        return np.interp(clock.before - times[0], times - times[0], np.arange(len(times)))

    _record(world)
    _numbers(world, between)


def state_of_the_end_of_the_frame(world: World) -> None:
    """A frame is taken for what is recorded until the next one."""

    def until_next(times: NDArray[np.int64], clock: Clock) -> NDArray[np.int64]:
        return last_before(times, Clock(np.append(clock.before[1:], clock.before[-1]), clock.after))

    _record(world)
    _numbers(world, until_next)


def _pictures(world: World, view: str, choose: Callable[[NDArray[np.int64], Clock], NDArray[np.int64]]) -> None:
    honest = Aligned.pictures

    def pictures(aligned: Aligned, camera: CameraSeries) -> NDArray[np.int64]:
        chosen = choose(camera.times, aligned.clock) if view in camera.name else honest(aligned, camera)
        return np.minimum(chosen, len(camera.times) - 1)

    world.patch.setattr(Aligned, "pictures", pictures)


def camera_ahead_by_a_message(world: World) -> None:
    _record(world)
    _pictures(world, "wrist", lambda times, clock: last_before(times, clock) + 1)


def camera_of_the_first_message_after(world: World) -> None:
    _record(world)
    _pictures(world, "wrist", first_after)


def pictures_after_the_frames_of_a_rate(world: World) -> None:
    """At 7 Hz frames lie between two pictures; the later one is shown."""
    _record(world, fps=7.0)
    _pictures(world, "image", first_after)


def recorder_that_lags_is_believed(world: World) -> None:
    """The recorder's times of joints are 150 ms behind: by their own stamps they were measured after the frame."""

    def behind(messages: list[Sent]) -> list[Sent]:
        return [replace(m, log=m.log - 150 * MS) if m.topic == "/joint_states" else m for m in messages]

    _record(world, behind)
    world.patch.setattr("pipeline.sources.mcap.recording.header_time", lambda message, topic, where: None)


def instruction_before_it_was_given(world: World) -> None:
    """The second half of an episode has another text."""

    def said(messages: list[Sent]) -> list[Sent]:
        middle = messages[len(messages) // 2].log
        return sorted([*messages, text("/task", "now bring it back", middle)], key=lambda m: m.log)

    _record(world, said)

    def last(aligned: Aligned) -> list[str]:
        return [aligned._recording.text.texts[-1]] * len(aligned.clock.before)

    world.patch.setattr(Aligned, "texts", last)


def gap_that_is_bridged(world: World) -> None:
    """A second without joints: the state before it holds on, which the settings do not allow."""

    def gap(messages: list[Sent]) -> list[Sent]:
        start = messages[0].log + 1500 * MS
        return [m for m in messages if m.topic != "/joint_states" or not start < m.log < start + 1000 * MS]

    _record(world, gap)
    world.patch.setattr("pipeline.sources.mcap.episode.require_near", lambda *arguments: None)


def joints_that_the_controller_wants(world: World) -> None:
    """An honest pipeline: what is published as the state is the command, scaled, before it is sent."""

    def wanted(messages: list[Sent]) -> list[Sent]:
        commands = [m for m in messages if m.topic == "/command"]
        states = [m for m in messages if m.topic == "/joint_states"]
        made = [
            joints("/joint_states", NAMES, [*(0.5 * np.array(command.content["data"])), 0.0], state.log)
            for command, state in zip(commands, states, strict=True)
        ]
        return sorted([*(m for m in messages if m.topic != "/joint_states"), *made], key=lambda m: m.log)

    _record(world, wanted)


def camera_whose_clock_is_ahead(world: World) -> None:
    """An honest pipeline: the wrist camera's stamps are four frames early, and it shows what the front one does."""

    def early(messages: list[Sent]) -> list[Sent]:
        front = [m for m in messages if m.topic == "/front/image"]
        wrist = [m for m in messages if m.topic == "/wrist/image"]
        later = [*front[4:], *[front[-1]] * 4]
        made = [
            Sent("/wrist/image", shown.kind, at.log, {**shown.content, "header": at.content["header"]})
            for shown, at in zip(later, wrist, strict=True)
        ]
        return sorted([*(m for m in messages if m.topic != "/wrist/image"), *made], key=lambda m: m.log)

    _record(world, early)


PIPELINES = (
    LeakyPipeline(state_of_the_next_message, "robot", "L8", "source", "state"),
    LeakyPipeline(state_of_the_nearest_message, "robot", "L8", "source", "state"),
    LeakyPipeline(state_between_two_messages, "robot", "L8", "source", "state"),
    LeakyPipeline(state_of_the_end_of_the_frame, "robot", "L8", "source", "state"),
    LeakyPipeline(camera_ahead_by_a_message, "robot", "L1", "source", "closest is frame"),
    LeakyPipeline(camera_of_the_first_message_after, "robot", "L1", "source", "closest is frame"),
    LeakyPipeline(pictures_after_the_frames_of_a_rate, "robot", "L1", "source", "closest is frame"),
    LeakyPipeline(recorder_that_lags_is_believed, "robot", "L8", "source", "state"),
    LeakyPipeline(instruction_before_it_was_given, "robot", "L9", "source", "now bring it back"),
    LeakyPipeline(gap_that_is_bridged, "robot", "L7", "source", "a frame and its message are"),
    LeakyPipeline(joints_that_the_controller_wants, "robot", "L3", "source", "of frame n, a target"),
    LeakyPipeline(camera_whose_clock_is_ahead, "robot", "L1", "source", "wrist shows later frames of camera front"),
)
