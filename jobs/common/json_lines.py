"""Files with one JSON object a line, written one after the other while a command works."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Generic, TypeVar

from pipeline.errors import BuildError
from pipeline.format.json.strict_json import parse, parse_any
from pipeline.format.json.typed_json import from_json
from pipeline.format.text.printable import printable
from pipeline.storage.atomic import write_atomic

LONGEST = 2**26
"""Bytes of a line; what follows is taken for another one, which is none."""

RecordT = TypeVar("RecordT")


def read_rows(path: Path, last_bytes: int | None = None) -> Iterator[tuple[bool, dict[str, Any] | None]]:
    """Of each line that is not blank: whether it ends with a newline, and its object or None; `last_bytes`: read only
    so many at the end of the file, where the first line may be cut."""
    if not path.exists():
        return
    with open(path, "rb") as file:
        if last_bytes is not None:
            file.seek(max(0, path.stat().st_size - last_bytes))
        for line in iter(lambda: file.readline(LONGEST), b""):
            if not line.strip():
                continue
            try:
                row = parse_any(line.decode(errors="replace"))
            except ValueError:
                row = None
            yield line.endswith(b"\n"), row if isinstance(row, dict) else None


def append_rows(path: Path, rows: Iterable[Mapping[str, Any]], sync: bool = False) -> None:
    """Append a line for each row; `sync`: they are on disk when this returns. Raises ValueError if a number is not
    finite."""
    with open(path, "ab") as file:
        file.write(_encoded(rows))
        if sync:
            file.flush()
            os.fsync(file.fileno())


def keep_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write a file of these rows alone in place of what is there, whole or not at all."""
    write_atomic(path, _encoded(rows))


def recover_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a side file that a run continues, which must never keep it from going on.

    Lines that are no rows with an integer `step`, or hold a number that is not finite, are left out. What else than an
    unfinished last line is lost that way stays in a copy, FILE.damaged, and is named on standard error.
    """
    kept, lost = [], 0
    try:
        for whole, row in read_rows(path):
            if row is not None and type(row.get("step")) is int and _is_finite(row):
                kept.append(row)
            else:
                lost += whole
        problem = f"{lost} lines of {path} cannot be read" if lost else ""
    except OSError as error:
        problem = f"{path} cannot be read ({error})"
    if problem:
        aside = path.with_name(f"{path.name}.damaged")
        with contextlib.suppress(OSError):
            os.replace(path, aside)
        sys.stderr.write(f"vlajepa: WARNING: {problem}; left out, and the file as it was is {aside}\n")
    return kept


def _is_finite(row: Mapping[str, Any]) -> bool:
    try:
        return bool(json.dumps(row, allow_nan=False))
    except ValueError:
        return False


def _encoded(rows: Iterable[Mapping[str, Any]]) -> bytes:
    return "".join(json.dumps(row, allow_nan=False) + "\n" for row in rows).encode()


class JsonLines(Generic[RecordT]):
    """Records of a dataclass that a command continues with after an interruption, each on disk before the next begins;
    messages call one `name`. `check` is called before each is written, and raises to prevent it."""

    def __init__(self, path: Path, kind: type[RecordT], name: str, check: Callable[[], None] = lambda: None) -> None:
        self.path, self._kind, self._name, self._check = path, kind, name, check

    def read(self) -> list[RecordT]:
        """All records. A last line that a killed process left unfinished is cut off. Raises BuildError if another line
        is damaged."""
        if not self.path.exists():
            return []
        data = self.path.read_bytes()
        whole = data[: data.rfind(b"\n") + 1]
        if len(whole) < len(data):
            os.truncate(self.path, len(whole))
        found = []
        for number, line in enumerate(whole.splitlines(), 1):
            try:
                found.append(from_json(self._kind, parse(line)))
            except ValueError as error:
                message = f"{self.path}, line {number} is no {self._name} ({printable(error)}); delete the line"
                raise BuildError(message) from error
        return found

    def add(self, record: RecordT) -> None:
        """Append one line and sync it."""
        self._check()
        content: Any = record
        append_rows(self.path, [asdict(content)], sync=True)
