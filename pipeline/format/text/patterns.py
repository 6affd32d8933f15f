"""Regular expressions of settings: simple ones, because a build's settings may come from a stranger."""

from __future__ import annotations

import re
from collections.abc import Mapping

LONGEST, REPEATABLE = 200, 3
_REPEATED_GROUP, _REPEATS = re.compile(r"\)[*+?{]"), re.compile(r"[*+{]")


def simple_patterns(patterns: Mapping[str, str]) -> dict[str, re.Pattern[str]]:
    """Compiled patterns by name. Groups that repeat, and many repeats, may take exponential time to match.

    Raises:
        ValueError: one is not text, no regular expression, or not simple; the message names it and the limits.
    """
    found = {}
    for name, pattern in patterns.items():
        if not isinstance(pattern, str):
            raise ValueError(f"the pattern of {name} must be text, got a {type(pattern).__name__}")
        repeats = len(_REPEATS.findall(pattern))
        if len(pattern) > LONGEST or repeats > REPEATABLE or _REPEATED_GROUP.search(pattern):
            limit = f"{LONGEST} characters, {REPEATABLE} repeats and no repeated group"
            raise ValueError(f"the pattern of {name} may take for ever to match; at most {limit} are allowed")
        try:
            found[name] = re.compile(pattern)
        except re.error as error:
            raise ValueError(f"the pattern of {name} is no regular expression: {error}") from error
    return found
