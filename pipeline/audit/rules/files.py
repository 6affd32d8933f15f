"""Files: nothing in the build that build.json does not list (L10), and every listed shard has its hash (L7)."""

from __future__ import annotations

import os
import stat
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from pipeline.audit.build import ClaimedBuild
from pipeline.audit.entries import FileEntry
from pipeline.audit.files import BUILD, file_sha256, is_regular, read_regular
from pipeline.audit.finding import Report
from pipeline.audit.parsers.shard import Shard, ShardRule
from pipeline.audit.rederive.croissant import derive_croissant
from pipeline.audit.rules.identity import check_file
from pipeline.format.file_names import CROISSANT
from pipeline.format.text.printable import reason

FILE, FOLDER = "file", "is a folder that does not belong to a build"
FREE_FOLDERS = ("audit", "logs")
"""Not part of a build's identity: their contents are not checked, and nothing else reads them."""


def check_inventory(build: ClaimedBuild, report: Report) -> None:
    """Every file and folder on disk must be listed; links and special files are never allowed."""
    listed = {entry.path for entry in build.listed()} | {BUILD}
    folders = {os.path.dirname(path) for path in listed} | set(FREE_FOLDERS)
    names = _names_on_disk if build.fetcher is None else _names_in_bucket(build.fetcher.sizes())
    pending = [""]
    while pending:
        for path, kind in names(build.root, pending.pop()):
            if kind == FOLDER and path in folders:
                pending += [] if path in FREE_FOLDERS else [path]
                continue
            report.check("L10")
            if kind != FILE:
                report.found("L10", path, kind)
            elif path == CROISSANT:
                _check_description(build, report)
            elif path not in listed:
                report.found("L10", path, "is not listed in build.json")


def _names_on_disk(root: Path, folder: str) -> Iterator[tuple[str, str]]:
    """Paths in a folder in order of their names; each FILE, FOLDER, or what else is wrong with it."""
    for entry in sorted(os.scandir(root / folder), key=lambda e: e.name):
        path = os.path.relpath(entry.path, root)
        mode = entry.stat(follow_symlinks=False).st_mode
        if stat.S_ISLNK(mode):
            yield path, f"is a symbolic link to {os.readlink(entry.path)}"
        elif stat.S_ISDIR(mode):
            yield path, FOLDER
        else:
            yield path, FILE if stat.S_ISREG(mode) else "is a special file that does not belong to a build"


def _names_in_bucket(sizes: Mapping[str, int]) -> Callable[[Path, str], list[tuple[str, str]]]:
    """The same for an object store, which has no folders: a slash in a name implies one.

    A name that ends in a slash and holds nothing is the mark of a folder; one that holds something is a file.
    """
    inside: dict[str, set[tuple[str, str]]] = defaultdict(set)
    for name, size in sizes.items():
        path, kind = (name.rstrip("/"), FOLDER) if name.endswith("/") and not size else (name, FILE)
        while path:
            folder = path.rpartition("/")[0]
            inside[folder].add((path, kind))
            path, kind = folder, FOLDER
    return lambda _root, folder: sorted(inside[folder])


def _check_description(build: ClaimedBuild, report: Report) -> None:
    """croissant.json is not listed in build.json, from which it is made; made again it must be the same."""
    try:
        expected = derive_croissant(build)
    except (KeyError, TypeError, ValueError) as error:
        report.found("L10", CROISSANT, f"cannot be made again from build.json: {reason(error)}")
        return
    if read_regular(build.root / CROISSANT) != expected:
        report.found("L10", CROISSANT, "is not what build.json gives; delete it and run vlajepa preprocess again")


class Hashes(ShardRule[None]):
    """Size and SHA-256 of the files of a shard.

    Args:
        ahead: all shards are checked here, in order: two threads hash those to come meanwhile.
    """

    def __init__(self, build: ClaimedBuild, ahead: bool = False) -> None:
        super().__init__(build)
        self._pool = ThreadPoolExecutor(2) if ahead else None
        self._ahead = (entry for shard in build.shards for entry in shard.files)
        self._running: dict[Path, Future[str]] = {}
        self._submitted: set[Path] = set()

    def check(self, shard: Shard, report: Report) -> None:
        for entry in shard.entry.files:
            self._submit(entry)  # a fetched shard was not there to be hashed ahead
        for entry in shard.entry.files:
            self._start(4)
            check_file(self.build, entry, report, self._hash)

    def close(self) -> None:
        """Hash no more."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)

    def _start(self, count: int) -> None:
        """Keep `count` files hashing or hashed ahead of their use; one that is no regular file is reported later."""
        while self._pool is not None and len(self._running) < count and (entry := next(self._ahead, None)) is not None:
            self._submit(entry)

    def _submit(self, entry: FileEntry) -> None:
        path = self.build.root / entry.path
        if self._pool is not None and path not in self._submitted and _may_be_hashed(path, entry):
            self._submitted.add(path)
            self._running[path] = self._pool.submit(file_sha256, path)

    def _hash(self, path: Path) -> str:
        future = self._running.pop(path, None)
        return file_sha256(path) if future is None else future.result()


def _may_be_hashed(path: Path, entry: FileEntry) -> bool:
    return is_regular(path) and path.stat().st_size <= entry.bytes
