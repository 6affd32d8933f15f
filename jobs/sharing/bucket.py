"""Pushing to a bucket: what `pipeline.storage` has for builds, file by file; an object is there whole or not at all."""

from __future__ import annotations

from collections.abc import Iterator

from jobs.common.progress import progress_bar
from jobs.sharing.contents import Contents, Pushed, SentFile
from jobs.sharing.hashed_file import HashedFile
from jobs.sharing.refusals import require_own
from pipeline.storage.object_store import ObjectStore, open_object_store

_PIECE = 2**22
"""Bytes read at a time."""


def push_to_bucket(contents: Contents, url: str) -> Pushed:
    """Send what is not there already. Of a file that seems to be there, the MD5 that the store reports is compared.

    Raises:
        SettingsError: the URL has credentials in it.
        BuildError: the bucket cannot be reached or written, or holds something else.
        CorruptError: a file is not what was listed.
    """
    store = open_object_store(url)
    sizes = store.sizes()
    there = {name for name in sizes if not name.endswith("/")}
    identity = contents.identity
    same = identity.name not in there or _holds(store, identity, sizes)
    require_own(contents, there, same, store.where)
    sent, kept = [], []
    total = sum(file.size for file in contents.files)
    with progress_bar(total=total, unit="B", unit_scale=True, unit_divisor=1024, desc=f"push {store.where}") as bar:
        for file in contents.files:
            if file.name == identity.name:
                for name in contents.outdated(there):
                    store.remove(name)
            if _holds(store, file, sizes):
                kept.append(file.name)
            else:
                _send(store, file)
                sent.append(file.name)
            bar.update(file.size)
    return Pushed(store.where, tuple(sent), tuple(kept))


def _holds(store: ObjectStore, file: SentFile, sizes: dict[str, int]) -> bool:
    return sizes.get(file.name) == file.size and store.holds(file.name, _pieces(file))


def _send(store: ObjectStore, file: SentFile) -> None:
    with store.streaming(file.name) as target:
        for piece in _pieces(file):
            target.write(piece)


def _pieces(file: SentFile) -> Iterator[bytes]:
    """Raises CorruptError before the last piece where the file is not what was listed."""
    with HashedFile(file) as source:
        while piece := source.read(_PIECE):
            yield piece
        if not file.size:
            source.read()
