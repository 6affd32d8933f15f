"""Targets and latents shards of tiny builds: a second reading of the format, beside `tiny_build`."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

BATCH = 3
"""Rows of a record batch of targets: few, so that readers meet seams."""


def write_targets(
    path: Path, columns: Mapping[str, Any], metadata: Mapping[str, str], rows: Sequence[int] | None = None
) -> None:
    """A targets or latents shard. rows: of each record batch; by default BATCH, as in a targets shard of one group."""
    path.parent.mkdir(exist_ok=True)
    total = len(next(iter(columns.values())))
    counts = rows or [min(BATCH, total - at) for at in range(0, total, BATCH)]
    ends = np.cumsum([0, *counts]).tolist()
    parts = [
        {name: _arrow(name, values[first:end]) for name, values in columns.items()}
        for first, end in itertools.pairwise(ends)
    ]
    fields = [pa.field(name, array.type, nullable=False) for name, array in parts[0].items()]
    schema = pa.schema(fields, metadata=dict(metadata))
    with pa.ipc.new_file(str(path), schema) as writer:
        for arrays in parts:
            writer.write_batch(pa.RecordBatch.from_arrays(list(arrays.values()), schema=schema))


def latents_batches(columns: Mapping[str, Any], total: int) -> list[int]:
    """Rows of each record batch of the latents shard (of `total` rows) beside a targets shard: those that its record
    batches need first."""
    places = np.concatenate([columns["context_row"][:, None], columns["latent_rows"]], axis=1)
    needed = [int(places[: at + BATCH].max()) + 1 for at in range(0, len(places), BATCH)]
    ends = [0, *sorted({min(end, total) for end in needed} | {total})]
    return [end - first for first, end in itertools.pairwise(ends)]


def read_targets(path: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """Columns (numpy, copied; keys as a list) and schema metadata."""
    with pa.ipc.open_file(str(path)) as reader:
        table = reader.read_all()
    columns: dict[str, Any] = {}
    for name in table.column_names:
        column = table.column(name).combine_chunks()
        if isinstance(column, pa.ExtensionArray):
            columns[name] = column.to_numpy_ndarray().copy()
        elif name in ("key", "episode"):
            columns[name] = column.to_pylist()
        else:
            kind = bool if name.endswith("_mask") else np.int32
            columns[name] = np.array(column.to_pylist(), kind)
    return columns, {k.decode(): v.decode() for k, v in table.schema.metadata.items()}


def read_batches(path: Path) -> list[int]:
    """Rows of each record batch."""
    with pa.ipc.open_file(str(path)) as reader:
        return [reader.get_batch(i).num_rows for i in range(reader.num_record_batches)]


def digest(columns: Mapping[str, Any], i: int) -> bytes:
    """`targets_sha256` of row i."""
    order = ("context", "context_scale", "latents", "latents_scale", "latent_mask", "actions", "action_mask")
    names = [n for n in order if n in columns]
    return hashlib.sha256(b"".join(np.ascontiguousarray(columns[n][i]).tobytes() for n in names)).digest()


def share(columns: dict[str, Any], rows: Sequence[Mapping[str, Any]]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Latents that windows share: the columns of the latents file, and those of the targets file that refer to them."""
    names: dict[tuple[str, int], tuple[str, tuple[int, ...]]] = {}
    for i, row in enumerate(rows):
        for k, support in enumerate(row["supports"]):
            if support:
                names.setdefault(
                    (row["episode"], support[-1]), ("context", (i,)) if k == 0 else ("latents", (i, k - 1))
                )
    place = {name: number for number, name in enumerate(names)}
    shared: dict[str, Any] = {
        "episode": [episode for episode, _ in names],
        "frame": np.array([frame for _, frame in names], np.int32),
        "latent": np.stack([columns[column][at] for column, at in names.values()]),
    }
    if "latents_scale" in columns:
        shared["scale"] = np.stack([columns[f"{column}_scale"][at] for column, at in names.values()])
    places = [[place[row["episode"], s[-1]] if s else -1 for s in row["supports"]] for row in rows]
    rest = {
        n: v for n, v in columns.items() if n not in ("key", "context", "context_scale", "latents", "latents_scale")
    }
    numbers = np.array(places, np.int32)
    return shared, {"key": columns["key"], "context_row": numbers[:, 0], "latent_rows": numbers[:, 1:], **rest}


def gathered(columns: Mapping[str, Any], shared: Mapping[str, Any]) -> dict[str, Any]:
    """The columns of the targets file with latents in the place of row numbers."""
    places = np.concatenate([columns["context_row"][:, None], columns["latent_rows"]], axis=1)
    result = dict(columns)
    for name, ends in (("latent", ""), ("scale", "_scale")):
        if name in shared:
            values = shared[name][places]
            values[places < 0] = 0
            result[f"context{ends}"], result[f"latents{ends}"] = values[:, 0], values[:, 1:]
    return result


def stored(name: str, latents: NDArray[np.float16], dtype: str) -> dict[str, Any]:
    """The columns of some latents: themselves, or int8 and the scale of each token."""
    if dtype == "float16":
        return {name: latents}
    scale = (np.abs(latents.astype(np.float64)).max(axis=-1) / 127).astype(np.float32)
    divisor = np.where(scale == 0, 1, scale)[..., None].astype(np.float64)
    return {name: np.round(latents / divisor).astype(np.int8), f"{name}_scale": scale}


def _arrow(name: str, values: Any) -> pa.Array:
    if name in ("key", "episode"):
        return pa.array(values, pa.string())
    if values.ndim == 1:
        return pa.array(values)
    if values.dtype == bool or name == "latent_rows":
        return pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), values.shape[1])
    kind = pa.fixed_shape_tensor(pa.from_numpy_dtype(values.dtype), values.shape[1:])
    flat = pa.array(np.ascontiguousarray(values).reshape(-1))
    return pa.ExtensionArray.from_storage(kind, pa.FixedSizeListArray.from_arrays(flat, kind.storage_type.list_size))
