"""Settings typed once: limits, enums, defaults and what decides, from the fields alone."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Any

import pytest

from pipeline.format.settings import checked, deciding, default_values, describe, setting


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


@checked
class Inner:
    size: int = setting("how large", default=3, unit="pixels", at_least=1, at_most=9)
    speed: float = setting("how fast", default=0.5, decides=False, above=0, below=1)


@checked
class Outer:
    out: Path = setting("a folder", decides=False)
    inner: Inner = setting("what is inside", default_factory=Inner)
    colour: Colour = setting("a colour", default=Colour.RED)
    limit: int | None = setting("how many; null: all", default=None, at_least=1)
    shares: tuple[float, ...] = setting("parts of one", default=(), at_least=0)
    names: tuple[str, ...] = setting("some names", default=("a",), nonempty=True)

    def __post_init__(self) -> None:
        if self.limit == 7:
            raise ValueError("limit must not be 7")


@pytest.mark.parametrize(
    ("kind", "values", "message"),
    [
        (Inner, {"size": 0}, "size must be 1..9 pixels, got 0: how large"),
        (Inner, {"speed": 0.0}, "speed must be above 0 and below 1, got 0.0: how fast"),
        (Inner, {"speed": float("nan")}, "speed must be above 0 and below 1, got nan"),
        (Outer, {"colour": "green"}, "colour must be one of red, blue, got 'green': a colour"),
        (Outer, {"limit": 0}, "limit must be null or at least 1, got 0"),
        (Outer, {"shares": (0.5, -1.0)}, "shares must be at least 0, got -1.0"),
        (Outer, {"limit": 7}, "limit must not be 7"),
        (Outer, {"limit": 1.5}, "limit must be null or at least 1, got 1.5"),
        (Outer, {"limit": "7"}, "limit must be null or at least 1, got '7'"),
        (Outer, {"names": []}, r"names must be a list of at least one, got \[\]: some names"),
        (Outer, {"names": "a"}, "names must be a list, got 'a': some names"),
    ],
)
def test_a_wrong_value_is_refused_with_limit_value_and_help(kind: Any, values: dict[str, Any], message: str) -> None:
    given = {"out": Path("a")} if kind is Outer else {}
    with pytest.raises(ValueError, match=f"^{message}"):
        kind(**given, **values)


def test_a_name_becomes_the_member_of_its_enum() -> None:
    assert Outer(out=Path("a"), colour="blue").colour is Colour.BLUE  # type: ignore[arg-type]


def test_a_list_becomes_a_tuple() -> None:
    assert Outer(out=Path("a"), names=["a", "b"]).names == ("a", "b")  # type: ignore[arg-type]


def test_objects_are_frozen_and_take_keywords_alone() -> None:
    with pytest.raises(AttributeError):
        Inner().size = 4  # type: ignore[misc]
    with pytest.raises(TypeError):
        Inner(4)  # type: ignore[misc]


def test_only_what_decides_is_recorded() -> None:
    found = deciding(Outer(out=Path("a"), inner=Inner(size=4), shares=(0.25,)))
    assert found == {"inner": {"size": 4}, "colour": "red", "limit": None, "shares": [0.25], "names": ["a"]}


def test_defaults_fill_a_configuration_file() -> None:
    assert default_values(Outer) == {
        "out": "???",
        "inner": {"size": 3, "speed": 0.5},
        "colour": "red",
        "limit": None,
        "shares": [],
        "names": ["a"],
    }


def test_a_setting_says_what_it_allows() -> None:
    described = {s.name: s for s in (*describe(Outer), *describe(Inner))}
    assert described["colour"].choices == ("red", "blue")
    assert described["limit"].allowed == "null or at least 1"
    assert described["size"].allowed == "1..9"
    assert described["out"].allowed == ""
    assert described["inner"].nested is Inner
