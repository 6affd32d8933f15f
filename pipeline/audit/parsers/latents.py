"""The latents file of a shard of encoder mode `tubelet`: rows of distinct tubelets, which the windows refer to.

B windows, K future steps, V views, N tokens, D width, U rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.audit.samples import check_batch


class Tubelets:
    """The rows of a latents file, read through a memory map.

    episodes  id of each row    frames  int64 [U], last frame of each

    Raises:
        pa.ArrowException, OSError, ValueError: a batch is corrupt or holds nulls.
    """

    def __init__(self, batches: Sequence[pa.RecordBatch], schema: pa.Schema) -> None:
        for batch in batches:
            check_batch(batch)
        self.episodes: list[str] = [e for batch in batches for e in batch.column("episode").to_pylist()]
        frames = [batch.column("frame").to_numpy().astype(np.int64) for batch in batches]
        self.frames = np.concatenate([np.zeros(0, np.int64), *frames])
        self._starts = np.cumsum([0, *(batch.num_rows for batch in batches)])
        names = [name for name in ("latent", "scale") if name in schema.names]
        self._columns = {name: [tensor(batch.column(name)) for batch in batches] for name in names}
        self._row = {name: schema.field(name).type for name in names}

    def __len__(self) -> int:
        return len(self.episodes)

    def gather(self, places: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
        """Latents ("") and, of int8 ones, scales ("_scale") of the rows at [...]; zeros where there is no such row."""
        out = {
            name: np.zeros((*places.shape, *kind.shape), _numpy_type(kind.value_type))
            for name, kind in self._row.items()
        }
        for at in map(tuple, np.argwhere((places >= 0) & (places < len(self)))):
            batch = int(np.searchsorted(self._starts, places[at], side="right")) - 1
            for name, values in out.items():
                values[at] = self._columns[name][batch][places[at] - self._starts[batch]]
        return {"" if name == "latent" else "_scale": values for name, values in out.items()}


def _numpy_type(kind: pa.DataType) -> np.dtype[Any]:
    """The NumPy type of numbers in Arrow; `to_pandas_dtype` needs pandas, which is no dependency."""
    found: np.dtype[Any] = pa.array([], kind).to_numpy(zero_copy_only=False).dtype
    return found


def tensor(column: pa.ExtensionArray) -> NDArray[Any]:
    """A fixed-shape tensor column as an array, without a copy."""
    values = column.storage.flatten().to_numpy(zero_copy_only=True)
    return values.reshape(len(column), *column.type.shape)
