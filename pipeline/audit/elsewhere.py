"""A build whose shards lie elsewhere: what the audit asks of whoever fetches them.

The folder it audits then holds the small files, as they are there, and of the shards those alone that it is looking at.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Protocol

from pipeline.audit.build import ShardEntry


class ShardFetcher(Protocol):
    """Handed to the audit by its caller. A file that is missing there has to be missing here, which is a finding."""

    def present(self, shard: ShardEntry) -> AbstractContextManager[None]:
        """The shard's files lie in the audited folder while the context is open. Raises BuildError: not reachable."""
        ...

    def part(self, file: str, offset: int, size: int) -> bytes:
        """Some bytes of a file, fewer where it ends; none when it is missing. Raises BuildError: not reachable."""
        ...

    def sizes(self) -> Mapping[str, int]:
        """Every file there by its path, with its size. A path that ends in `/` is the mark of a folder."""
        ...
