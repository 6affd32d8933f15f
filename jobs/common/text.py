"""Sizes, durations and tables for people: all commands and reports print them alike."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def size_text(count: float) -> str:
    """Bytes in decimal units, which rates have too: "999 bytes", "1.5 GB"."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 999.5:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:,.3g} TB"


def duration_text(seconds: float) -> str:
    """Seconds as "12.3 s", "3 min 05 s" or "2 h 07 min"; up to 100 s in seconds alone."""
    if seconds < 100:
        return f"{seconds:.3g} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:,} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s"


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """The first column to the left, the others to the right."""
    lines = ["| " + " | ".join(header) + " |", "|---|" + "---:|" * (len(header) - 1)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def two_columns(rows: Sequence[tuple[str, str]]) -> str:
    """Indented lines of a name and what it is, the second column aligned."""
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"  {name:{width}} {text}" for name, text in rows)
