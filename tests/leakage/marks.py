"""Which broken builds are tried by every run of the tests, and which by `make slow` alone."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator
from typing import Any, Protocol

import pytest


class Named(Protocol):
    """A leak, and the rule that it breaks."""

    @property
    def name(self) -> str: ...
    @property
    def rule(self) -> str: ...


def one_a_rule(leaks: Iterable[Named], rules: Container[str] | None = None) -> Iterator[Any]:
    """A parameter each; those that are not the first of their rule, or not of one of `rules`, are slow."""
    seen: set[str] = set()
    for leak in leaks:
        marks = [pytest.mark.slow] if leak.rule in seen or not (rules is None or leak.rule in rules) else []
        kind = getattr(leak, "kind", None)
        yield pytest.param(leak, marks=marks, id="-".join(filter(None, (leak.name, kind, leak.rule))))
        seen.add(leak.rule)
