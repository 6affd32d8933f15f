"""MCAP: recordings of ROS 2 below the root, one a file. Episode ids are NAME-SHORT, SHORT the file's path.

R frames of an episode, W channels of a field.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from typing import Any

from pipeline.audit.raw.base import RawEpisode, RawError, RawSource, reading, usable_text
from pipeline.audit.raw.decoding.clock import frame_second, seconds
from pipeline.audit.raw.decoding.frames import FrameReader, TimedFrame
from pipeline.audit.raw.mcap.moments import Moments
from pipeline.audit.raw.mcap.pictures import shown
from pipeline.audit.raw.mcap.series import NANO, Time
from pipeline.audit.raw.mcap.topics import Topics, Wanted, decoded_messages
from pipeline.audit.raw.place import Place, find, on_disk
from pipeline.audit.raw.settings import clean, hashed_split, rate_of, short, text_of, texts_of
from pipeline.audit.raw.vectors import REACHED, RobotVectors
from pipeline.audit.raw.videos import path_inside, rows_of_list

_OF_ANY_WIDTH = "none"
"""The conversion that keeps as many channels as there are."""

_Place = tuple[Place, str]
"""A recording: its file, and the text that the list has for it."""


class RawMcap(RawSource):
    """All files below the root."""

    @property
    def rate(self) -> float | None:
        """By the settings; None where each picture of the first camera is a frame."""
        return self._fps

    def list_episodes(self) -> None:
        settings = self.settings
        name, self._vectors = text_of(settings, "name"), RobotVectors(settings)
        self._fps = None if settings.get("fps") is None else rate_of(settings)
        self._farthest = Fraction(0 if settings.get("max_age_s") == 0 else rate_of(settings, "max_age_s")) * NANO
        self._cameras = _cameras(settings)
        self._measured = _measured(settings)
        own = {key: text_of(settings, key) for key in ("instruction", "text", "texts") if settings.get(key) is not None}
        if len(own) != 1 or settings.get("times") not in ("header", "log"):
            raise RawError("settings.source must set one of instruction, text and texts, and times to header or log")
        by_header = settings["times"] == "header"
        topics = tuple(dict.fromkeys(self._cameras.values()))
        self._wanted = Wanted(topics, tuple(sorted(self._vectors.fields)), own.get("instruction"), by_header)
        texts = _texts(self.root, own["texts"]) if "texts" in own else None
        paths = find(self.root, "**/*.mcap")
        if not paths:
            raise RawError(f"{self.root} holds no .mcap file")
        for path in paths:
            relative = str(path)[len(str(self.root).rstrip("/")) + 1 :]
            episode = f"{name}-{short(relative.removesuffix('.mcap'))}"
            text = usable_text(own.get("text", "") if texts is None else texts.get(relative, ""))
            self.add(episode, hashed_split(episode, settings), (path, text))

    def read(self, episode: str, split: str, place: _Place) -> RawEpisode:
        path, text = place
        with reading(path), on_disk(path) as local, open(local, "rb") as file:
            topics = Topics(file, self._wanted)
            self._check_lists(topics)
            moments = Moments(topics, self._wanted, self._measured, self._fps, self._farthest)
            count = len(moments.frames) - self._vectors.action.lost
            if count < 1:
                raise RawError(f"{path}: no frame has an action")
            frames, readers = moments.frames[:count], {}
            for view, topic in self._cameras.items():
                readers[view] = self._reader(path, topics, topic, frames, moments.pictures(topic)[:count])
            for view, topic, numbers in self._others(topics, frames):
                readers[view] = self._reader(path, topics, topic, frames, numbers)
            vectors = self._vectors.make(moments.measured, count, moments.of_action)
            texts = [text] if text else []
            if self._wanted.text is not None:
                texts = [usable_text(said) for said in moments.texts()]
        return RawEpisode(id=episode, split=split, frame_readers=readers, instructions=tuple(texts), **vectors)

    def _check_lists(self, topics: Topics) -> None:
        for part in (*self.settings["state"], *self.settings["action"]):
            if part["field"] in topics.lists and part["take"] is None and part["convert"] == _OF_ANY_WIDTH:
                raise RawError(f"{part['field']} is a list of any length")

    def _others(self, topics: Topics, frames: Sequence[Time]) -> Iterator[tuple[str, str, list[int]]]:
        """Cameras that the build does not use, where they have a picture at each frame: name, topic and pictures."""
        for topic, series in topics.cameras.items():
            numbers = [series.last(now) for now in frames]
            if topic not in self._wanted.cameras and numbers[0] >= 0 and clean(topic) not in self._cameras:
                yield clean(topic), topic, numbers

    def _reader(
        self, path: Place, topics: Topics, topic: str, frames: Sequence[Time], numbers: Sequence[int]
    ) -> FrameReader:
        """Pictures of one topic, read anew: at frame i message numbers[i]."""
        kind, where, first = topics.kinds[topic], f"{path}, {topic}", frames[0]

        def images() -> Iterator[TimedFrame]:
            at = 0
            with reading(path), on_disk(path) as local, open(local, "rb") as file:
                found = decoded_messages(file, lambda message: message.topic == topic, numbers)
                for number, (_, message) in zip(sorted(set(numbers)), found, strict=True):
                    if isinstance(message, RawError):
                        raise message
                    image = shown(kind, message, f"{where}, message {number}")
                    while at < len(numbers) and numbers[at] == number:
                        passed = seconds(Fraction(frames[at] - first, NANO)) if self._fps is None else None
                        yield (frame_second(at, self._fps or 1) if passed is None else passed), image
                        at += 1

        return images


def _cameras(settings: Mapping[str, Any]) -> dict[str, str]:
    """View -> topic, in order. Raises RawError for another form."""
    listed = texts_of(settings, "cameras")
    found = {name: topic for name, _, topic in (camera.partition("=") for camera in listed) if name and topic}
    if not found or len(found) < len(listed):
        raise RawError(f"settings.source.cameras must be a list of NAME=TOPIC, found {listed!r:.200}")
    return found


def _measured(settings: Mapping[str, Any]) -> frozenset[str]:
    """Fields of what is known at a frame: of the state, where an action starts from, and poses that are reached."""
    found = {part["field"] for part in settings["state"]}
    for part in settings["action"]:
        found |= {part["field"]} if part["convert"] in REACHED else set()
        found |= {part["base"]} if part["base"] is not None else set()
    return frozenset(found)


def _texts(root: Place, name: str) -> dict[str, str]:
    """Path of a recording -> its text; "" where it is listed twice."""
    list_ = path_inside(name)
    if list_ is None:
        raise RawError(f"settings.source.texts leads out of {root}; it must be a file below it")
    found: dict[str, str] = {}
    for row in rows_of_list(root / list_):
        if usable_text(row.get("file")):
            path = os.path.normpath(str(row["file"]))
            found[path] = "" if path in found else usable_text(row.get("text"))
    return found
