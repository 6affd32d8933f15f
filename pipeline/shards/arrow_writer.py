"""Files of a shard, hashed while they are written."""

from __future__ import annotations

import contextlib
import hashlib
import io
from contextlib import AbstractContextManager
from typing import IO, Any, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.storage.atomic import FileRecord


class HashingWriter:
    """A file of a shard, hashed while it is written. A context manager: without an error, the file gets its name at the
    end of the block.

    Args:
        place: gives the open file and its name at the end: `atomic_stream`, or `Store.streaming`.
    """

    def __init__(self, place: AbstractContextManager[IO[bytes]]) -> None:
        self._stack = contextlib.ExitStack()
        self._place = place

    def __enter__(self) -> Self:
        self._sink = self._stack.enter_context(HashingFile(self._stack.enter_context(self._place)))
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.__exit__(*error)

    def record(self, file: str) -> FileRecord:
        """Size and hash of the finished file."""
        return FileRecord(file, self._sink.size, self._sink.digest.hexdigest())


class ArrowWriter(HashingWriter):
    """Writes an Arrow IPC file in batches."""

    def __init__(self, place: AbstractContextManager[IO[bytes]], schema: pa.Schema) -> None:
        super().__init__(place)
        self._schema = schema

    def __enter__(self) -> Self:
        super().__enter__()
        self._writer = self._stack.enter_context(pa.ipc.new_file(self._sink, self._schema))
        return self


class HashingFile(io.RawIOBase):
    """Hashes what is written to a file, which stays open."""

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__()
        self._file = file
        self.digest = hashlib.sha256()
        self.size = 0

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        view = memoryview(data)  # type: ignore[arg-type]
        self._file.write(view)
        self.digest.update(view)
        self.size += view.nbytes
        return view.nbytes


def tensor_column(kind: pa.DataType, values: NDArray[np.generic]) -> pa.Array:
    """Rows of tensors [R, ...] as a column of an extension type."""
    flat = pa.array(np.ascontiguousarray(values).reshape(-1))
    return pa.ExtensionArray.from_storage(kind, pa.FixedSizeListArray.from_arrays(flat, kind.storage_type.list_size))
