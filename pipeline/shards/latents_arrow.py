"""Latents shared by windows (encoder mode `tubelet`): the distinct tubelets of a shard, read by row.

Each tubelet {e-s, e} is encoded alone, so its latent depends only on these two frames. Windows with steps that end at
the same frame e of an episode refer to the same row. Letters as in `targets_arrow.py`; U tubelets.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.errors import CorruptError
from pipeline.format.columns import latents_schema, targets_schema, tubelet_columns
from pipeline.format.enums import LatentDtype
from pipeline.format.schema import Sizes
from pipeline.shards.arrow_writer import ArrowWriter, tensor_column
from pipeline.shards.tensor_columns import TensorColumns, readable, small_columns


@dataclass(frozen=True)
class TubeletRows:
    """U rows of a latents shard.

    episodes  ids       frames  last frame of each tubelet
    latent    float16 or int8 [U, V, N, D]    scale  float32 [U, V, N] or None
    """

    episodes: tuple[str, ...]
    frames: tuple[int, ...]
    latent: NDArray[np.float16] | NDArray[np.int8]
    scale: NDArray[np.float32] | None = None


class LatentsWriter(ArrowWriter):
    """Writes a latents shard.

    Args:
        place: as for `HashingWriter`.
        metadata, dtype: see `schema.latents_schema`.
    """

    def __init__(
        self,
        place: AbstractContextManager[IO[bytes]],
        sizes: Sizes,
        metadata: dict[str, str],
        dtype: LatentDtype = LatentDtype.FLOAT16,
    ) -> None:
        super().__init__(place, latents_schema(sizes, metadata, dtype))
        self.rows = 0

    def add(self, rows: TubeletRows) -> None:
        """Append rows as one record batch."""
        columns = [pa.array(rows.episodes, pa.string()), pa.array(rows.frames, pa.int32())]
        columns.append(tensor_column(self._schema.field("latent").type, rows.latent))
        if rows.scale is not None:
            columns.append(tensor_column(self._schema.field("scale").type, rows.scale))
        self._writer.write_batch(pa.RecordBatch.from_arrays(columns, schema=self._schema))
        self.rows += len(rows.frames)


class TubeletTargetsReader:
    """`TargetsReader` for a shard whose targets refer to the rows of a latents file, with the same attributes.

    Raises:
        CorruptError: a file is missing, truncated or has other columns, or a row number is out of range.
    """

    def __init__(self, path: Path, latents: Path, sizes: Sizes, dtype: LatentDtype = LatentDtype.FLOAT16) -> None:
        self.path = path
        table = TensorColumns(path, targets_schema(sizes, {}, dtype, tubelets=True), {}, "targets").table
        columns = tubelet_columns(sizes, dtype)
        self._latents = TensorColumns(latents, latents_schema(sizes, {}, dtype), columns, "latents")
        with readable(path, "targets"):
            self.keys: list[str] = table.column("key").to_pylist()
            self.latent_mask, self.actions, self.action_mask = small_columns(table, sizes)
            steps = table.column("latent_rows").combine_chunks().flatten().to_numpy().reshape(-1, sizes.steps)
            self._places = np.concatenate([table.column("context_row").to_numpy()[:, None], steps], axis=1)
        if not ((self._places[:, 1:] >= 0) == self.latent_mask).all() or not self._inside():
            raise CorruptError(f"{path} refers to rows that {latents} does not have; run vlajepa audit")

    def read_into(self, row: int, **outs: NDArray[Any]) -> None:
        """See `TargetsReader.read_into`. Steps without a row are zeros."""
        context = {"latent": outs["context"], "scale": outs.get("context_scale")}
        latents = {"latent": outs["latents"], "scale": outs.get("latents_scale")}
        context_row, *steps = self._places[row].tolist()
        self._latents.read(context_row, context)
        for step, place in enumerate(steps):
            out = {name: array[step] for name, array in latents.items() if array is not None}
            if place >= 0:
                self._latents.read(place, out)
            else:
                for array in out.values():
                    array[...] = 0

    def _inside(self) -> bool:
        places = self._places
        return not places.size or bool(places.max() < self._latents.rows and places[:, 0].min() >= 0)
