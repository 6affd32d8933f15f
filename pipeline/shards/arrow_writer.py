"""Arrow IPC files, written batch by batch and hashed on the way."""

from __future__ import annotations

import contextlib
import hashlib
import io
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.storage.atomic import FileRecord


class ArrowWriter:
    """Writes an Arrow IPC file batch by batch and hashes it. Use as a context manager; the file appears under its name
    when the block ends well.

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

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def record(self, file: str) -> FileRecord:
        """Size and hash of the finished file."""
        return FileRecord(file, self._sink.size, self._sink.digest.hexdigest())


class HashingFile(io.RawIOBase):
    """A file open for writing that hashes all that passes."""

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
    flat = pa.array(np.ascontiguousarray(values).reshape(-1))
    storage = pa.FixedSizeListArray.from_arrays(flat, kind.storage_type.list_size)
    return pa.ExtensionArray.from_storage(kind, storage)
