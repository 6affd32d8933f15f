from __future__ import annotations

from typing import Any

import pytest

from pipeline.format.text.patterns import simple_patterns
from pipeline.sources.registry import make_source


@pytest.mark.parametrize("pattern", ["success", r"/success/\d+", "a|b", r"^(good|fair)$", "x" * 200])
def test_simple_patterns_are_compiled(pattern: str) -> None:
    assert simple_patterns({"path": pattern})["path"].pattern == pattern


@pytest.mark.parametrize(
    ("pattern", "fragment"),
    [
        ("(a+)+$", "may take for ever"),
        ("(a|aa){5}", "may take for ever"),
        ("a*b*c*d*", "may take for ever"),
        ("x" * 201, "at most 200 characters"),
        ("(", "is no regular expression"),
        (7, "must be text, got a int"),
    ],
)
def test_others_are_refused_before_a_build_is_planned_with_them(pattern: Any, fragment: str) -> None:
    """The audit refuses them too: what it could not read must not be built."""
    with pytest.raises(ValueError, match=fragment):
        simple_patterns({"path": pattern})
    with pytest.raises(Exception, match=fragment if isinstance(pattern, str) else "wanted"):
        make_source("rlds", root=".", name="x", fps=5, cameras=("a",), wanted={"path": pattern})
