"""What one pass over a file keeps: times of all wanted messages, where pictures lie, numbers and texts."""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import EpisodeError
from pipeline.sources.mcap.container import McapFile, Place, StoredMessage
from pipeline.sources.mcap.decoding import Decoder, header_time
from pipeline.sources.mcap.fields import FieldError, Found, MessageField, find_numbers
from pipeline.sources.mcap.images import IMAGES
from pipeline.sources.mcap.matching import Times

TEXT = "std_msgs/msg/String"


@dataclass(frozen=True)
class Wanted:
    """What is read of a file. cameras: view -> topic; fields: names of numbers; text: topic of the instruction."""

    cameras: Mapping[str, str]
    fields: tuple[str, ...]
    text: str | None
    by_header: bool

    @property
    def topics(self) -> frozenset[str]:
        """Every topic that is read."""
        numbers = {MessageField.parse(name).topic for name in self.fields}
        return frozenset({*self.cameras.values(), *numbers, *([self.text] if self.text else [])})


@dataclass
class _Series:
    """Messages of a topic or field in the order of the file, which must be that of their times."""

    name: str
    stamps: array[int] = field(default_factory=lambda: array("q"))

    def add(self, time: int, where: str) -> None:
        """Raises EpisodeError("bad-clock") unless the time is after the last one."""
        if self.stamps and time <= self.stamps[-1]:
            how = "the same as" if time == self.stamps[-1] else "before"
            detail = f"{where}, {self.name}: message {len(self.stamps)} is at {time} ns, {how} the one before it"
            raise EpisodeError("bad-clock", f"{detail} ({self.stamps[-1]} ns); sort or repair the file")
        if not 0 <= time < 2**63:
            raise EpisodeError("bad-clock", f"{where}, {self.name}: {time} ns is no time")
        self.stamps.append(time)

    @property
    def times(self) -> Times:
        """int64 [M]."""
        return np.frombuffer(self.stamps, np.int64) if self.stamps else np.zeros(0, np.int64)


@dataclass
class CameraSeries(_Series):
    """Pictures of a camera. like: a message of it, for the channel and schema that all have."""

    places: list[Place] = field(default_factory=list)
    like: StoredMessage | None = None


@dataclass
class NumberSeries(_Series):
    """Numbers of a field. first: of its first message; all have as many."""

    numbers: array[float] = field(default_factory=lambda: array("d"))
    first: Found | None = None

    @property
    def values(self) -> NDArray[np.float64]:
        """float64 [M, W]."""
        return np.frombuffer(self.numbers, np.float64).reshape(len(self.stamps), -1)


@dataclass
class TextSeries(_Series):
    """Texts of a topic."""

    texts: list[str] = field(default_factory=list)


class Recording:
    """One pass over a file.

    Args:
        enough: stop when each series has a message, to see what there is.

    Raises:
        EpisodeError: "undecodable", "bad-clock", or "bad-record": a topic is missing or of another type, or a message
            does not hold a field.
    """

    def __init__(self, file: McapFile, wanted: Wanted, enough: bool = False) -> None:
        self._where, self._wanted, self.decoder = file.where, wanted, Decoder(file.where)
        self.cameras = {view: CameraSeries(topic) for view, topic in wanted.cameras.items()}
        self.fields = {name: NumberSeries(name) for name in wanted.fields}
        self.text = TextSeries(wanted.text or "")
        self.topics: dict[str, str] = {}
        parsed = {name: MessageField.parse(name) for name in wanted.fields}
        self._by_topic: dict[str, list[tuple[NumberSeries, MessageField]]] = {}
        for name, place in parsed.items():
            self._by_topic.setdefault(place.topic, []).append((self.fields[name], place))
        topics = wanted.topics
        for message in file.messages():
            topic, kind = message.channel.topic, message.schema.name if message.schema else "no schema"
            self.topics.setdefault(topic, kind)
            if topic in topics:
                self._require_kind(topic, kind)
                self._add(message)
            if enough and not self.missing():
                break

    def missing(self) -> list[str]:
        """Topics and fields of which there is no message."""
        series: Sequence[_Series] = [*self.cameras.values(), *self.fields.values()]
        return [one.name for one in (*series, *([self.text] if self._wanted.text else [])) if not one.stamps]

    def _require_kind(self, topic: str, kind: str) -> None:
        """One type a topic: that of a camera, of a text, or any that has the fields."""
        expected: tuple[str, ...] = (kind,)
        if topic in self._wanted.cameras.values():
            expected = IMAGES
        elif topic == self._wanted.text:
            expected = (TEXT,)
        if kind not in expected or kind != self.topics[topic]:
            both = "" if kind == self.topics[topic] else f" and {self.topics[topic]}"
            detail = f"{self._where}: {topic} is {kind}{both}, read are {' and '.join(expected)}, one a topic"
            raise EpisodeError("bad-record", detail)

    def _add(self, message: StoredMessage) -> None:
        topic = message.channel.topic
        views = [view for view, name in self._wanted.cameras.items() if name == topic]
        whole = topic in self._by_topic or topic == self._wanted.text or self._wanted.by_header
        content: Any = self.decoder.decode(message) if whole else None
        time = message.log_time
        if self._wanted.by_header:
            stamp = header_time(content, topic, self._where)
            time = message.log_time if stamp is None else stamp
        for view in views:
            self.cameras[view].add(time, self._where)
            self.cameras[view].places.append(message.place)
            self.cameras[view].like = message if self.cameras[view].like is None else self.cameras[view].like
        for series, place in self._by_topic.get(topic, ()):
            self._add_numbers(series, place, content, time)
        if topic == self._wanted.text:
            self.text.add(time, self._where)
            self.text.texts.append(_own_text(content.data, message.data, f"{self._where}, {topic}"))

    def _add_numbers(self, series: NumberSeries, place: MessageField, content: Any, time: int) -> None:
        try:
            found = find_numbers(place, content)
        except FieldError as error:
            detail = f"{self._where}, {series.name}, message {len(series.stamps)}: {error}"
            raise EpisodeError("bad-record", detail) from error
        if found is None:
            return
        if series.first is None:
            series.first = found
        if not found.values or len(found.values) != len(series.first.values):
            count = f"{len(found.values)} numbers, the first message {len(series.first.values)}"
            raise EpisodeError("bad-record", f"{self._where}, {series.name}, message {len(series.stamps)} has {count}")
        series.add(time, self._where)
        series.numbers.extend(found.values)


def _own_text(text: str, data: bytes, where: str) -> str:
    """A text that the message holds whole: its decoder takes one that is cut off."""
    if text and len(data) < 8 + len(text.encode()) + 1:
        raise EpisodeError("undecodable", f"{where}: a text is cut off")
    return text
