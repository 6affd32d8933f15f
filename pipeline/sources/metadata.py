"""Reading of metadata files, shared by the sources. What cannot be read stops the run with the file and the fix."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from pipeline.errors import EpisodeError, RunError
from pipeline.sources.base import EpisodeRef, LedgerEntry


def read_json(path: str, fix: str, lenient: bool = False) -> Any:
    """Parse a JSON file.

    Args:
        fix: the end of the message.
        lenient: bytes that are no UTF-8 become lone surrogates, which `has_text` refuses entry by entry.

    Raises:
        RunError: the file is missing or no JSON.
    """
    try:
        with open(path, encoding="utf-8", errors="surrogateescape" if lenient else "strict") as file:
            return json.load(file)
    except OSError as error:
        raise RunError(f"{path}: {error.strerror}. {fix}") from error
    except ValueError as error:
        raise RunError(f"{path} is not valid JSON ({error}). {fix}") from error


def read_json_lines(path: str, fix: str) -> list[Any]:
    """Parse a file with one JSON value a line; blank lines are skipped, a line that is no JSON becomes None.

    So does a line with bytes that are no UTF-8.

    Raises:
        RunError: the file is missing; `fix` is the end of the message.
    """
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return [_parse(line) for line in file if line.strip()]
    except OSError as error:
        raise RunError(f"{path}: {error.strerror}. {fix}") from error


def _parse(line: str) -> Any:
    try:
        line.encode()  # fails on what was no UTF-8
        return json.loads(line)
    except ValueError:
        return None


def has_text(value: object) -> bool:
    """Whether a value can serve as an instruction (rule L9): text, not blank, and all of it valid Unicode."""
    return (
        isinstance(value, str) and bool(value.strip()) and not any("\ud800" <= letter <= "\udfff" for letter in value)
    )


def sort_found(found: Iterable[EpisodeRef | LedgerEntry]) -> tuple[tuple[EpisodeRef, ...], tuple[LedgerEntry, ...]]:
    """The episodes in the order of an index, and what is left out in the order of the ledger."""
    listed = list(found)
    refs = sorted((ref for ref in listed if isinstance(ref, EpisodeRef)), key=lambda ref: (ref.split, ref.id))
    left_out = (entry for entry in listed if isinstance(entry, LedgerEntry))
    return tuple(refs), tuple(sorted(left_out, key=lambda entry: (entry.split, entry.episode, entry.detail)))


def own_text(ref: EpisodeRef) -> str:
    """The text that the index found for a whole episode.

    Raises:
        EpisodeError: "no-instruction" when there is none, as for a test clip.
    """
    text = ref.data.get("instruction")
    if not isinstance(text, str):
        raise EpisodeError("no-instruction", f"{ref.id} of split {ref.split} has no label")
    return text
