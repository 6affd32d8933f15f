"""One pass over a recording: the series of its cameras, fields and texts, by the settings."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

from pipeline.audit.raw.base import RawError
from pipeline.audit.raw.mcap.cdr import Definition
from pipeline.audit.raw.mcap.fields import Path
from pipeline.audit.raw.mcap.pictures import COMPRESSED, PLAIN
from pipeline.audit.raw.mcap.records import Message, Recording
from pipeline.audit.raw.mcap.series import Series, stamp_of

_TEXT = "std_msgs/msg/String"


@dataclass(frozen=True)
class Wanted:
    """cameras: topics of the views. fields: TOPIC:PATH. text: topic of the instruction. by_header: times are stamps."""

    cameras: tuple[str, ...]
    fields: tuple[str, ...]
    text: str | None
    by_header: bool


class Topics:
    """Series of one file: of each camera (all topics of pictures), each field, and the text.

    lists: fields that are whole lists of numbers.  kinds: type of each topic.

    Raises:
        RawError: it is damaged, a topic or field is missing or of another type, or times do not rise.
    """

    def __init__(self, file: BinaryIO, wanted: Wanted) -> None:
        self._wanted = wanted
        self.cameras: dict[str, Series] = {}
        self.fields = {name: Series(name) for name in wanted.fields}
        self.text = Series(wanted.text or "")
        self.lists: set[str] = set()
        self.kinds: dict[str, str] = {}
        self._paths = {name: Path.parse(name) for name in wanted.fields}
        self._needed = {*wanted.cameras, *(path.topic for path in self._paths.values()), *filter(None, [wanted.text])}
        self._unusable: set[str] = set()
        for message, decoded in decoded_messages(file, self._is_read):
            self._add(message, decoded)
        series = [*self.fields.values(), *([self.text] if wanted.text else [])]
        missing = [topic for topic in wanted.cameras if topic not in self.cameras]
        missing += [one.name for one in series if not one.times]
        if missing:
            raise RawError(f"there is no message of {', '.join(missing)}")
        for topic in self._unusable:
            self.cameras.pop(topic, None)

    def _is_read(self, message: Message) -> bool:
        """Also of which type a topic is: a needed one must have one, and the right one."""
        topic, kind = message.topic, message.schema.name if message.schema else ""
        pictures = kind in (COMPRESSED, PLAIN)
        known = self.kinds.setdefault(topic, kind)
        if topic in self._needed:
            wrong = (topic in self._wanted.cameras and not pictures) or (
                topic == self._wanted.text and topic not in self._wanted.cameras and kind != _TEXT
            )
            if wrong or kind != known:
                raise RawError(f"{topic} is of the types {known} and {kind}")
        return topic in self._needed or (pictures and kind == known and topic not in self._unusable)

    def _add(self, message: Message, decoded: dict[str, Any] | RawError) -> None:
        topic = message.topic
        if topic not in self._needed:
            try:
                if isinstance(decoded, RawError):
                    raise decoded
                self._add_picture(message, decoded)
            except RawError:  # a camera that the build does not use may be damaged
                self._unusable.add(topic)
            return
        if isinstance(decoded, RawError):
            raise decoded
        if topic in self._wanted.cameras:
            self._add_picture(message, decoded)
        for name, path in self._paths.items():
            if path.topic == topic:
                self._add_numbers(name, path, decoded, self._time(message, decoded))
        if topic == self._wanted.text:
            self.text.add(self._time(message, decoded), decoded["data"])

    def _add_picture(self, message: Message, decoded: Mapping[str, Any]) -> None:
        series = self.cameras.setdefault(message.topic, Series(message.topic))
        series.add(self._time(message, decoded), None)

    def _add_numbers(self, name: str, path: Path, decoded: Mapping[str, Any], time: int) -> None:
        found = path.numbers(decoded)
        if found is None:
            return
        values, whole = found
        series = self.fields[name]
        if not values or (series.values and len(series.values[0]) != len(values)):
            raise RawError(f"{name} has {len(values)} numbers in a message")
        if whole and not series.values:
            self.lists.add(name)
        series.add(time, values)

    def _time(self, message: Message, decoded: Mapping[str, Any]) -> int:
        return stamp_of(decoded, message.log_time) if self._wanted.by_header else message.log_time


def decoded_messages(
    file: BinaryIO, is_read: Any, decode: Iterable[int] | None = None
) -> Iterator[tuple[Message, dict[str, Any] | RawError]]:
    """Messages for which `is_read` holds, decoded, or why they cannot be.

    Args:
        decode: rising numbers, among those messages, of which alone are given; None: all.
    """
    definitions: dict[tuple[str, Any], Definition] = {}
    chosen, number = None if decode is None else set(decode), -1
    for message in Recording(file).messages():
        if not is_read(message):
            continue
        number += 1
        if chosen is not None and number not in chosen:
            continue
        key = (message.topic, message.schema)
        try:
            if key not in definitions:
                definitions[key] = Definition(message)
            yield message, definitions[key].decode(message.content)
        except (RawError, ValueError) as error:
            yield message, error if isinstance(error, RawError) else RawError(f"{message.topic}: {error}")
