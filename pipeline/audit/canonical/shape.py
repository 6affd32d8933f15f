"""Closed types of JSON values: a value fits a type when it has its keys and no others, each with a value that fits.

Types are those of `pipeline.format.json.documents`: `TypedDict`, `list`, `tuple` (a list of fixed length), `dict` (any
keys), `Literal`, unions, `Annotated[str, pattern]`, and int, float, str, bool and None to the letter: 1 is no float and
True no int.
"""

from __future__ import annotations

import re
import types
import typing
from collections.abc import Callable, Mapping
from functools import cache
from typing import Annotated, Any, Literal, NotRequired, Union, get_args, get_origin, get_type_hints, is_typeddict

Fit = Callable[[Any], str]
"""Value -> "" when it fits, else the place inside it and what is wrong: ".window.steps must be int, found 'x'"."""


def misfit(value: Any, kind: Any) -> str:
    """What keeps a value from fitting a type; "" when it fits."""
    return _fit(kind)(value)


@cache
def _fit(kind: Any) -> Fit:
    origin, arguments = get_origin(kind), get_args(kind)
    if is_typeddict(kind):
        return _object(get_type_hints(kind, include_extras=True))
    if kind is Any or kind is object:
        return lambda value: ""
    if origin in (Union, types.UnionType):
        return _union(arguments)
    if origin is Literal:
        return _literal(arguments)
    if origin is Annotated:
        return _matching(arguments[1])
    if origin is list:
        return _list(_fit(arguments[0]))
    if origin is dict:
        return _mapping(_fit(arguments[1]))
    if origin is tuple:
        return _tuple([_fit(part) for part in arguments])
    return _plain(kind)


def _plain(kind: type) -> Fit:
    name = "null" if kind is type(None) else kind.__name__
    return lambda value: "" if type(value) is kind else _must(name, value)


def _literal(allowed: tuple[Any, ...]) -> Fit:
    names = " or ".join(map(repr, allowed))
    return lambda value: "" if type(value) is str and value in allowed else _must(f"be {names}", value, "")


def _matching(pattern: re.Pattern[str]) -> Fit:
    text = f"be text like {pattern.pattern}"
    return lambda value: "" if type(value) is str and pattern.fullmatch(value) else _must(text, value, "")


def _object(hints: Mapping[str, Any]) -> Fit:
    fits = {key: _fit(get_args(hint)[0] if get_origin(hint) is NotRequired else hint) for key, hint in hints.items()}
    required = frozenset(key for key, hint in hints.items() if get_origin(hint) is not NotRequired)
    known = frozenset(fits)

    def fit(value: Any) -> str:
        if type(value) is not dict:
            return _must("object", value)
        if not required <= value.keys() <= known:
            wrong = [f"lacks {key!r}" for key in sorted(required - value.keys())]
            wrong += [f"holds {key!r:.80}, which no build has there" for key in sorted(value.keys() - known)]
            return f" {'; '.join(wrong)}"
        for key, item in value.items():
            if problem := fits[key](item):
                return f".{key}{problem}"
        return ""

    return fit


def _mapping(item: Fit) -> Fit:
    def fit(value: Any) -> str:
        if type(value) is not dict:
            return _must("object", value)
        return next((f".{key:.80}{problem}" for key, part in value.items() if (problem := item(part))), "")

    return fit


def _list(item: Fit) -> Fit:
    def fit(value: Any) -> str:
        if type(value) is not list:
            return _must("list", value)
        return next((f"[{i}]{problem}" for i, part in enumerate(value) if (problem := item(part))), "")

    return fit


def _tuple(items: list[Fit]) -> Fit:
    def fit(value: Any) -> str:
        if type(value) is not list or len(value) != len(items):
            return _must(f"be a list of {len(items)}", value, "")
        parts = zip(items, value, strict=True)
        return next((f"[{i}]{problem}" for i, (item, part) in enumerate(parts) if (problem := item(part))), "")

    return fit


def _union(kinds: tuple[Any, ...]) -> Fit:
    """Of several objects the one is meant that has the value's `type` or `kind`."""
    fits = [_fit(kind) for kind in kinds]

    def fit(value: Any) -> str:
        problems = []
        for kind, one in zip(kinds, fits, strict=True):
            if not (problem := one(value)):
                return ""
            problems.append((not _is_tagged(value, kind), problem))
        return min(problems, key=lambda found: found[0])[1]

    return fit


def _is_tagged(value: Any, kind: Any) -> bool:
    """Whether an object's `type` or `kind` is the one of a type."""
    if type(value) is not dict or not is_typeddict(kind):
        return type(value) is not dict and type(value) is kind
    hints = typing.get_type_hints(kind)
    tags = [tag for tag in ("type", "kind") if get_origin(hints.get(tag)) is Literal]
    return all(value.get(tag) in get_args(hints[tag]) for tag in tags)


def _must(what: str, value: Any, be: str = "be ") -> str:
    return f" must {be}{what}, found {value!r:.80}"
