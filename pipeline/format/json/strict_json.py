"""JSON read with suspicion: no repeated keys where they are not asked for, no NaN, errors that name the file."""

from __future__ import annotations

import json
import re
from typing import Any, NoReturn, TypeVar

from pipeline.errors import BuildError

T = TypeVar("T")

_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


def parse(data: bytes, repeated: bool = False) -> Any:
    """Parse UTF-8 JSON.

    Args:
        repeated: of a key that is twice in one object the last value counts, as for most readers.

    Raises:
        ValueError: not UTF-8, not JSON, a key twice in one object, NaN or Infinity, half of a surrogate pair, or nested
            beyond reason.
    """
    pairs = None if repeated else _unique
    value = parse_any(data.decode("utf-8"), object_pairs_hook=pairs, parse_constant=_refuse)
    if _SURROGATE.search(data):
        json.dumps(value, ensure_ascii=False).encode()  # UnicodeEncodeError, a ValueError: half of a pair
    return value


def parse_any(text: str | bytes, **hooks: Any) -> Any:
    """Parse the JSON of somebody else, who may write keys twice and NaN. hooks: of `json.loads`.

    Raises:
        ValueError: not JSON, or nested beyond reason, for which `json.loads` has a RecursionError.
    """
    try:
        return json.loads(text, **hooks)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def parse_object(data: bytes, where: str) -> dict[str, Any]:
    """Parse a file that must hold one object, with `repeated` keys. Raises BuildError naming `where`."""
    try:
        value = parse(data, repeated=True)
    except ValueError as error:
        raise BuildError(f"{where} cannot be audited: {error}. Restore it, or make the build again") from error
    if not isinstance(value, dict):
        raise BuildError(f"{where} cannot be audited: expected a JSON object, found {type(value).__name__}")
    return value


def member(mapping: dict[str, Any], key: str, kind: type[T], where: str) -> T:
    """The value of a key, of exactly this type (a bool is no int). Raises BuildError naming `where` and the key."""
    if key not in mapping:
        raise BuildError(f"{where} has no {key!r}. It was not written by this version; make the build again")
    value = mapping[key]
    if type(value) is not kind:
        raise BuildError(f"{where}: {key!r} must be {kind.__name__}, found {type(value).__name__}")
    return value


def canonical(value: Any) -> str:
    """The one spelling of a value: sorted keys, no spaces, not ASCII-escaped."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"key {next(n for n in names if names.count(n) > 1)!r} occurs twice in one object")
    return result


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON number")
