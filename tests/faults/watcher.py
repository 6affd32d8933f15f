"""Looks at a build folder all the time while it is made: nothing half-written may ever stand there as finished."""

from __future__ import annotations

import contextlib
import threading
from pathlib import Path
from types import TracebackType
from typing import Self

from jobs.preprocess.status import read_status
from pipeline.building.records import read_record
from pipeline.errors import BuildError
from pipeline.format.file_names import PLAN_FILE, WORK_FOLDER
from pipeline.storage.atomic import TEMPORARY_PREFIX, hash_file
from pipeline.storage.store import LocalStore


class Watcher:
    """Use as a context manager around the making of a build. What it found stands in `problems`.

    Args:
        expected: SHA-256 by file of the undisturbed build. If given, every file that stands under its final name must
            be that one at any time, listed or not; else a file and the record that lists it must fit, but for the
            moment between the two when a file is made again.
    """

    def __init__(self, out: Path, expected: dict[str, str] | None) -> None:
        self._out, self._expected = out, expected
        self._hashes: dict[tuple[str, int, int, int], str] = {}
        self._suspects: dict[tuple[str, str], int] = {}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.problems: set[str] = set()
        self.looks = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(0.05):
            self._look()
            self.looks += 1
        self._look()

    def _look(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            self._check_files()
            self._check_records()
        if (self._out / PLAN_FILE).exists():
            try:
                read_status(LocalStore(self._out))
            except FileNotFoundError:
                pass  # the work folder is being removed
            except BuildError as error:
                self.problems.add(f"status: {error}")

    def _check_files(self) -> None:
        for path in [*self._out.glob("train/*"), *self._out.glob("val/*")]:
            name = path.relative_to(self._out).as_posix()
            if self._expected is None or path.name.startswith(TEMPORARY_PREFIX):
                continue
            if self._hash(path) != self._expected.get(name):
                self.problems.add(f"{name} stood there with other bytes than those of the undisturbed build")

    def _check_records(self) -> None:
        for path in (self._out / WORK_FOLDER).glob("*.arrow"):
            if path.name.startswith(TEMPORARY_PREFIX):
                continue
            record = read_record(path).record
            file = self._out / record.file
            if file.exists() and (file.stat().st_size, self._hash(file)) == (record.bytes, record.sha256):
                self._suspects.pop((path.name, record.sha256), None)
                continue
            if not path.exists():
                continue
            looks = self._suspects[path.name, record.sha256] = self._suspects.get((path.name, record.sha256), 0) + 1
            if looks > (1 if self._expected else 40):
                self.problems.add(f"{path.name} lists {record.file}, which is not the file that stands there")

    def _hash(self, path: Path) -> str:
        found = path.stat()
        key = (str(path), found.st_ino, found.st_size, found.st_mtime_ns)
        if key not in self._hashes:
            self._hashes[key] = hash_file(path)
        return self._hashes[key]
