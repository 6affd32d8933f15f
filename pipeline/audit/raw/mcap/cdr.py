"""Messages in CDR by their ros2msg definitions, decoded into dictionaries.

A schema holds the definition of the message, then those of the messages in it, each after a line of `=` and one
`MSG: package/Name`. A definition has a field a line: type, name, maybe a default; constants have `=`.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.audit.raw.base import RawError
from pipeline.audit.raw.mcap.records import Message

_NUMBERS: Mapping[str, str] = {
    "bool": "B",
    "byte": "B",
    "char": "b",
    "uint8": "B",
    "int8": "b",
    "uint16": "H",
    "int16": "h",
    "uint32": "I",
    "int32": "i",
    "uint64": "Q",
    "int64": "q",
    "float32": "f",
    "float64": "d",
}
_TIME = "uint32 sec\nuint32 nanosec"
_TYPE = re.compile(r"(?P<name>[\w/]+)(?:<=\d+)?(?P<array>\[(?P<bound><=)?(?P<count>\d*)\])?")
_LONGEST_SCHEMA = 1 << 20
_DEEPEST = 32


@dataclass(frozen=True)
class _Field:
    """kind: a plain type, or package/Name of a message. count: of an array of fixed length, else None."""

    name: str
    kind: str
    is_array: bool
    count: int | None


class Definition:
    """Decodes messages of one schema.

    Raises:
        RawError: the schema is in another language, or cannot be read.
    """

    def __init__(self, message: Message) -> None:
        schema = message.schema
        if schema is None or (message.encoding, schema.encoding) != ("cdr", "ros2msg"):
            raise RawError(f"{message.topic}: messages are no CDR with a ros2msg schema")
        if len(schema.text) > _LONGEST_SCHEMA:
            raise RawError(f"{message.topic}: the schema has {len(schema.text)} bytes")
        self._types = {"builtin_interfaces/Time": _fields(_TIME, ""), "builtin_interfaces/Duration": _fields(_TIME, "")}
        self._root = _plain_name(schema.name)
        name = self._root
        for number, part in enumerate(
            re.split(r"^=+[ \t]*$", schema.text.decode().replace("\r", ""), flags=re.MULTILINE)
        ):
            body = part.strip("\n") if number else part
            if number:
                first, _, body = body.partition("\n")
                if not first.startswith("MSG:"):
                    raise RawError(f"{message.topic}: a part of the schema has no MSG: line")
                name = _plain_name(first[4:].strip())
            self._types[name] = _fields(body, name.partition("/")[0])

    def decode(self, content: bytes) -> dict[str, Any]:
        """Field -> number, text, list, bytes (of uint8) or dictionary. Raises RawError."""
        if content[:2] not in (b"\0\0", b"\0\1"):
            raise RawError("a message is not in plain CDR")
        return _Decoding(self._types, content).message(self._root, 0)


class _Decoding:
    def __init__(self, types: Mapping[str, tuple[_Field, ...]], content: bytes) -> None:
        self._types, self._content, self._at = types, content, 4
        self._order = "<" if content[1] & 1 else ">"

    def message(self, name: str, depth: int) -> dict[str, Any]:
        if name not in self._types or depth > _DEEPEST:
            raise RawError(f"the schema does not define {name}, or within itself")
        fields = self._types[name]
        if not fields:
            self._numbers("B", 1)
        return {field.name: self._value(field, depth) for field in fields}

    def _value(self, field: _Field, depth: int) -> Any:
        if not field.is_array:
            return self._one(field.kind, depth)
        count = int(self._numbers("I", 1)[0]) if field.count is None else field.count
        if field.kind in ("uint8", "byte"):
            return self._take(count)
        if field.kind in _NUMBERS:
            return list(self._numbers(_NUMBERS[field.kind], count)) if count else []
        if count > len(self._content):  # each takes a byte at least
            raise RawError(f"{count} entries do not fit into a message of {len(self._content)} bytes")
        return [self._one(field.kind, depth) for _ in range(count)]

    def _one(self, kind: str, depth: int) -> Any:
        if kind in _NUMBERS:
            return self._numbers(_NUMBERS[kind], 1)[0]
        if kind == "string":
            length = int(self._numbers("I", 1)[0])
            return self._take(length)[:-1].decode() if length else ""
        return self.message(kind, depth + 1)

    def _numbers(self, code: str, count: int) -> tuple[Any, ...]:
        size = struct.calcsize(code)
        self._at += -(self._at - 4) % size
        return struct.unpack(f"{self._order}{count}{code}", self._take(size * count))

    def _take(self, count: int) -> bytes:
        if self._at + count > len(self._content):
            raise RawError(f"a message of {len(self._content)} bytes ends within a field")
        self._at += count
        return self._content[self._at - count : self._at]


def _plain_name(name: str) -> str:
    """package/Name, without the folder between them."""
    parts = name.split("/")
    return f"{parts[0]}/{parts[-1]}"


def _fields(text: str, package: str) -> tuple[_Field, ...]:
    found = []
    for line in text.splitlines():
        words = line.partition("#")[0].split(None, 1)
        if not words:
            continue
        kind = _TYPE.fullmatch(words[0])
        name = re.match(r"\w+", words[1]) if len(words) == 2 else None
        if kind is None or name is None:
            raise RawError(f"the schema has the line {line!r:.80}")
        if words[1][name.end() :].lstrip().startswith("="):
            continue  # a constant
        own = kind["name"]
        if own not in _NUMBERS and own != "string":
            own = _plain_name(own) if "/" in own else f"{package}/{own}"
        count = int(kind["count"]) if kind["count"] and not kind["bound"] else None
        if count == 0:
            raise RawError(f"the schema has an array of no entries: {line!r:.80}")
        found.append(_Field(name[0], own, kind["array"] is not None, count))
    return tuple(found)
