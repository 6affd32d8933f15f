"""An object as the cache of copies holds it: with the SHA-256 of what arrived, written down beside the copies.

The cache of a build's files needs no such record: their names are hashes, and readers compare each sample. Nobody
listed the hash of raw data, so that a copy which a disk or a crash has damaged would pass for the object.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from pipeline.storage.atomic import hash_file, write_atomic
from pipeline.storage.raw.bucket_object import BucketObject, writing_copy
from pipeline.storage.retry import Retry


@dataclass(frozen=True)
class CopiedObject:
    """See `pipeline.storage.shard_cache.Fetched`.

    source   what is copied
    digests  folder of the records, each named by the object's key
    """

    source: BucketObject
    digests: Path

    @property
    def url(self) -> str:
        """For people."""
        return self.source.url

    @property
    def bytes(self) -> int:
        """Size."""
        return self.source.bytes

    @property
    def key(self) -> str:
        """Of this version of the object."""
        return self.source.key

    def download(self, sink: BinaryIO, retry: Retry | None = None) -> None:
        """See `BucketObject.download`. The bytes, and their hash, are on disk when it returns."""
        sha256 = self.source.download(sink, retry)
        with writing_copy(sink):
            os.fsync(sink.fileno())
            write_atomic(self.digests / self.key, sha256.encode())

    def is_whole(self, copy: Path) -> bool:
        """Whether a copy is what arrived. Reads all of it."""
        try:
            return (self.digests / self.key).read_bytes() == hash_file(copy).encode()
        except FileNotFoundError:
            return False
