"""Columns of large tensors in an Arrow file, read by offset into the caller's memory.

Letters: K steps, T actions in a chunk, A action width, R rows.
"""

from __future__ import annotations

import contextlib
import math
import os
import weakref
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.errors import CorruptError
from pipeline.format.schema import Sizes
from pipeline.format.text.printable import reason


@contextlib.contextmanager
def readable(path: Path, kind: str) -> Iterator[None]:
    """Around code that reads a file's tables. Raises CorruptError for what it cannot read."""
    try:
        yield
    except (pa.ArrowException, OSError, KeyError, ValueError, TypeError) as error:
        raise CorruptError(f"{path} is no {kind} shard of this build: {reason(error)}; run vlajepa audit") from error


class TensorColumns:
    """Columns of large tensors in an Arrow file, read by offset. `table` holds the other columns in memory.

    Args:
        expected: the schema that the file must have, apart from metadata.
        columns: the tensors, see `schema.latent_columns`.
        kind: "targets" or "latents", for messages.

    Raises:
        CorruptError: the file is missing, truncated, or does not have these columns.
    """

    def __init__(
        self, path: Path, expected: pa.Schema, columns: Mapping[str, tuple[str, tuple[int, ...]]], kind: str
    ) -> None:
        self._path = path
        self._row_bytes = {n: np.dtype(kind).itemsize * math.prod(shape) for n, (kind, shape) in columns.items()}
        with readable(path, kind):
            with pa.memory_map(str(path)) as mapped:
                self._open(pa.ipc.open_file(mapped).read_all(), mapped, expected)
            self.table.validate(full=True)
            self._descriptor = os.open(path, os.O_RDONLY)
        weakref.finalize(self, os.close, self._descriptor)

    @property
    def rows(self) -> int:
        return int(self._starts[-1])

    def read(self, row: int, outs: Mapping[str, NDArray[Any] | None]) -> None:
        """Read one row of every column into the contiguous array of its name."""
        batch = int(np.searchsorted(self._starts, row, side="right")) - 1
        inner = row - int(self._starts[batch])
        for name, size in self._row_bytes.items():
            out = outs.get(name)
            if out is None or out.nbytes != size:
                raise ValueError(f"{name} must be an array of {size} bytes to read a row of {self._path}")
            if os.preadv(self._descriptor, [out.data], self._offsets[name][batch] + inner * size) != size:
                raise CorruptError(f"{self._path} ends inside row {row}; run vlajepa audit")

    def _open(self, table: pa.Table, mapped: pa.MemoryMappedFile, expected: pa.Schema) -> None:
        if not table.schema.equals(expected):
            raise ValueError(f"columns {table.schema.names} with other types than {expected.names} of the build")
        mapped.seek(0)
        base = mapped.read_buffer().address
        self._offsets = {
            name: [chunk.storage.flatten().buffers()[1].address - base for chunk in table.column(name).chunks]
            for name in self._row_bytes
        }
        self._starts = np.cumsum([0, *(len(chunk) for chunk in table.column(0).chunks)])
        small = table.drop_columns(list(self._row_bytes))
        self.table = small.take(np.arange(small.num_rows))  # a copy: the mapping ends here


def small_columns(
    table: pa.Table, sizes: Sizes
) -> tuple[NDArray[np.bool_], NDArray[np.float32] | None, NDArray[np.bool_] | None]:
    """latent_mask bool [R, K]; actions float32 [R, T, A] and action_mask bool [R, T], or None for human video."""
    mask = _masks(table.column("latent_mask"), sizes.steps)
    if not sizes.action:
        return mask, None, None
    flat = [chunk.storage.flatten().to_numpy() for chunk in table.column("actions").chunks]
    actions = np.concatenate(flat).reshape(-1, sizes.chunk, sizes.action)
    return mask, actions, _masks(table.column("action_mask"), sizes.chunk)


def _masks(column: pa.ChunkedArray, width: int) -> NDArray[np.bool_]:
    flat = [chunk.flatten().to_numpy(zero_copy_only=False) for chunk in column.chunks]
    return np.concatenate(flat).reshape(-1, width)
