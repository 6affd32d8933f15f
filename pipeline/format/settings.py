"""Settings, typed once: a frozen dataclass declares each setting's type, default, limits, unit and one line of help.

`@checked` makes the dataclass. It checks the limits wherever an object is made, from a command line as in a test.
Help texts, documentation, default configurations and error messages are made from `describe`; nothing repeats them.
"""

from __future__ import annotations

import dataclasses
import enum
import numbers
import types
import typing
from collections.abc import Callable
from dataclasses import MISSING, dataclass
from functools import cache
from typing import Any, TypeVar, dataclass_transform, get_type_hints

T = TypeVar("T")
_RULE = "setting"


@dataclass(frozen=True)
class Rule:
    """What a field is declared with: see `setting`."""

    help: str
    unit: str
    decides: bool
    at_least: float | None
    above: float | None
    at_most: float | None
    below: float | None
    nonempty: bool

    def text(self) -> str:
        """The limits as text: "at least 1", "0..1", "above 0 and at most 1"; empty without limits."""
        if self.at_least is not None and self.at_most is not None:
            return f"{self.at_least:g}..{self.at_most:g}"
        limits = (("at least", self.at_least), ("above", self.above), ("at most", self.at_most), ("below", self.below))
        return " and ".join(f"{word} {limit:g}" for word, limit in limits if limit is not None)

    def holds(self, value: Any) -> bool:
        """Whether a number is within the limits. NaN is within none."""
        return bool(
            (self.at_least is None or value >= self.at_least)
            and (self.above is None or value > self.above)
            and (self.at_most is None or value <= self.at_most)
            and (self.below is None or value < self.below)
        )


def setting(
    help: str,
    *,
    default: Any = MISSING,
    default_factory: Any = MISSING,
    unit: str = "",
    decides: bool = True,
    at_least: float | None = None,
    above: float | None = None,
    at_most: float | None = None,
    below: float | None = None,
    nonempty: bool = False,
    repr: bool = True,
) -> Any:
    """A field of a `checked` class. Without a default it must be given.

    Args:
        help: one line: what it is.
        unit: of a number, as in "s", "MiB", "pixels".
        decides: whether it changes what is made (bytes of a build, weights of a run). Who continues must repeat it.
        at_least, above, at_most, below: limits of a number, or of each number of a tuple.
        nonempty: a list must hold at least one.
        repr: False keeps a secret out of messages.
    """
    rule = Rule(help, unit, decides, at_least, above, at_most, below, nonempty)
    return dataclasses.field(default=default, default_factory=default_factory, repr=repr, metadata={_RULE: rule})


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(setting,))
def checked(cls: type[T]) -> type[T]:
    """A frozen dataclass of keywords, each of them a `setting`. Its own `__post_init__` checks what limits cannot.

    A name of an enum's member, as a configuration file has it, becomes the member, and a list a tuple.

    Raises:
        ValueError: when an object is made, a value is outside its limits. The message gives the limit and the value.
    """
    own: Callable[[Any], None] | None = getattr(cls, "__post_init__", None)

    def check(self: Any) -> None:
        for described in describe(type(self)):
            _check(self, described)
        if own is not None:
            own(self)

    cls.__post_init__ = check  # type: ignore[attr-defined]
    return dataclass(frozen=True, kw_only=True)(cls)


@dataclass(frozen=True)
class Setting:
    """One setting as documentation, help and messages need it.

    kind     the type of a value; of a list, that of the whole list
    nested   the `checked` class whose settings are below this name; None for a plain value
    default  MISSING: it must be given
    """

    name: str
    kind: Any
    optional: bool
    nested: type[Any] | None
    default: Any
    rule: Rule

    @property
    def choices(self) -> tuple[str, ...]:
        """The values of an enum; empty for other types."""
        return tuple(member.value for member in self.kind) if _is_enum(self.kind) else ()

    @property
    def allowed(self) -> str:
        """The allowed values as text; empty if all of its type."""
        text = "a list of at least one" if self.rule.nonempty else self.rule.text()
        if self.choices:
            text = f"one of {', '.join(self.choices)}"
        return f"null or {text}" if text and self.optional else text


def describe(cls: type[Any]) -> tuple[Setting, ...]:
    """The settings of a `checked` class in the order they are declared."""
    key: Any = cls  # mypy knows of no type that it can be hashed
    return _described(key)


@cache
def _described(cls: Any) -> tuple[Setting, ...]:
    hints = get_type_hints(cls)
    return tuple(_describe(field, hints[field.name]) for field in dataclasses.fields(cls))


def deciding(settings: Any) -> dict[str, Any]:
    """The settings that change what is made, as plain JSON values, those of nested classes below their names."""
    return {
        described.name: deciding(value) if described.nested is not None and value is not None else plain(value)
        for described in describe(type(settings))
        if described.rule.decides
        for value in (getattr(settings, described.name),)
    }


def default_values(cls: type[Any]) -> dict[str, Any]:
    """Every default as plain values for a configuration file; "???" where a value must be given."""
    return {
        s.name: plain(s.default)
        if s.default is not MISSING
        else default_values(s.nested)
        if s.nested is not None
        else "???"
        for s in describe(cls)
    }


def plain(value: Any) -> Any:
    """A setting's value as JSON has it: lists for tuples, names for members of an enum, text for paths."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, tuple | list):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return value if isinstance(value, bool | int | float | str | None) else str(value)


def _describe(field: dataclasses.Field[Any], hint: Any) -> Setting:
    kinds = typing.get_args(hint) if typing.get_origin(hint) in (types.UnionType, typing.Union) else (hint,)
    optional = type(None) in kinds
    rest = [kind for kind in kinds if kind is not type(None)]
    kind = rest[0] if len(rest) == 1 else typing.Union[tuple(rest)]  # noqa: UP007  made of a list
    default = field.default if field.default_factory is MISSING else field.default_factory()
    fields = dataclasses.fields(kind) if dataclasses.is_dataclass(kind) else ()
    nested: Any = kind if fields and _RULE in fields[0].metadata else None
    return Setting(field.name, kind, optional, nested, default, field.metadata[_RULE])


def _check(settings: Any, described: Setting) -> None:
    value = getattr(settings, described.name)
    if value is None and described.optional:
        return
    if typing.get_origin(described.kind) is tuple and not isinstance(value, tuple):
        if not isinstance(value, list):
            raise ValueError(f"{described.name} must be a list, got {value!r}: {described.rule.help}")
        value = tuple(value)
        object.__setattr__(settings, described.name, value)
    if described.rule.nonempty and not value:
        raise ValueError(f"{described.name} must be {described.allowed}, got {list(value)}: {described.rule.help}")
    if described.choices and not isinstance(value, described.kind):
        if value not in described.choices:
            raise ValueError(f"{described.name} must be {described.allowed}, got {value!r}: {described.rule.help}")
        object.__setattr__(settings, described.name, described.kind(value))
    if described.rule.text():
        number_type = numbers.Integral if described.kind is int else numbers.Real
        for number in value if isinstance(value, tuple) else (value,):
            if not isinstance(number, number_type) or not described.rule.holds(number):
                unit = f" {described.rule.unit}" if described.rule.unit else ""
                raise ValueError(
                    f"{described.name} must be {described.allowed}{unit}, got {number!r}: {described.rule.help}"
                )


def _is_enum(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, enum.Enum)
