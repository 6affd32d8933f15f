"""Reading of metadata files, shared by the sources. What cannot be read stops the run with the file and the fix."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from typing import Any

from pipeline.errors import RunError, SettingsError
from pipeline.sources.base import EpisodeRef, Fault, clean_name

SPLIT_NAMES = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
"""What datasets call their splits -> what they are called here."""


def require_clean_name(name: str) -> None:
    """Raise SettingsError unless a source's name can be part of keys and file names."""
    if not name or clean_name(name) != name:
        fix = clean_name(name) or "a name"
        raise SettingsError(f"name must consist of letters, digits, _ and -, got {name!r}; use {fix!r} instead")


def require_share(val_share: float) -> None:
    """Raise SettingsError unless it can be the share of the episodes that are held out."""
    if not 0 <= val_share < 1:
        raise SettingsError(f"val_share must be at least 0 and below 1, got {val_share}")


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


def folder_sizes(folder: str) -> dict[str, int]:
    """Size in bytes of every file of a folder, by name; empty when there is no such folder.

    One listing of the folder: a plan over 220,000 clips must not look each path up by itself.
    """
    try:
        with os.scandir(folder) as entries:
            return {entry.name: entry.stat().st_size for entry in entries if entry.is_file()}
    except (FileNotFoundError, NotADirectoryError):
        return {}


class FileSizes:
    """Sizes of the files below a root, from one listing of each folder."""

    def __init__(self, root: str) -> None:
        self.root = root
        self._folders: dict[str, dict[str, int]] = {}

    def size(self, path: str) -> int | None:
        """Size in bytes of ROOT/path; None when there is no such file."""
        folder, _, name = path.rpartition("/")
        if folder not in self._folders:
            self._folders[folder] = folder_sizes(os.path.join(self.root, folder))
        return self._folders[folder].get(name)


def has_text(value: object) -> bool:
    """Whether a value can serve as an instruction (rule L9): text, not blank, and all of it valid Unicode."""
    return (
        isinstance(value, str) and bool(value.strip()) and not any("\ud800" <= letter <= "\udfff" for letter in value)
    )


def sort_found(found: Iterable[EpisodeRef | Fault]) -> tuple[tuple[EpisodeRef, ...], tuple[Fault, ...]]:
    """The episodes in the order of an index, and what is left out in the order of the ledger."""
    listed = list(found)
    refs = sorted((ref for ref in listed if isinstance(ref, EpisodeRef)), key=lambda ref: (ref.split, ref.id))
    faults = (fault for fault in listed if isinstance(fault, Fault))
    return tuple(refs), tuple(sorted(faults, key=lambda fault: (fault.split, fault.episode, fault.detail)))
