"""Reading of metadata files, shared by the sources. An unreadable file stops the run and names the fix."""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Iterable
from typing import Any

from pipeline.errors import EpisodeError, RunError
from pipeline.format.json.strict_json import parse_any
from pipeline.sources.base import EpisodeRef, LedgerEntry
from pipeline.storage.raw.places import raw_path

LFS_START = b"version https://git-lfs"

LONGEST = 10**6
"""Frames that metadata may give an episode, 9 hours at 30 Hz: windows are counted from it."""


def read_json(path: str, fix: str, lenient: bool = False) -> Any:
    """Parse a JSON file.

    Args:
        fix: the end of the message.
        lenient: bytes that are not UTF-8 become lone surrogates, which `has_text` refuses in each entry.

    A byte order mark at the beginning is skipped.

    Raises:
        RunError: the file is missing or not JSON.
    """
    try:
        with open_text(path, lenient) as file:
            return json.load(file)
    except OSError as error:
        raise RunError(f"{path}: {error.strerror}. {fix}") from error
    except (ValueError, RecursionError) as error:
        raise RunError(lfs_pointer(path) or f"{path} is not valid JSON ({error}). {fix}") from error


def read_json_lines(path: str, fix: str) -> list[Any]:
    """Parse a file with one JSON value per line. Blank lines are skipped.

    A line that is not JSON, or holds bytes that are not UTF-8, becomes None.

    Raises:
        RunError: the file is missing; `fix` is the end of the message.
    """
    try:
        with open_text(path) as file:
            return [_parse(line) for line in file if line.strip()]
    except OSError as error:
        raise RunError(f"{path}: {error.strerror}. {fix}") from error


def open_text(path: str, lenient: bool = True) -> io.TextIOWrapper:
    """A text file of raw data, without a byte order mark at its beginning; see `read_json` for `lenient`.

    Line ends stay as they are, for `csv`. Raises OSError.
    """
    errors = "surrogateescape" if lenient else "strict"
    return io.TextIOWrapper(raw_path(path).open("rb"), encoding="utf-8-sig", errors=errors, newline="")


def _parse(line: str) -> Any:
    try:
        line.encode()  # fails on bytes that were not UTF-8
        return parse_any(line)
    except ValueError:
        return None


def has_text(value: object) -> bool:
    """Whether a value can be an instruction (rule L9): text that is not blank and is valid Unicode."""
    return (
        isinstance(value, str) and bool(value.strip()) and not any("\ud800" <= letter <= "\udfff" for letter in value)
    )


def sort_found(found: Iterable[EpisodeRef | LedgerEntry]) -> tuple[tuple[EpisodeRef, ...], tuple[LedgerEntry, ...]]:
    """Episodes in the order of an index, and entries in the order of the ledger; what is too long becomes such one."""
    listed = list(map(_bounded, found))
    refs = sorted((ref for ref in listed if isinstance(ref, EpisodeRef)), key=lambda ref: (ref.split, ref.id))
    left_out = (entry for entry in listed if isinstance(entry, LedgerEntry))
    return tuple(refs), tuple(sorted(left_out, key=lambda entry: (entry.split, entry.episode, entry.detail)))


def _bounded(entry: EpisodeRef | LedgerEntry) -> EpisodeRef | LedgerEntry:
    if isinstance(entry, LedgerEntry) or entry.num_frames is None or 0 <= entry.num_frames <= LONGEST:
        return entry
    detail = f"its metadata gives it {entry.num_frames} frames, read are episodes of at most {LONGEST:,}: cut it"
    return LedgerEntry(entry.id, entry.split, "index", "bad-entry", detail)


def own_text(ref: EpisodeRef) -> str:
    """The text that the index found for an episode. Raises EpisodeError("no-instruction"), as for a test clip."""
    text = ref.data.get("instruction")
    if not isinstance(text, str):
        raise EpisodeError("no-instruction", f"{ref.id} of split {ref.split} has no label")
    return text


def count_splits(refs: Iterable[EpisodeRef]) -> dict[str, int]:
    """Episodes of each split, by name."""
    return dict(sorted(Counter(ref.split for ref in refs).items()))


def one_line(error: object) -> str:
    """A library's message in at most 300 characters, without line breaks."""
    return " ".join(str(error).split())[:300]


def undecodable(where: str, error: object) -> EpisodeError:
    """The error for content that a library cannot read. `where` begins with the path of the file."""
    detail = f"{where}: {one_line(error) or 'no message'}"
    return EpisodeError("undecodable", lfs_pointer(where.partition(", ")[0]) or detail)


def lfs_pointer(path: str) -> str:
    """What to do about a file that only points to its content in Git LFS; "" for any other file."""
    try:
        with raw_path(path).open("rb") as file:
            start = file.read(len(LFS_START))
    except OSError:
        return ""
    if start != LFS_START:
        return ""
    return f"{path} is a Git LFS pointer and not the file itself: run git lfs pull in the dataset's folder"
