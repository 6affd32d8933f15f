"""Loading the weights of a checkpoint takes no more memory than its files can fill, whatever they say."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from model.checkpoint.folders import newest_checkpoint
from pipeline.audit.canonical.expansion import ROOM, bounded_memory
from pipeline.errors import BuildError

_PER_BYTE = 4
"""Bytes that loading may take for each byte of the files, besides `ROOM`: mapped, read, and as float32."""


@contextmanager
def bounded_loading(source: Path) -> Iterator[None]:
    """While open, this process may take so much more memory.

    Args:
        source: a checkpoint's folder, a run's (its newest checkpoint), that of a policy, or a file.

    Raises:
        BuildError: more was asked for.
    """
    place = newest_checkpoint(source) or source
    files = [place] if place.is_file() else [file for file in place.rglob("*") if file.is_file()]
    room = ROOM + _PER_BYTE * sum(file.stat().st_size for file in files)
    try:
        with bounded_memory(room):
            yield
    except (MemoryError, OverflowError, RuntimeError, TypeError) as error:
        if isinstance(error, (RuntimeError, TypeError)) and not re.search("memory|overflow", str(error), re.IGNORECASE):
            raise  # a size beyond 64 bits is a TypeError of PyTorch's
        what = f"{place} asks for a model of more than {room:,} bytes, which its weights do not fill"
        raise BuildError(f"{what}; restore the checkpoint") from error
