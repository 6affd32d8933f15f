"""What the audit needs of a caller that fetches the shards of a build in a bucket.

The audited folder then holds the small files, unchanged, and of the shards only those that are being checked.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Protocol

from pipeline.audit.entries import ShardEntry


class ShardFetcher(Protocol):
    """Provided by the caller. A file that is missing in the bucket must be missing in the folder: that is a finding."""

    def present(self, shard: ShardEntry) -> AbstractContextManager[None]:
        """Keep the shard's files in the audited folder while the context is open.

        Raises:
            BuildError: the bucket cannot be reached.
        """
        ...

    def part(self, file: str, offset: int, size: int) -> bytes:
        """`size` bytes of a file from `offset`; fewer at its end, none when it is missing.

        Raises:
            BuildError: the bucket cannot be reached.
        """
        ...

    def sizes(self) -> Mapping[str, int]:
        """Size in bytes of every file in the bucket, by path. A path that ends in `/` marks a folder."""
        ...
