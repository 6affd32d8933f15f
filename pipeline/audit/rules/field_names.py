"""What the name of a field or camera says about when its value is known."""

from __future__ import annotations

import re

_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_LATER = re.compile(r"\b(next(?! to\b)|future|upcoming|final)\b")
_OUTCOME = re.compile(r"\b(rewards?|dones?|terminals?|terminated|truncated|success|discount|is( \w+)* last)\b")
_ACTION = re.compile(r"\bactions?\b")
_GIVEN_BEFORE = re.compile(r"\b(prev|previous|past)\b")


def claims_later(name: str, outcomes: bool = True) -> bool:
    """Whether a name says that the value is of a later frame, or (`outcomes`) what the episode came to."""
    words = _words(name)
    return bool(_LATER.search(words) or (outcomes and _OUTCOME.search(words)))


def claims_target(name: str) -> bool:
    """Whether a name says that the value is an action, and none that was given before."""
    words = _words(name)
    return bool(_ACTION.search(words)) and not _GIVEN_BEFORE.search(words)


def _words(name: str) -> str:
    """In lower case, with one blank between words: `next_obs/eePose` is "next obs ee pose"."""
    return " ".join(word.lower() for word in _WORD.findall(name))
