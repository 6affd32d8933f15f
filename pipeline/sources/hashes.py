"""Hashes of raw files, so that a file that changes between plan and read is told even if its size stays."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from pipeline.sources.base import EpisodeRef, Fault, SourceIndex

THREADS = 8
"""Files read at the same time; hashing runs without the interpreter's lock, and storage elsewhere likes several."""


def hash_files(
    root: str, index: SourceIndex, splits: Collection[str], progress: Callable[[int], None] | None = None
) -> SourceIndex:
    """The index with the SHA-256 of every file of the episodes of some splits; one of several episodes is read once.

    Args:
        root: the source's root.
        progress: called with the bytes of every file hashed.

    Returns:
        An index without the episodes of files that cannot be read: they are faults ("missing-file").
    """
    wanted = {path: size for ref in index.refs if ref.split in splits for path, size in ref.files}
    with ThreadPoolExecutor(THREADS) as pool:
        hashed: dict[str, str] = {}
        problems: dict[str, str] = {}
        for path, (digest, problem) in zip(wanted, pool.map(lambda p: _hash(root, p), wanted), strict=True):
            if problem:
                problems[path] = problem
            hashed[path] = digest
            if progress is not None:
                progress(wanted[path])
    refs: list[EpisodeRef] = []
    faults = list(index.faults)
    for ref in index.refs:
        bad = [problems[path] for path, _ in ref.files if path in problems]
        if bad:
            faults.append(Fault(ref.id, ref.split, "index", "missing-file", bad[0]))
        elif ref.split in splits:
            refs.append(replace(ref, sha256=tuple(hashed[path] for path, _ in ref.files)))
        else:
            refs.append(ref)
    return replace(index, refs=tuple(refs), faults=tuple(faults))


def _hash(root: str, path: str) -> tuple[str, str]:
    """SHA-256 in hex, and what is wrong, if anything."""
    full = os.path.join(root, path)
    try:
        with open(full, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest(), ""
    except OSError as error:
        return "", f"{full}: {error.strerror}"
