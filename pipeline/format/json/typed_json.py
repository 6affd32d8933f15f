"""JSON objects as dataclasses, read with suspicion: exactly the fields of the class, each with a value of its type."""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Mapping, Sequence
from enum import Enum
from functools import cache
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

T = TypeVar("T")

LARGEST = 10**300
"""A whole number below can stand for a float."""


def from_json(cls: type[T], value: Any, place: str = "it") -> T:
    """The dataclass of a JSON object.

    Fields may be of plain types, enums, other dataclasses, `tuple`, `list`, mappings from text, `Literal` and unions of
    these. A whole number may stand for a float, which has to be finite; True is no int. Fields with a default may be
    missing.

    Args:
        place: of the value, for messages.

    Raises:
        ValueError: it does not fit; one line with the place.
    """
    if type(value) is not dict:
        raise _wrong(place, "an object", value)
    kind = typing.cast(Any, cls)
    names, required = _fields(kind)
    if odd := sorted((required - value.keys()) | (value.keys() - names)):
        raise ValueError(f"{place} {'lacks' if odd[0] in names else 'may not hold'} {odd[0]!r:.80}")
    hints = _hints(kind)
    return cls(**{name: _read(hints[name], item, f"{place}.{name}") for name, item in value.items()})


@cache
def _fields(cls: Any) -> tuple[frozenset[str], frozenset[str]]:
    """All fields that are set when an object is made, and those without a default."""
    fields = [field for field in dataclasses.fields(cls) if field.init]
    missing = dataclasses.MISSING
    required = [field.name for field in fields if field.default is missing and field.default_factory is missing]
    return frozenset(field.name for field in fields), frozenset(required)


@cache
def _hints(cls: Any) -> dict[str, Any]:
    return get_type_hints(cls)


def _read(kind: Any, value: Any, place: str) -> Any:
    origin, arguments = get_origin(kind), get_args(kind)
    if kind is Any or kind is object:
        return value
    if origin in (Union, types.UnionType):
        return _union(arguments, value, place)
    if origin is Literal:
        if value not in arguments or type(value) not in map(type, arguments):
            raise _wrong(place, f"one of {', '.join(map(repr, arguments))}", value)
        return value
    if origin in (tuple, list, Sequence):
        return _sequence(origin, arguments, value, place)
    if origin in (dict, Mapping):
        if type(value) is not dict:
            raise _wrong(place, "an object", value)
        return {key: _read(arguments[1], item, f"{place}.{key:.80}") for key, item in value.items()}
    if dataclasses.is_dataclass(kind):
        return from_json(typing.cast(type[Any], kind), value, place)
    return _plain(kind, value, place)


def _union(kinds: tuple[Any, ...], value: Any, place: str) -> Any:
    if value is None and type(None) in kinds:
        return None
    problem = _wrong(place, "null", value)
    for kind in (kind for kind in kinds if kind is not type(None)):
        try:
            return _read(kind, value, place)
        except ValueError as error:
            problem = error
    raise problem


def _sequence(origin: Any, kinds: tuple[Any, ...], value: Any, place: str) -> Any:
    """A `tuple[X, Y]` has a fixed length, the others any."""
    if type(value) is not list:
        raise _wrong(place, "a list", value)
    fixed = origin is tuple and not (len(kinds) == 2 and kinds[1] is Ellipsis)
    if fixed and len(value) != len(kinds):
        raise _wrong(place, f"a list of {len(kinds)}", value)
    each = kinds if fixed else [kinds[0]] * len(value)
    read = [_read(kind, item, f"{place}[{i}]") for i, (kind, item) in enumerate(zip(each, value, strict=True))]
    return read if origin is list else tuple(read)


def _plain(kind: Any, value: Any, place: str) -> Any:
    if issubclass(kind, Enum):
        try:
            return kind(value)
        except (ValueError, TypeError):
            raise _wrong(place, f"one of {', '.join(str(one.value) for one in kind)}", value) from None
    if kind is float and type(value) is int and abs(value) < LARGEST:
        return value  # as it was written: it may be written again
    if type(value) is not kind or (kind is float and not math.isfinite(value)):
        raise _wrong(place, {str: "text", type(None): "null"}.get(kind, kind.__name__), value)
    return value


def _wrong(place: str, what: str, value: Any) -> ValueError:
    return ValueError(f"{place} must be {what}, found {value!r:.80}")
