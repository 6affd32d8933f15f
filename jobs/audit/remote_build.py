"""A build at a URL as the audit reads it: the small files in a folder here, the shards fetched one by one.

Nothing is rejected on the way in: a file that is not what build.json lists is for the audit to find. But the network
may have damaged it, so a file with another SHA-256 is fetched twice, and the second copy counts.

Two shards are on disk at a time: the one being checked, and the next one, fetched in the background.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path

from pipeline.audit.build import open_build
from pipeline.audit.entries import ShardEntry
from pipeline.audit.files import remove_inside, replace_whole
from pipeline.errors import BuildError, RunError
from pipeline.format.file_names import CROISSANT, HISTORY, META_FILES, REPORT, SIGNED_VERDICT, VERDICT
from pipeline.format.json.strict_json import parse
from pipeline.storage.atomic import hash_file
from pipeline.storage.object_store import ObjectStore, open_object_store

_SMALL = ("build.json", *META_FILES, CROISSANT, VERDICT, SIGNED_VERDICT, REPORT)
_AUDIT = "audit"
_Paths = tuple[str, ...]
"""The files of a shard; they identify it."""


class RemoteBuild:
    """See `pipeline.audit.fetcher.ShardFetcher`. Made by `remote_build`.

    Attributes:
        url: of the build;  store: it as it is read.
        root: the folder with its small files; `audit/` in it is for the audit to write.
    """

    def __init__(self, store: ObjectStore, root: Path, sizes: Mapping[str, int]) -> None:
        self.url, self.root, self.store = store.where, root, store
        self._sizes = sizes
        self._audit_before = _contents(root / _AUDIT)
        self._pool = ThreadPoolExecutor(1)
        self._ahead: dict[_Paths, Future[None]] = {}
        self._next: dict[_Paths, ShardEntry] = {}

    def expect(self, shards: Sequence[ShardEntry]) -> None:
        """Set the order in which shards will be read, so that each can be fetched ahead."""
        self._next = {_paths(shard): following for shard, following in itertools.pairwise(shards)}

    @contextlib.contextmanager
    def present(self, shard: ShardEntry) -> Iterator[None]:
        """See `ShardFetcher.present`."""
        waiting = self._ahead.pop(_paths(shard), None)
        try:
            (waiting or self._pool.submit(self._fetch, shard)).result()
            self._fetch_ahead(shard)
            yield
        finally:
            for entry in shard.files:
                (self.root / entry.path).unlink(missing_ok=True)

    def part(self, file: str, offset: int, size: int) -> bytes:
        """See `ShardFetcher.part`."""
        try:
            return self.store.read_part(file, offset, offset + size)
        except FileNotFoundError:
            return b""

    def sizes(self) -> Mapping[str, int]:
        """See `ShardFetcher.sizes`: as they were when the audit began."""
        return self._sizes

    def digest(self, file: str) -> tuple[int, str] | None:
        """Size and SHA-256 of a file there, read in one pass; None if it is missing."""
        try:
            return self.store.digest(file)
        except FileNotFoundError:
            return None

    def look_again(self) -> None:
        """Fetch the verdict and its signature as they are now: in the hours of an audit another may have ended."""
        for name in (SIGNED_VERDICT, VERDICT):
            try:
                replace_whole(self.root, name, self.store.read(name))
            except FileNotFoundError:
                remove_inside(self.root, name)
        self._audit_before = _contents(self.root / _AUDIT)

    def publish(self) -> None:
        """Upload what the audit wrote since the last time.

        A clean verdict is written last, after the one before, its signature and its page are removed: whatever happens
        on the way, no build passes for one that was found clean. A leak is written first, over what stands there,
        which takes no permission to remove; all else is tried then, though one step fails.

        Raises:
            BuildError: of the first step that failed.
        """
        before, after = self._audit_before, _contents(self.root / _AUDIT)
        changed = sorted(name for name, content in after.items() if before.get(name) != content)
        leak = VERDICT in changed and parse(after[VERDICT])["status"] != "clean"
        gone = [n for n in (REPORT, SIGNED_VERDICT, VERDICT) if n in before and (n in changed or n not in after)]
        changed.sort(key=lambda name: (name == VERDICT) != leak)
        removals = [partial(self.store.remove, name) for name in gone if not (leak and name == VERDICT)]
        writes = [partial(self.store.write, name, after[name]) for name in changed]
        problems = []
        for step in (*writes[:leak], *removals, *writes[leak:]):
            try:
                step()
            except BuildError as error:
                problems.append(error)
                if not leak:
                    break
        if problems:
            raise problems[0]
        self._audit_before = after

    def close(self) -> None:
        """Fetch no more."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _fetch_ahead(self, shard: ShardEntry) -> None:
        following = self._next.get(_paths(shard))
        # A build.json that lists a file in two shards would have the one's end take it from the other.
        if following is None or set(_paths(shard)) & set(_paths(following)) or _paths(following) in self._ahead:
            return
        self._ahead[_paths(following)] = self._pool.submit(self._fetch, following)

    def _fetch(self, shard: ShardEntry) -> None:
        for entry in shard.files:
            path = self.root / entry.path
            path.parent.mkdir(exist_ok=True)
            temporary = path.with_name(f"{path.name}.part")
            with contextlib.suppress(FileNotFoundError):  # the audit will report it
                self.store.download(entry.path, temporary)
                if hash_file(temporary) != entry.sha256:
                    self.store.download(entry.path, temporary)
                os.replace(temporary, path)


@contextlib.contextmanager
def remote_build(url: str, store: ObjectStore | None = None, without: Collection[str] = ()) -> Iterator[RemoteBuild]:
    """Copy the small files of a build into a scratch folder (TMPDIR), which goes when the context closes.

    Args:
        store: that of the URL, if another than its settings in the environment give.
        without: small files that are not needed.

    Raises:
        RunError: there is no build at the URL. Messages of errors name the URL, not the scratch folder.
        BuildError: it cannot be reached.
    """
    store = store or open_object_store(url)
    sizes = store.sizes()
    if "build.json" not in sizes:
        raise RunError(f"{store.where} holds no build.json: no build, or an unfinished one; run vlajepa preprocess")
    with tempfile.TemporaryDirectory(prefix="vlajepa-audit-") as folder, _naming(Path(folder), store.where):
        root = Path(folder)
        for name in (*_SMALL, *(name for name in sizes if re.fullmatch(rf"{HISTORY}/[\w.-]+", name))):
            if name in sizes and name not in without:
                (root / name).parent.mkdir(parents=True, exist_ok=True)
                store.download(name, root / name)
        build = RemoteBuild(store, root, sizes)
        listed = open_build(root)
        for entry in listed.files:
            if entry.path in sizes and entry.path not in without and hash_file(root / entry.path) != entry.sha256:
                store.download(entry.path, root / entry.path)
        with contextlib.closing(build):
            build.expect(listed.shards)
            yield build


@contextlib.contextmanager
def _naming(root: Path, url: str) -> Iterator[None]:
    try:
        yield
    except RunError as error:
        if str(root) not in str(error):
            raise
        raise type(error)(str(error).replace(str(root), url)) from error


def _paths(shard: ShardEntry) -> _Paths:
    return tuple(entry.path for entry in shard.files)


def _contents(folder: Path) -> dict[str, bytes]:
    """Files below a folder beside the build's, by their names in the build."""
    paths = [path for path in folder.rglob("*") if path.is_file()] if folder.exists() else []
    return {path.relative_to(folder.parent).as_posix(): path.read_bytes() for path in paths}
