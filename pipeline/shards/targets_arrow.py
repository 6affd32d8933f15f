"""The targets shard: an Arrow file of latents and actions.

Letters for shapes: V views, K steps, N tokens, D width, T actions in a chunk, A action width, R rows.

A file is written under a temporary name, synced and renamed, and its folder is synced, so that a reader sees either the
whole file or none. The writers hash what they write, so that the manifest needs no second pass over terabytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.format.columns import latent_columns, targets_schema
from pipeline.format.enums import LatentDtype
from pipeline.format.schema import Sizes, Targets
from pipeline.shards.arrow_writer import ArrowWriter, tensor_column
from pipeline.shards.tensor_columns import TensorColumns, readable, small_columns


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


DIGESTED = ("context", "context_scale", "latents", "latents_scale", "latent_mask", "actions", "action_mask")


def row_buffers(targets: TargetRows | Targets[NDArray[Any]], row: int) -> Iterator[memoryview]:
    """The bytes of one row that are hashed, in the order that `docs/formats.md` defines."""
    for name in DIGESTED:
        array = getattr(targets, name)
        if array is not None:
            yield np.ascontiguousarray(array[row]).reshape(-1).view(np.uint8).data


def row_digest(targets: TargetRows | Targets[NDArray[Any]], row: int) -> bytes:
    """SHA-256 of one row: 32 bytes."""
    digest = hashlib.sha256()
    for buffer in row_buffers(targets, row):
        digest.update(buffer)
    return digest.digest()


class TargetsWriter(ArrowWriter):
    """Writes a targets shard.

    Args:
        place: as for `HashingWriter`.
        metadata, dtype, tubelets: see `schema.targets_schema`.
    """

    def __init__(
        self,
        place: AbstractContextManager[IO[bytes]],
        sizes: Sizes,
        metadata: dict[str, str],
        dtype: LatentDtype = LatentDtype.FLOAT16,
        tubelets: bool = False,
    ) -> None:
        super().__init__(place, targets_schema(sizes, metadata, dtype, tubelets))
        self._columns = tuple(latent_columns(sizes, dtype))

    def add(self, rows: TargetRows, places: NDArray[np.int32] | None = None) -> list[bytes]:
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
        return [row_digest(rows, i) for i in range(len(rows.keys))]


class TargetsReader:
    """Random access to the rows of a targets shard.

    The file is mapped once to find the offsets of its buffers. Latents are then read by offset straight into the memory
    of the caller. A fresh mapping costs a page fault every few KiB, so that copies from it had a tenth of this speed on
    the first pass over a shard. With more shards than can stay open, every pass is a first pass.

    Attributes:
        keys: every key, in row order.
        latent_mask: bool [R, K].
        actions, action_mask: float32 [R, T, A] and bool [R, T], or None for human video.

    Raises:
        CorruptError: the file is missing, truncated, or does not have the columns of `targets_schema`.
    """

    def __init__(self, path: Path, sizes: Sizes, dtype: LatentDtype = LatentDtype.FLOAT16) -> None:
        self.path = path
        self._columns = TensorColumns(path, targets_schema(sizes, {}, dtype), latent_columns(sizes, dtype), "targets")
        table = self._columns.table
        with readable(path, "targets"):
            self.keys: list[str] = table.column("key").to_pylist()
            self.latent_mask, self.actions, self.action_mask = small_columns(table, sizes)

    def read_into(self, row: int, **outs: NDArray[Any]) -> None:
        """Read a row into contiguous arrays, by name.

        Args:
            outs: `context` [V, N, D] for z_0 and `latents` [K, V, N, D] for z_1..z_K; of an int8 build also
                `context_scale` [V, N] and `latents_scale` [K, V, N].
        """
        self._columns.read(row, outs)


def _mask_column(values: NDArray[np.bool_]) -> pa.Array:
    return pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), values.shape[1])
