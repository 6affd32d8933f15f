"""A recording as an episode: frames, and of each the messages that belong to it.

N frames of the episode, W channels of a field.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import EpisodeError
from pipeline.sources.base import EpisodeRef
from pipeline.sources.episode.opened import OpenedEpisode
from pipeline.sources.episode.vectors import WIDTHS, lost_frames, make_vectors
from pipeline.sources.mcap.container import McapFile, describe_topics
from pipeline.sources.mcap.images import picture
from pipeline.sources.mcap.matching import (
    SECOND,
    Clock,
    Times,
    first_after,
    frame_clock,
    last_before,
    require_near,
    usable_frames,
)
from pipeline.sources.mcap.recording import CameraSeries, NumberSeries, Recording
from pipeline.sources.mcap.settings import McapSettings
from pipeline.sources.metadata import has_text
from pipeline.sources.video.clock import clock_times
from pipeline.sources.video.frame_readers import FrameReader, StoredImages, check_indices


def without_take(recording: Recording, settings: McapSettings) -> str:
    """What is wrong with a field whose width each message could choose; "" if there is none."""
    for part in (*settings.state, *settings.action):
        first = recording.fields[part.field].first
        if first is not None and first.is_listed and part.take is None and part.convert not in WIDTHS:
            return (
                f"{part.field} is a list, which may be of another length in another message; set take, as in "
                "take: [0, 6], or choose entries by their names in brackets"
            )
    return ""


class Aligned:
    """The messages of a recording that belong to its frames.

    Raises:
        EpisodeError: "bad-record": no message of a series; "too-short"; "bad-clock": see `frame_clock`.
    """

    def __init__(self, recording: Recording, settings: McapSettings, where: str) -> None:
        self._recording, self._limit_s, self._where = recording, settings.max_age_s, where
        measured = settings.measured
        if missing := recording.missing():
            found = f"there are {describe_topics(recording.topics)}"
            raise EpisodeError("bad-record", f"{where}: no message of {', '.join(missing)}; {found}")
        if problem := without_take(recording, settings):
            raise EpisodeError("bad-record", f"{where}: {problem}")
        inputs: dict[str, Times] = {camera.name: camera.times for camera in recording.cameras.values()}
        inputs |= {name: series.times for name, series in recording.fields.items() if name in measured}
        if recording.text.name:
            inputs[recording.text.name] = recording.text.times
        targets = {name: series.times for name, series in recording.fields.items() if name not in inputs}
        clock = frame_clock(next(iter(inputs.values())), settings.fps, where)
        frames = usable_frames(clock, inputs, targets, where)
        self.clock: Clock = clock.cut(frames.start, frames.stop)

    def pictures(self, camera: CameraSeries) -> NDArray[np.int64]:
        """Numbers of the pictures of a camera at the frames, int64 [N]."""
        return self._last(camera.times, camera.name)

    def measured(self, name: str) -> NDArray[np.float64]:
        """Values of a field at the frames, float64 [N, W]."""
        series: NumberSeries = self._recording.fields[name]
        return series.values[self._last(series.times, name)]

    def commanded(self, name: str) -> NDArray[np.float64]:
        """Values of a field from the frames on, float64 [N, W]."""
        series: NumberSeries = self._recording.fields[name]
        chosen = first_after(series.times, self.clock)
        require_near(series.times[chosen] - self.clock.after, self._limit_s, name, self._where)
        return series.values[chosen]

    def texts(self) -> list[str]:
        """The last text of the instruction's topic at each frame; it holds until the next one, however old."""
        text = self._recording.text
        return [text.texts[index] for index in last_before(text.times, self.clock)]

    def _last(self, times: Times, name: str) -> NDArray[np.int64]:
        chosen = last_before(times, self.clock)
        require_near(self.clock.before - times[chosen], self._limit_s, name, self._where)
        return chosen


def open_recording(
    ref: EpisodeRef,
    file: McapFile,
    recording: Recording,
    settings: McapSettings,
    text: str | None,
    resources: ExitStack,
) -> OpenedEpisode:
    """Open a file that was read once as an episode.

    Args:
        text: the instruction; None: it comes from the recording.
        resources: closed with the episode.

    Raises:
        EpisodeError: see `Aligned`, `make_vectors` and `OpenedEpisode`.
    """
    where = file.where
    aligned = Aligned(recording, settings, where)
    readers = {
        view: _reader(file, recording, camera, aligned, settings.fps) for view, camera in recording.cameras.items()
    }

    def of_action(name: str) -> NDArray[Any]:
        return aligned.measured(name) if name in settings.measured else aligned.commanded(name)

    state = make_vectors(settings.state, aligned.measured, where)
    actions, lost = make_vectors(settings.action, of_action, where), lost_frames(settings.action)
    lengths = {} if actions is None else {"actions": len(actions) + lost}
    own = _texts(aligned.texts(), where) if text is None else lambda _: text
    return OpenedEpisode(ref, where, readers, own, state, actions, lengths, lost, resources.pop_all())


class StampedImages(StoredImages):
    """Images with times of their own.

    Args:
        stamps: nanoseconds of each, int64 [N].
    """

    def __init__(self, image: Callable[[int], NDArray[np.uint8]], stamps: Times, codec: str) -> None:
        super().__init__(image, len(stamps), 1.0, codec)
        self._stamps = stamps

    def timestamps(self, indices: Sequence[int], since: int = 0) -> NDArray[np.float64]:
        """See `FrameReader`."""
        check_indices([*indices, since], self.num_frames, "the view")
        first = int(self._stamps[since])
        return clock_times((int(self._stamps[index]) - first for index in indices), Fraction(1, SECOND))


def _reader(
    file: McapFile, recording: Recording, camera: CameraSeries, aligned: Aligned, fps: float | None
) -> FrameReader:
    chosen, like = aligned.pictures(camera), camera.like
    assert like is not None

    def image(index: int) -> NDArray[np.uint8]:
        number = int(chosen[index])
        message = recording.decoder.decode_bytes(like.channel, like.schema, file.payload(camera.places[number]))
        return picture(like.schema.name, message, f"{file.where}, {camera.name}, message {number}")

    if fps is None:
        return StampedImages(image, aligned.clock.before, "ROS 2 messages")
    return StoredImages(image, len(chosen), fps, "ROS 2 messages")


def _texts(texts: Sequence[str], where: str) -> Callable[[int], str]:
    def text(index: int) -> str:
        if not has_text(texts[index]):
            raise EpisodeError("no-instruction", f"{where}: the instruction at frame {index} is {texts[index]!r:.80}")
        return texts[index].strip()

    return text
