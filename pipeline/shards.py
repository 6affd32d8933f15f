"""Shard files, written and read: the inputs tar and the targets Arrow file.

Letters for shapes: V views, K steps, N tokens, D width, T actions in a chunk, A action width, R rows.

A file is written under a temporary name, synced, renamed, and its folder synced: a reader sees it whole or not at all.
Both writers hash what they write, so the manifest never needs a second pass over terabytes.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import shutil
import sys
import tarfile
import uuid
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.schema import Sizes, latent_columns, member_names, targets_schema
from pipeline.tensor_columns import TensorColumns, small_columns

TEMPORARY_PREFIX = ".tmp-"


@dataclass(frozen=True)
class FileRecord:
    """A finished file: path relative to the build, size in bytes, SHA-256 in hex."""

    file: str
    bytes: int
    sha256: str


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success sync it and rename it into place, on failure remove it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f"{TEMPORARY_PREFIX}{path.name}-{uuid.uuid4().hex}"
    try:
        yield temporary
        _sync(temporary)
        os.replace(temporary, path)
        _sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def write_atomic(path: Path, data: bytes) -> FileRecord:
    """Write a small file atomically. The record's `file` is the bare name."""
    with atomic_file(path) as temporary:
        temporary.write_bytes(data)
    return FileRecord(path.name, len(data), hashlib.sha256(data).hexdigest())


def remove_temporary_files(folder: Path) -> None:
    """Delete what writers killed in mid-write left behind: files, and folders of locks."""
    for path in sorted(folder.rglob(f"{TEMPORARY_PREFIX}*")):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)  # its writer may live and be removing it too
        else:
            path.unlink(missing_ok=True)


def hash_file(path: Path) -> str:
    """SHA-256 of a file in hex, read in blocks."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass(frozen=True)
class InputSample:
    """Members of one sample as bytes: a JPEG for each view in order, and the JSON."""

    key: str
    images: tuple[bytes, ...]
    json: bytes


@dataclass(frozen=True)
class InputPlacement:
    """Where a sample's members stand in the tar: offset of the first payload byte and size, and their joint SHA-256."""

    image_offset: tuple[int, ...]
    image_size: tuple[int, ...]
    json_offset: int
    json_size: int
    sha256: str


class InputsWriter:
    """Writes an inputs shard. Use as a context manager; the file appears under its name when the block ends well.

    Args:
        place: gives a path to write at and puts the file in its place: `atomic_file`, or `Store.writing`.
        views: camera names in order.
    """

    def __init__(self, place: AbstractContextManager[Path], views: Sequence[str]) -> None:
        self._stack = contextlib.ExitStack()
        self._place = place
        self._views = tuple(views)
        self._digest = hashlib.sha256()
        self._offset = 0

    def __enter__(self) -> Self:
        temporary = self._stack.enter_context(self._place)
        self._file = self._stack.enter_context(open(temporary, "wb"))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                end = 2 * tarfile.BLOCKSIZE
                self._write(bytes(end + -(self._offset + end) % tarfile.RECORDSIZE))
        except BaseException:
            self._stack.__exit__(*sys.exc_info())
            raise
        self._stack.__exit__(kind, error, trace)

    def add(self, sample: InputSample) -> InputPlacement:
        """Append the members of one sample."""
        payloads = (*sample.images, sample.json)
        names = member_names(sample.key, self._views)
        offsets = [self._add_member(name, data) for name, data in zip(names, payloads, strict=True)]
        sizes = [len(data) for data in payloads]
        digest = hashlib.sha256(b"".join(payloads)).hexdigest()
        return InputPlacement(tuple(offsets[:-1]), tuple(sizes[:-1]), offsets[-1], sizes[-1], digest)

    def record(self, file: str) -> FileRecord:
        """Size and hash of the finished file."""
        return FileRecord(file, self._offset, self._digest.hexdigest())

    def _add_member(self, name: str, data: bytes) -> int:
        header = tarfile.TarInfo(name)
        header.size = len(data)
        header.mode = 0o444
        self._write(header.tobuf(tarfile.USTAR_FORMAT))
        offset = self._offset
        self._write(data + bytes(-len(data) % tarfile.BLOCKSIZE))
        return offset

    def _write(self, data: bytes) -> None:
        self._file.write(data)
        self._digest.update(data)
        self._offset += len(data)


@dataclass(frozen=True)
class TargetRows:
    """R rows of supervision.

    context        float16 or int8 [R, V, N, D]     latents        float16 or int8 [R, K, V, N, D]
    latent_mask    bool [R, K]
    actions        float32 [R, T, A] or None        action_mask    bool [R, T] or None
    context_scale  float32 [R, V, N] or None        latents_scale  float32 [R, K, V, N] or None
    """

    keys: tuple[str, ...]
    context: NDArray[np.float16] | NDArray[np.int8]
    latents: NDArray[np.float16] | NDArray[np.int8]
    latent_mask: NDArray[np.bool_]
    actions: NDArray[np.float32] | None
    action_mask: NDArray[np.bool_] | None
    context_scale: NDArray[np.float32] | None = None
    latents_scale: NDArray[np.float32] | None = None

    def digest(self, row: int) -> str:
        """SHA-256 of one row as `docs/formats.md` defines it, in hex."""
        parts = (
            self.context, self.context_scale, self.latents, self.latents_scale, self.latent_mask, self.actions,
            self.action_mask,
        )  # fmt: skip
        digest = hashlib.sha256()
        for part in parts:
            if part is not None:
                digest.update(np.ascontiguousarray(part[row]).data)
        return digest.hexdigest()


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


class TargetsWriter(ArrowWriter):
    """Writes a targets shard.

    Args:
        place: as for `InputsWriter`.
        metadata, dtype, tubelets: see `schema.targets_schema`.
    """

    def __init__(
        self,
        place: AbstractContextManager[Path],
        sizes: Sizes,
        metadata: dict[str, str],
        dtype: str = "float16",
        tubelets: bool = False,
    ) -> None:
        super().__init__(place, targets_schema(sizes, metadata, dtype, tubelets))
        self._columns = tuple(latent_columns(sizes, dtype))

    def add(self, rows: TargetRows, places: NDArray[np.int32] | None = None) -> list[str]:
        """Append rows as one record batch and return their digests.

        Args:
            places: int32 [R, K+1], rows of the latents shard, -1 where masked; for a writer of `tubelets`.
        """
        if places is None:
            latents = [tensor_column(self._schema.field(n).type, getattr(rows, n)) for n in self._columns]
        else:
            steps = pa.FixedSizeListArray.from_arrays(pa.array(places[:, 1:].reshape(-1)), places.shape[1] - 1)
            latents = [pa.array(places[:, 0]), steps]
        columns: list[pa.Array] = [pa.array(rows.keys, pa.string()), *latents, _mask_column(rows.latent_mask)]
        if rows.actions is not None and rows.action_mask is not None:
            columns.append(tensor_column(self._schema.field("actions").type, rows.actions))
            columns.append(_mask_column(rows.action_mask))
        self._writer.write_batch(pa.RecordBatch.from_arrays(columns, schema=self._schema))
        return [rows.digest(i) for i in range(len(rows.keys))]


class TargetsReader:
    """Random access to the rows of a targets shard.

    The file is mapped once to learn where its buffers lie; latents are then read by offset straight into the memory
    of the caller. A fresh mapping costs a page fault every few KiB, which held copies out of it to a tenth of this
    speed on the first pass over a shard, and with more shards than can stay open every pass is a first one.

    Attributes:
        keys: every key, in row order.
        latent_mask: bool [R, K].
        actions, action_mask: float32 [R, T, A] and bool [R, T], or None for human video.

    Raises:
        CorruptError: the file is missing, truncated, or does not have the columns of `targets_schema`.
    """

    def __init__(self, path: Path, sizes: Sizes, dtype: str = "float16") -> None:
        self.path = path
        self._columns = TensorColumns(path, targets_schema(sizes, {}, dtype), latent_columns(sizes, dtype), "targets")
        table = self._columns.table
        self.keys: list[str] = table.column("key").to_pylist()
        self.latent_mask, self.actions, self.action_mask = small_columns(table, sizes)

    def read_into(
        self,
        row: int,
        context: NDArray[Any],
        latents: NDArray[Any],
        context_scale: NDArray[np.float32] | None = None,
        latents_scale: NDArray[np.float32] | None = None,
    ) -> None:
        """Read z_0 of a row into `context` [V, N, D] and z_1..z_K into `latents` [K, V, N, D], both contiguous.

        Args:
            context_scale, latents_scale: take the scales [V, N] and [K, V, N] of an int8 build.
        """
        outs = {
            "context": context, "latents": latents, "context_scale": context_scale, "latents_scale": latents_scale,
        }  # fmt: skip
        self._columns.read(row, outs)


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


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def tensor_column(kind: pa.DataType, values: NDArray[np.generic]) -> pa.Array:
    flat = pa.array(np.ascontiguousarray(values).reshape(-1))
    storage = pa.FixedSizeListArray.from_arrays(flat, kind.storage_type.list_size)
    return pa.ExtensionArray.from_storage(kind, storage)


def _mask_column(values: NDArray[np.bool_]) -> pa.Array:
    return pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), values.shape[1])
