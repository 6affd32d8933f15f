"""The end of a command that cannot run: one message, and exit code 2."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Iterable
from typing import NoReturn

from pipeline.format.text.printable import printable


def nearest(name: str, known: Iterable[str]) -> str:
    """ "; did you mean …?" if something known is like it."""
    found = difflib.get_close_matches(name, list(known), 1)
    return f"; did you mean {found[0]}?" if found else ""


def refuse(message: object, code: int = 2) -> NoReturn:
    """Print a message and end."""
    sys.stderr.write("vlajepa: " + printable(message, keep="\n\t") + "\n")
    raise SystemExit(code)
