"""Arrow IPC files, written in batches and hashed while they are written."""

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


class ArrowWriter:
    """Writes an Arrow IPC file in batches and hashes it. A context manager: without an error, the file gets its name at
    the end of the block.

    Args:
        place: as for `InputsWriter`.
    """

    def __init__(self, place: AbstractContextManager[Path], schema: pa.Schema) -> None:
        self._stack = contextlib.ExitStack()
        self._place = place
        self._schema = schema

    def __enter__(self) -> Self:
        temporary = self._stack.enter_context(self._place)
        self._sink = self._stack.enter_context(HashingFile(temporary))
        self._writer = self._stack.enter_context(pa.ipc.new_file(self._sink, self._schema))
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.__exit__(*error)

    def record(self, file: str) -> FileRecord:
        """Size and hash of the finished file."""
        return FileRecord(file, self._sink.size, self._sink.digest.hexdigest())


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
