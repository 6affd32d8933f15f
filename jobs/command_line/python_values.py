"""Settings as values of Python -> the words that mean them on a command line."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Set
from enum import Enum
from pathlib import Path
from typing import Any

from jobs.command_line.typed_values import quoted
from pipeline.errors import SettingsError

_CHOICE = re.compile(r"[\w.-]+")


def words_of(settings: Mapping[str, Any], choices: Set[str] = frozenset()) -> list[str]:
    """`key=value` of each setting, choices first: what they set may be set again.

    Args:
        settings: by name with dots, or nested. A value is a text, a path, a number, a truth value, None, an enum, or a
            list of these.
        choices: names of settings that choose a group of settings, as `source`.

    Raises:
        SettingsError: a value is of another type.
    """
    flat = list(_flat(settings, ""))
    first = [f"{key}={_choice(key, value)}" for key, value in flat if key in choices]
    return [*first, *(f"{key}={_word(key, value)}" for key, value in flat if key not in choices)]


def _flat(settings: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for key, value in settings.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _choice(key: str, value: Any) -> str:
    if not isinstance(value, str) or not _CHOICE.fullmatch(value):
        raise SettingsError(f"{key} must be the name of a choice, got {value!r}")
    return value


def _word(key: str, value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, Enum):
        value = value.value
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, (str, Path)):
        text = str(value)
        return quoted(str(Path(text).expanduser()) if text == "~" or text.startswith("~/") else text)
    if isinstance(value, (list, tuple)):
        return f"[{','.join(_word(key, item) for item in value)}]"
    if isinstance(value, Mapping):
        return "{}"
    raise SettingsError(
        f"{key} must be a text, path, number, truth value, None or a list of these, got {type(value).__name__}"
    )
