"""Paths and texts on the command line mean what is typed, whatever characters are in them.

Hydra's grammar gives meaning to commas, brackets, quotes, `=`, `~` and `#`, and it would replace `${…}` by what that
names, as a variable of the environment, in a text that somebody else wrote. Where a setting is a path or a text, its
value is quoted for Hydra before it reads the line; `~` is the home folder. Values that are quoted already stay so.
"""

from __future__ import annotations

import re
import typing
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pipeline.errors import SettingsError
from pipeline.format.settings import describe

_KEY = re.compile(r"[+~]{0,2}(?P<key>[A-Za-z_][\w.@]*|hydra/[\w./]+)=(?P<value>.*)", re.DOTALL)
_NULL = "null"


def is_setting(word: str) -> bool:
    """Whether a word is `key=value`, rather than a path with `=` in it."""
    return _KEY.fullmatch(word) is not None


def as_typed(classes: Sequence[type[Any]], words: Sequence[str]) -> list[str]:
    """Words for Hydra.

    Args:
        classes: the `checked` class of the command's settings; then those whose settings are below `source`.

    Raises:
        SettingsError: a path is empty.
    """
    return [_typed(classes, word) for word in words]


def kind_is_path(kind: Any) -> bool:
    """Whether a value of that type is a path, or a list of paths."""
    one = _element(kind)
    return Path in _members(kind if one is None else one)


def quoted(value: str) -> str:
    """A text in single quotes, as Hydra's grammar has it, in which nothing is replaced."""
    escaped = re.sub(r"(\\*)'", r"\1\1\\'", _without_interpolation(value))
    trailing = len(escaped) - len(escaped.rstrip("\\"))
    return f"'{escaped}{chr(92) * trailing}'"


def _without_interpolation(value: str) -> str:
    """`${` stays what it is when OmegaConf resolves the text."""
    return re.sub(r"(\\*)\$\{", r"\1\1\\${", value)


def _typed(classes: Sequence[type[Any]], word: str) -> str:
    found = _KEY.fullmatch(word)
    if found is None:
        return word
    kind = next(_kinds(classes, found["key"]), None)
    key, value = word[: found.start("value")], found["value"]
    one = _element(kind)
    if one is not None and value.startswith("[") and value.endswith("]"):
        return f"{key}[{','.join(_value(found['key'], one, item) for item in _items(value[1:-1]))}]"
    return f"{key}{_value(found['key'], kind, value)}" if _is_text(kind) else word


def _value(key: str, kind: Any, value: str) -> str:
    if value in ("", "''", '""') and Path in _members(kind):
        raise SettingsError(f"{key}= is empty; give a path")
    if value == _NULL:
        return value
    if re.fullmatch(r"'.*'|\".*\"", value, re.DOTALL):
        return _without_interpolation(value)
    if value == "~" or value.startswith("~/"):
        value = str(Path(value).expanduser())
    return quoted(value)


def _items(text: str) -> Iterator[str]:
    """The items of a list, whose commas may be inside quotes."""
    for item in re.findall(r"(?:'(?:\\.|[^'])*'|\"(?:\\.|[^\"])*\"|[^,])+", text):
        yield item.strip()


def _kinds(classes: Sequence[type[Any]], key: str) -> Iterator[Any]:
    """The types of the settings of that name."""
    command, *sources = classes
    name, _, rest = key.partition(".")
    for described in describe(command):
        if described.name == name and rest and described.nested is not None:
            yield from _kinds((described.nested,), rest)
        elif described.name == name and not rest:
            yield described.kind
    if name == "source" and rest:
        for source in sources:
            yield from _kinds((source,), rest)


def _members(kind: Any) -> tuple[Any, ...]:
    return typing.get_args(kind) if typing.get_origin(kind) is typing.Union else (kind,)


def _is_text(kind: Any) -> bool:
    """Whether a value is a path or a text, and nothing else."""
    return kind is not None and all(member in (str, Path) for member in _members(kind))


def _element(kind: Any) -> Any:
    """The type of a list's items if they are texts; None for what is no such list."""
    items = typing.get_args(kind)
    return items[0] if typing.get_origin(kind) is tuple and items[1:] == (...,) and _is_text(items[0]) else None
