"""Files: nothing in the build that build.json does not list (L10), and every listed shard has its hash (L7)."""

from __future__ import annotations

import os
import stat
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from pipeline.audit.build import Build, file_sha256, is_regular, read_regular
from pipeline.audit.finding import Report
from pipeline.audit.rules_chain import check_file
from pipeline.audit.shard import Shard, ShardRule
from pipeline.croissant import CROISSANT, croissant_bytes

FREE_FOLDERS = ("audit", "logs")
"""Not part of a build's identity: their contents are not looked at, nothing else reads them."""


def check_inventory(build: Build, report: Report) -> None:
    """Every file and folder on disk must be listed; links and special files are never allowed."""
    listed = {entry.path for entry in build.listed()} | {"build.json"}
    folders = {os.path.dirname(path) for path in listed} | set(FREE_FOLDERS)
    pending = [""]
    while pending:
        for entry in sorted(os.scandir(build.root / pending.pop()), key=lambda e: e.name):
            path = os.path.relpath(entry.path, build.root)
            kind = entry.stat(follow_symlinks=False).st_mode
            if stat.S_ISDIR(kind) and path in folders:
                pending += [] if path in FREE_FOLDERS else [path]
                continue
            report.check("L10")
            if stat.S_ISLNK(kind):
                report.found("L10", path, f"is a symbolic link to {os.readlink(entry.path)}")
            elif not stat.S_ISREG(kind):
                what = "folder" if stat.S_ISDIR(kind) else "special file"
                report.found("L10", path, f"is a {what} that does not belong to a build")
            elif path == CROISSANT:
                _check_description(build, report)
            elif path not in listed:
                report.found("L10", path, "is not listed in build.json")


def _check_description(build: Build, report: Report) -> None:
    """croissant.json is not listed in build.json, from which it is made; made again it must be the same."""
    try:
        expected = croissant_bytes(read_regular(build.root / "build.json"))
    except (KeyError, TypeError, ValueError) as error:
        report.found("L10", CROISSANT, f"cannot be made again from build.json: {error!r}")
        return
    if read_regular(build.root / CROISSANT) != expected:
        report.found("L10", CROISSANT, "is not what build.json gives; delete it and run vlajepa preprocess again")


class Hashes(ShardRule):
    """Size and SHA-256 of both files of a shard. Threads hash ahead while other rules look at a shard's content."""

    def __init__(self, build: Build) -> None:
        super().__init__(build)
        self._pool = ThreadPoolExecutor(2)
        self._ahead = iter(entry for shard in build.shards for entry in (shard.inputs, shard.targets))
        self._running: dict[Path, Future[str]] = {}

    def check(self, shard: Shard, report: Report) -> None:
        for entry in (shard.entry.inputs, shard.entry.targets):
            self._start(4)
            check_file(self.build, entry, report, self._hash)

    def finish(self, report: Report) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _start(self, count: int) -> None:
        """Keep `count` files hashing or hashed ahead of their use; one that is no regular file is reported later."""
        while len(self._running) < count and (entry := next(self._ahead, None)) is not None:
            path = self.build.root / entry.path
            if is_regular(path):
                self._running[path] = self._pool.submit(file_sha256, path)

    def _hash(self, path: Path) -> str:
        future = self._running.pop(path, None)
        return file_sha256(path) if future is None else future.result()
