"""Closed types: what fits, and the place that a message names."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, NotRequired, TypedDict

import pytest

from pipeline.audit.canonical.shape import misfit


class Circle(TypedDict):
    type: Literal["circle"]
    radius: float


class Line(TypedDict):
    type: Literal["line"]
    ends: tuple[int, int]


class Drawing(TypedDict):
    name: Annotated[str, re.compile("[a-z]+")]
    shapes: list[Circle | Line]
    scale: int | float | None
    tags: NotRequired[dict[str, bool]]


DRAWING = {
    "name": "house",
    "shapes": [{"type": "circle", "radius": 1.0}, {"type": "line", "ends": [0, 1]}],
    "scale": None,
    "tags": {"old": True},
}


@pytest.mark.parametrize("change", [{}, {"scale": 1}, {"scale": 0.5}, {"shapes": []}, {"tags": {}}])
def test_what_fits(change: dict[str, Any]) -> None:
    assert misfit({**DRAWING, **change}, Drawing) == ""
    assert misfit({key: value for key, value in DRAWING.items() if key != "tags"}, Drawing) == ""


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hint": 1}, " holds 'hint', which no build has there"),
        ({"name": "House"}, ".name must be text like [a-z]+, found 'House'"),
        ({"name": "house\n"}, ".name must be text like"),
        ({"scale": True}, ".scale must be"),
        ({"scale": "1"}, ".scale must be"),
        ({"shapes": {}}, ".shapes must be list"),
        ({"shapes": [{"type": "circle", "radius": 1}]}, ".shapes[0].radius must be float, found 1"),
        ({"shapes": [{"type": "line", "ends": [1]}]}, ".shapes[0].ends must be a list of 2"),
        ({"shapes": [{"type": "line", "ends": [1, False]}]}, ".shapes[0].ends[1] must be int"),
        ({"shapes": [{"type": "line", "ends": [0, 1], "radius": 1.0}]}, ".shapes[0] holds 'radius'"),
        ({"shapes": [{"type": "cube"}]}, ".shapes[0]"),
        ({"tags": {"old": 1}}, ".tags.old must be bool"),
        ({"tags": None}, ".tags must be object"),
    ],
)
def test_what_does_not_fit(change: dict[str, Any], message: str) -> None:
    assert misfit({**DRAWING, **change}, Drawing).startswith(message)


def test_a_missing_key_is_named() -> None:
    assert misfit({}, Drawing) == " lacks 'name'; lacks 'scale'; lacks 'shapes'"
