"""Files of a shard, hashed while they are written."""

from __future__ import annotations

import contextlib
import hashlib
import io
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.storage.atomic import FileRecord


class HashingWriter:
    """A file of a shard, hashed while it is written. A context manager: without an error, the file gets its name at the
    end of the block.

    Args:
        place: gives a temporary path and renames the file at the end: `atomic_file`, or `Store.writing`.
    """

    def __init__(self, place: AbstractContextManager[Path]) -> None:
        self._stack = contextlib.ExitStack()
        self._place = place

    def __enter__(self) -> Self:
        temporary = self._stack.enter_context(self._place)
        self._sink = self._stack.enter_context(HashingFile(temporary))
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.__exit__(*error)

    def record(self, file: str) -> FileRecord:
        """Size and hash of the finished file."""
        return FileRecord(file, self._sink.size, self._sink.digest.hexdigest())


class ArrowWriter(HashingWriter):
    """Writes an Arrow IPC file in batches."""

    def __init__(self, place: AbstractContextManager[Path], schema: pa.Schema) -> None:
        super().__init__(place)
        self._schema = schema

    def __enter__(self) -> Self:
        super().__enter__()
        self._writer = self._stack.enter_context(pa.ipc.new_file(self._sink, self._schema))
        return self


class HashingFile(io.RawIOBase):
    """A file open for writing that hashes what is written."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._file = open(path, "wb")  # noqa: SIM115  closed in close()
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

    def close(self) -> None:
        self._file.close()
        super().close()


def tensor_column(kind: pa.DataType, values: NDArray[np.generic]) -> pa.Array:
    """Rows of tensors [R, ...] as a column of an extension type."""
    flat = pa.array(np.ascontiguousarray(values).reshape(-1))
    return pa.ExtensionArray.from_storage(kind, pa.FixedSizeListArray.from_arrays(flat, kind.storage_type.list_size))
