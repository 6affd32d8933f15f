"""An Arrow IPC file written anew from its columns, record batch by record batch, and compared byte by byte.

Readers go by the footer and follow offsets, so a file can hide messages, metadata, bytes between buffers, bits behind a
bitmap's last one or a string before the first offset. None of it is in what the columns force.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.audit.canonical.expansion import record_batches
from pipeline.audit.canonical.sink import ComparingSink
from pipeline.audit.samples import check_batch


def arrow_difference(path: Path, schema: pa.Schema, rows: Sequence[int]) -> str:
    """Where a file departs from its columns written anew; "" when it is equal.

    Args:
        schema: with the metadata that the file must have.
        rows: of each record batch.

    Raises:
        UNREADABLE: the file is corrupt, or holds nulls.
    """
    with pa.memory_map(str(path)) as mapped:
        expected = mapped.read_buffer()
        reader = pa.ipc.open_file(expected)
        if not reader.schema.equals(schema):  # types that no build has may crash the library
            return "its columns are not those of the format"
        batches = record_batches(reader, expected.size)
        sink = ComparingSink(expected)
        found = []
        with pa.ipc.new_file(sink, schema) as writer:
            for batch in batches:
                check_batch(batch)
                found.append(batch.num_rows)
                columns = [rebuilt(column) for column in batch.columns]
                writer.write_batch(pa.RecordBatch.from_arrays(columns, schema=schema))
    if found != list(rows):
        return f"its record batches hold {_brief(found)} rows, must hold {_brief(rows)}"
    return sink.difference()


def rebuilt(array: pa.Array) -> pa.Array:
    """The same values, without nulls, in buffers of their own; of numbers in the old ones, which hold nothing else."""
    kind = array.type
    if isinstance(array, pa.ExtensionArray):
        return pa.ExtensionArray.from_storage(kind, rebuilt(array.storage))
    if pa.types.is_fixed_size_list(kind):
        return pa.FixedSizeListArray.from_arrays(rebuilt(array.flatten()), type=kind)
    if pa.types.is_string(kind):
        return pa.array(array.to_pylist(), kind)
    return pa.array(array.to_numpy(zero_copy_only=False), kind)


def batch_rows(groups: Sequence[int], episodes: Sequence[str], samples: Sequence[str], most: int) -> list[int]:
    """Rows of each record batch of a targets file: the samples of a group of episodes, `most` at a time.

    Args:
        groups: number of episodes in each group of the task;  episodes: their ids, in order.
        samples: episode of each sample of the shard.
    """
    place = {episode: i for i, episode in enumerate(episodes)}
    of_group = np.repeat(np.arange(len(groups)), groups)
    known = [of_group[place[episode]] for episode in samples if place.get(episode, len(of_group)) < len(of_group)]
    counts = np.bincount(np.array(known, np.int64), minlength=len(groups)).tolist()
    return [min(most, count - at) for count in counts for at in range(0, count, most)]


def tubelet_rows(places: NDArray[np.int64], rows: Iterable[int]) -> list[int]:
    """Rows of each record batch of a latents file: those that a batch of targets needs and none before it did.

    Args:
        places: int64 [B, K+1], rows of the latents file that each sample refers to, in the order of the file.
        rows: of each record batch of the targets file.
    """
    found, at, known = [], 0, 0
    for count in rows:
        needed = int(places[at : at + count].max(initial=-1)) + 1
        found += [needed - known] if needed > known else []
        at, known = at + count, max(known, needed)
    return found


def in_order_of_need(places: NDArray[np.int64]) -> bool:
    """Whether the rows of the latents file are numbered as the samples first need them; int64 [B, K+1], -1: none."""
    flat = places.reshape(-1)
    flat = flat[flat >= 0]
    before = np.maximum.accumulate(np.concatenate([[-1], flat]))[:-1]
    return bool((flat <= before + 1).all())


def _brief(numbers: Sequence[int]) -> str:
    shown = ", ".join(map(str, numbers[:8]))
    return f"{shown}, … ({len(numbers)} batches)" if len(numbers) > 8 else shown or "no"
