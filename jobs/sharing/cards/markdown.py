"""Text of unknown origin in a card: it stays text, whatever is written in it.

Such text stands in code spans and code blocks alone, in which Markdown knows no links, no HTML and no escapes; their
fences are longer than any run of backticks inside. Of line breaks and invisible characters nothing is left.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import yaml

from pipeline.format.text.printable import printable

_LONGEST = 4000
"""Characters of one text."""


def code(text: object) -> str:
    """A code span. An empty text is told as such."""
    plain = _plain(text)
    if not plain.strip():
        return "(empty)"
    fence = "`" * (_longest_run(plain) + 1)
    pad = " " if plain[0] in "` " or plain[-1] in "` " else ""
    return f"{fence}{pad}{plain}{pad}{fence}"


def code_block(text: str) -> str:
    """A block of its own, one line."""
    plain = _plain(text)
    fence = "`" * max(3, _longest_run(plain) + 1)
    return f"{fence}text\n{plain}\n{fence}"


def front_matter(values: Mapping[str, Any]) -> str:
    """The header of a card, in YAML: what is empty is left out, and a value is one line of ASCII."""
    kept = {name: value for name, value in values.items() if value not in (None, "", [])}
    text = yaml.safe_dump(kept, sort_keys=False, allow_unicode=False, width=10**6, default_flow_style=False)
    return f"---\n{text}---\n"


def _plain(text: object) -> str:
    plain = printable(text)
    return plain if len(plain) <= _LONGEST else f"{plain[:_LONGEST]}…"


def _longest_run(text: str) -> int:
    return max(map(len, re.findall("`+", text)), default=0)
