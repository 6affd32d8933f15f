"""Files of a shard under another name: linked, copied, or written anew without the rows of some episodes.

Arrow files are copied with whatever columns they have, batch by batch. Letters: R rows, U distinct tubelets.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import shutil
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.errors import CorruptError
from pipeline.format.input_sample import InputSample
from pipeline.shards.inputs_tar import InputPlacement, InputsWriter
from pipeline.storage.atomic import FileRecord, hash_file
from pipeline.storage.store import Store

_ROW_NUMBERS = ("context_row", "latent_rows")
"""Columns of a targets file that hold row numbers of the latents file beside it (encoder mode `tubelet`)."""


@dataclass(frozen=True)
class ShardFile:
    """A file of an old shard, with size and SHA-256 as its build.json lists them, and the name of the new file."""

    source: Path
    name: str
    bytes: int
    sha256: str

    def check(self, sha256: str) -> None:
        """Raise CorruptError unless this is the listed SHA-256."""
        if sha256 != self.sha256:
            lists = f"its build.json lists {self.sha256}"
            raise CorruptError(f"{self.source} has SHA-256 {sha256}, {lists}; it is damaged: run vlajepa audit")


def place_files(files: Mapping[str, ShardFile], store: Store, link: bool) -> tuple[dict[str, FileRecord], bool]:
    """Put the files of a shard into place unchanged.

    Args:
        link: hard-link them, where the file system allows it.

    Returns:
        Their records by kind, and whether all of them are links.

    Raises:
        CorruptError: a file has another size than listed, or (when it is copied) another SHA-256.
    """
    records, linked = {}, True
    for kind, file in files.items():
        with store.writing(file.name) as path:
            if not (link and _linked(file, path)):
                linked = False
                shutil.copyfile(file.source, path)
                file.check(hash_file(path))
        records[kind] = FileRecord(file.name, file.bytes, file.sha256)
    return records, linked


@dataclass(frozen=True)
class NewShard:
    """What the files of a shard that is written anew depend on besides the old ones.

    fingerprint, views  of the new build
    groups              episodes that are encoded together, in order
    batch_rows          most rows of a record batch of targets
    """

    fingerprint: str
    views: Sequence[str]
    groups: Sequence[Sequence[str]]
    batch_rows: int

    def batches(self, kept: pa.Table) -> list[int]:
        """Rows of each record batch of targets, as the job of the shard would have made them."""
        rows = Counter(kept.column("episode").to_pylist())
        counts = [sum(rows[episode] for episode in group) for group in self.groups]
        return [min(self.batch_rows, count - at) for count in counts for at in range(0, count, self.batch_rows)]


def rewrite_files(
    files: Mapping[str, ShardFile], store: Store, new: NewShard, rows: pa.Table, dropped: Collection[str]
) -> tuple[dict[str, FileRecord], pa.Table]:
    """Write the files of a shard anew without some episodes.

    Args:
        rows: those of the old shard in samples.parquet.

    Returns:
        Their records, and the rows that are left with their new places in the tar.

    Raises:
        CorruptError: a file is not the one that the old build.json lists.
    """
    for file in files.values():
        file.check(hash_file(file.source))
    keep = kept_rows(rows, dropped)
    kept, records, numbers = rows.filter(pa.array(keep, pa.bool_())), {}, None
    batches = new.batches(kept)
    records["inputs"], placements = _write_inputs(files["inputs"], store, new.views, kept)
    if "latents" in files:
        tubelets = _kept_tubelets(files["latents"].source, dropped)
        numbers = np.cumsum(tubelets, dtype=np.int32) - np.int32(1)
        needed = _needed_tubelets(files["targets"].source, keep, numbers, batches)
        records["latents"] = _write_arrow(files["latents"], store, new.fingerprint, (tubelets, needed))
    records["targets"] = _write_arrow(files["targets"], store, new.fingerprint, (keep, batches), numbers)
    return records, _with_places(kept, placements)


def kept_rows(rows: pa.Table, dropped: Collection[str]) -> NDArray[np.bool_]:
    """Which rows of samples.parquet are not of a dropped episode, bool [R]."""
    return np.array([episode not in dropped for episode in rows.column("episode").to_pylist()], bool)


def empty_file(store: Store, name: str) -> FileRecord:
    """A placeholder for the file of a shard without samples; the commit removes it."""
    store.write(name, b"")
    return FileRecord(name, 0, hashlib.sha256(b"").hexdigest())


def kept_batches(
    reader: pa.ipc.RecordBatchFileReader, keep: NDArray[np.bool_]
) -> Iterator[tuple[pa.RecordBatch, pa.Array]]:
    """Batches with a kept row, and the places of these rows in them."""
    at = 0
    for number in range(reader.num_record_batches):
        batch = reader.get_batch(number)
        rows = np.flatnonzero(keep[at : at + batch.num_rows])
        at += batch.num_rows
        if len(rows):
            yield batch, pa.array(rows)


def read_span(file: Any, offset: int, size: int) -> bytes:
    """Bytes of an open file. Raises CorruptError when it ends before."""
    data: bytes = os.pread(file.fileno(), size, offset)
    if len(data) != size:
        raise CorruptError(f"{file.name} ends before byte {offset + size}; run vlajepa audit")
    return data


def _linked(file: ShardFile, path: Path) -> bool:
    """A hard link, where the file system allows it. The content is not read: auditing the new build does."""
    try:
        size = file.source.stat().st_size
    except OSError as error:
        raise CorruptError(f"{file.source} cannot be read: {error}") from error
    if size != file.bytes:
        raise CorruptError(f"{file.source} has {size} bytes, its build.json lists {file.bytes}; run vlajepa audit")
    try:
        os.link(file.source, path, follow_symlinks=False)
    except OSError:
        return False
    return True


def _write_inputs(
    tar: ShardFile, store: Store, views: Sequence[str], kept: pa.Table
) -> tuple[FileRecord, list[InputPlacement]]:
    placements = []
    with InputsWriter(store.streaming(tar.name), views) as writer, open(tar.source, "rb") as file:
        for row in kept.to_pylist():
            images = (read_span(file, *place) for place in zip(row["image_offset"], row["image_size"], strict=True))
            sample = InputSample(row["key"], tuple(images), read_span(file, row["json_offset"], row["json_size"]))
            placement = writer.add(sample)
            if placement.inputs_sha256 != row["inputs_sha256"]:
                raise CorruptError(f"{tar.source}: the members of {row['key']} are not those of samples.parquet")
            placements.append(placement)
    return writer.record(tar.name), placements


def _with_places(kept: pa.Table, placements: Sequence[InputPlacement]) -> pa.Table:
    for name in ("image_offset", "image_size", "json_offset", "json_size"):
        place, field = kept.schema.get_field_index(name), kept.schema.field(name)
        kept = kept.set_column(place, field, pa.array([getattr(p, name) for p in placements], field.type))
    return kept


def _kept_tubelets(source: Path, dropped: Collection[str]) -> NDArray[np.bool_]:
    """Which rows of a latents file are not of a dropped episode, bool [U]."""
    with pa.memory_map(str(source)) as mapped:
        reader = pa.ipc.open_file(mapped)
        removed = pa.array(sorted(dropped), pa.string())
        parts = [
            pc.is_in(reader.get_batch(i).column("episode"), value_set=removed).to_numpy(zero_copy_only=False)
            for i in range(reader.num_record_batches)
        ]
    return ~np.concatenate([np.zeros(0, bool), *parts])


def _needed_tubelets(
    source: Path, keep: NDArray[np.bool_], numbers: NDArray[np.int32], batches: Sequence[int]
) -> list[int]:
    """New tubelets that each record batch of targets needs, without zeros: rows of the record batches of latents."""
    ends: list[NDArray[np.int32]] = [np.zeros(0, np.int32)]
    with pa.memory_map(str(source)) as mapped:
        for batch, rows in kept_batches(pa.ipc.open_file(mapped), keep):
            places = [_renumbered(batch.column(name).take(rows), numbers) for name in _ROW_NUMBERS]
            steps = places[1].flatten().to_numpy().reshape(len(rows), -1)
            ends.append(np.maximum(places[0].to_numpy(), steps.max(axis=1)) + np.int32(1))
    latest = np.maximum.accumulate(np.concatenate(ends))
    known = np.concatenate([[0], latest[np.cumsum(batches) - 1]])
    return [int(count) for count in np.diff(known) if count]


def _write_arrow(
    file: ShardFile,
    store: Store,
    fingerprint: str,
    kept: tuple[NDArray[np.bool_], Sequence[int]],
    numbers: NDArray[np.int32] | None = None,
) -> FileRecord:
    """The kept rows of an Arrow file, under the name and fingerprint of the new build.

    Args:
        kept: bool [R], and the rows of each new record batch.
        numbers: int32 [U], new number of each row of the latents file, for the columns that hold such numbers.
    """
    keep, counts = kept
    with store.writing(file.name) as path:
        with pa.memory_map(str(file.source)) as mapped:
            reader = pa.ipc.open_file(mapped)
            own = {b"fingerprint": fingerprint.encode(), b"shard": file.name.encode()}
            schema = reader.schema.with_metadata({**reader.schema.metadata, **own})
            rest = _rows(reader, keep)
            with pa.ipc.new_file(str(path), schema) as writer:
                for count in counts:
                    columns = _joined(list(itertools.islice(rest, count)), len(schema))
                    if numbers is not None:
                        for place in map(schema.get_field_index, _ROW_NUMBERS):
                            columns[place] = _renumbered(columns[place], numbers)
                    writer.write_batch(pa.RecordBatch.from_arrays(columns, schema=schema))
        return FileRecord(file.name, path.stat().st_size, hash_file(path))


def _rows(reader: pa.ipc.RecordBatchFileReader, keep: NDArray[np.bool_]) -> Iterator[pa.RecordBatch]:
    """The kept rows one by one: slices of the old record batches, which copy nothing."""
    for batch, rows in kept_batches(reader, keep):
        yield from (batch.slice(row, 1) for row in rows.to_pylist())


def _joined(rows: Sequence[pa.RecordBatch], width: int) -> list[pa.Array]:
    """The columns of some rows, in memory of their own."""
    return [pa.concat_arrays([row.column(place) for row in rows]) for place in range(width)]


def _renumbered(column: pa.Array, numbers: NDArray[np.int32]) -> pa.Array:
    """Row numbers, int32 [R] or lists of them, put through `numbers`; -1 stays -1."""
    is_list = pa.types.is_fixed_size_list(column.type)
    old = (column.flatten() if is_list else column).to_numpy(zero_copy_only=False)
    new = pa.array(np.where(old < 0, np.int32(-1), numbers[old]).astype(np.int32))
    return pa.FixedSizeListArray.from_arrays(new, type=column.type) if is_list else new
