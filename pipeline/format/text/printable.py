"""Text of an unknown origin for people: what a terminal or a reader could mistake is escaped."""

from __future__ import annotations

_LONGEST_REASON, _LONGEST_VALUE = 500, 200
"""Characters."""


def printable(text: object, keep: str = "") -> str:
    r"""Text in which every character that is not plainly visible is escaped, as Python's `repr` does.

    Escapes of a terminal, line breaks, marks that turn the direction of writing, and invisible characters would let a
    name in a hostile build forge the lines around it.

    Args:
        keep: characters that stay, such as the line breaks of a message of our own.
    """
    plain = str(text)
    if plain.isprintable():
        return plain
    return "".join(c if c.isprintable() or c in keep else _escaped(c) for c in plain)


def reason(error: BaseException) -> str:
    """An exception of a library as a part of a message: its type and text, without what it was about to read."""
    return f"{type(error).__name__}: {printable(error)[:_LONGEST_REASON]}" if str(error) else type(error).__name__


def shown(value: object) -> str:
    """A value that a file holds, as a part of a message: as Python writes it, escaped and cut."""
    text = printable(repr(value))
    return text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]}…"


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode() if ord(character) > 0xFF else f"\\x{ord(character):02x}"
