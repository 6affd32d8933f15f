"""Records that a run adds one after the other to a file, each on disk before the next begins."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any, Generic, TypeVar

from pipeline.errors import BuildError

RecordT = TypeVar("RecordT")


class JsonLines(Generic[RecordT]):
    """One JSON object a line, each a record.

    Args:
        path: of the file, which the first record makes.
        kind: the dataclass of the records.
        name: what messages call one.
    """

    def __init__(self, path: Path, kind: type[RecordT], name: str) -> None:
        self.path, self._kind, self._name = path, kind, name

    def read(self) -> list[RecordT]:
        """All records. A last line that a killed process left unfinished is cut off.

        Raises:
            BuildError: another line is no record.
        """
        if not self.path.exists():
            return []
        data = self.path.read_bytes()
        whole = data[: data.rfind(b"\n") + 1]
        if len(whole) < len(data):
            os.truncate(self.path, len(whole))
        found = []
        for number, line in enumerate(whole.splitlines(), 1):
            try:
                found.append(self._kind(**json.loads(line)))
            except (ValueError, TypeError) as error:
                said = f"{self.path}, line {number} is no {self._name} ({error}); delete the line"
                raise BuildError(said) from error
        return found

    def add(self, record: RecordT) -> None:
        """Append one line and sync it."""
        content: Any = record
        with open(self.path, "ab") as file:
            file.write(json.dumps(asdict(content)).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
