from __future__ import annotations

from pipeline.format.text.differences import differences, first_difference


def test_the_first_difference_is_named() -> None:
    assert first_difference({"a": {"b": [1, 2]}}, {"a": {"b": [1, 2]}}) == ""
    assert first_difference({"a": {"b": [1, 2]}}, {"a": {"b": [1, 3]}}) == "a.b[1] was 2, now 3"
    assert first_difference({"a": 1}, {"b": 1}) == "a was 1, now None"
    assert first_difference({"a": None}, {}) == ""


def test_every_difference_is_listed() -> None:
    stored, asked = {"a": {"x": 1, "y": (1, 2)}, "c": None}, {"a": {"x": 2, "y": [1, 2]}, "d": [1]}
    found = [str(difference) for difference in differences(stored, asked)]
    assert found == ["a.x: 1 -> 2", "c: None -> '(absent)'", "d: '(absent)' -> [1]"]
