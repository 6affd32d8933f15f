"""Files of a shard under another name: linked, copied, or written anew without the rows of some episodes.

Arrow files are copied with whatever columns they have, batch by batch. Letters: R rows, U distinct tubelets.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
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

_BLOCK = 1 << 22

_ROW_NUMBERS = ("context_row", "latent_rows")
"""Columns of a targets file that hold row numbers of the latents file beside it (encoder mode `tubelet`)."""


def place_files(
    folder: Path, entry: Mapping[str, Any], names: Mapping[str, str], store: Store, link: bool
) -> tuple[dict[str, FileRecord], bool]:
    """Put the files of a shard into place unchanged.

    Args:
        folder: the old build;  entry: the shard in its build.json.
        names: of the new files, by kind.
        link: hard-link them, where the file system allows it.

    Returns:
        Their records, and whether all of them are links.

    Raises:
        CorruptError: a file has another size than listed, or (when it is copied) another SHA-256.
    """
    records, linked = {}, True
    for kind, name in names.items():
        listed, source = entry[kind], folder / entry[kind]["file"]
        with store.writing(name) as path:
            if not (link and _linked(source, path, listed)):
                linked = False
                _check_digest(source, listed, _copied(source, path))
        records[kind] = FileRecord(name, listed["bytes"], listed["sha256"])
    return records, linked


def rewrite_files(
    folder: Path,
    entry: Mapping[str, Any],
    names: Mapping[str, str],
    store: Store,
    identity: tuple[str, Sequence[str]],
    rows: pa.Table,
    dropped: Collection[str],
) -> tuple[dict[str, FileRecord], pa.Table]:
    """Write the files of a shard anew without some episodes.

    Args:
        identity: fingerprint and views of the new build.
        rows: those of the old shard in samples.parquet.

    Returns:
        Their records, and the rows that are left with their new places in the tar.

    Raises:
        CorruptError: a file is not the one that the old build.json lists.
    """
    fingerprint, views = identity
    for kind in names:
        source = folder / entry[kind]["file"]
        _check_digest(source, entry[kind], hash_file(source))
    keep = kept_rows(rows, dropped)
    kept = rows.filter(pa.array(keep, pa.bool_()))
    inputs, placements = _write_inputs(folder / entry["inputs"]["file"], names["inputs"], store, views, kept)
    records = {"inputs": inputs}
    numbers = None
    if "latents" in names:
        source = folder / entry["latents"]["file"]
        tubelets = _kept_tubelets(source, dropped)
        numbers = np.cumsum(tubelets, dtype=np.int32) - np.int32(1)
        records["latents"] = _write_arrow(source, names["latents"], store, fingerprint, tubelets)
    source = folder / entry["targets"]["file"]
    records["targets"] = _write_arrow(source, names["targets"], store, fingerprint, keep, numbers)
    return records, _with_places(kept, placements)


def kept_rows(rows: pa.Table, dropped: Collection[str]) -> NDArray[np.bool_]:
    """Which rows of samples.parquet are not of a dropped episode, bool [R]."""
    return np.array([episode not in dropped for episode in rows.column("episode").to_pylist()], bool)


def empty_file(store: Store, name: str) -> FileRecord:
    """A stand-in for the file of a shard without samples; the commit removes it."""
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


def _linked(source: Path, path: Path, listed: Mapping[str, Any]) -> bool:
    """A hard link, where the file system allows it. The content is not read: auditing the new build does."""
    try:
        size = source.stat().st_size
    except OSError as error:
        raise CorruptError(f"{source} cannot be read: {error}") from error
    if size != listed["bytes"]:
        raise CorruptError(f"{source} has {size} bytes, its build.json lists {listed['bytes']}; run vlajepa audit")
    try:
        os.link(source, path, follow_symlinks=False)
    except OSError:
        return False
    return True


def _copied(source: Path, path: Path) -> str:
    """Copy a file; SHA-256 of what was read."""
    digest = hashlib.sha256()
    with open(source, "rb") as reading, open(path, "wb") as writing:
        while block := reading.read(_BLOCK):
            digest.update(block)
            writing.write(block)
    return digest.hexdigest()


def _check_digest(source: Path, listed: Mapping[str, Any], found: str) -> None:
    if found != listed["sha256"]:
        raise CorruptError(
            f"{source} has SHA-256 {found}, its build.json lists {listed['sha256']}; it is damaged: run vlajepa audit"
        )


def _write_inputs(
    source: Path, name: str, store: Store, views: Sequence[str], kept: pa.Table
) -> tuple[FileRecord, list[InputPlacement]]:
    placements = []
    with InputsWriter(store.writing(name), views) as writer, open(source, "rb") as file:
        for row in kept.to_pylist():
            images = (read_span(file, *place) for place in zip(row["image_offset"], row["image_size"], strict=True))
            sample = InputSample(row["key"], tuple(images), read_span(file, row["json_offset"], row["json_size"]))
            placement = writer.add(sample)
            if placement.inputs_sha256 != row["inputs_sha256"]:
                raise CorruptError(f"{source}: the members of {row['key']} are not those of samples.parquet")
            placements.append(placement)
    return writer.record(name), placements


def _with_places(kept: pa.Table, placements: Sequence[InputPlacement]) -> pa.Table:
    for name in ("image_offset", "image_size", "json_offset", "json_size"):
        place, field = kept.schema.get_field_index(name), kept.schema.field(name)
        kept = kept.set_column(place, field, pa.array([getattr(p, name) for p in placements], field.type))
    return kept


def _kept_tubelets(source: Path, dropped: Collection[str]) -> NDArray[np.bool_]:
    """Which rows of a latents file are not of a dropped episode, bool [U]."""
    with pa.memory_map(str(source)) as mapped:
        reader = pa.ipc.open_file(mapped)
        gone = pa.array(sorted(dropped), pa.string())
        parts = [
            pc.is_in(reader.get_batch(i).column("episode"), value_set=gone).to_numpy(zero_copy_only=False)
            for i in range(reader.num_record_batches)
        ]
    return ~np.concatenate([np.zeros(0, bool), *parts])


def _write_arrow(
    source: Path,
    name: str,
    store: Store,
    fingerprint: str,
    keep: NDArray[np.bool_],
    numbers: NDArray[np.int32] | None = None,
) -> FileRecord:
    """The kept rows of an Arrow file, under the name and fingerprint of the new build.

    Args:
        keep: bool [R].
        numbers: int32 [U], new number of each row of the latents file, for the columns that hold such numbers.
    """
    with store.writing(name) as path:
        with pa.memory_map(str(source)) as mapped:
            reader = pa.ipc.open_file(mapped)
            own = {b"fingerprint": fingerprint.encode(), b"shard": name.encode()}
            schema = reader.schema.with_metadata({**reader.schema.metadata, **own})
            with pa.ipc.new_file(str(path), schema) as writer:
                for batch, rows in kept_batches(reader, keep):
                    columns = [column.take(rows) for column in batch.columns]
                    for i, column in enumerate(batch.schema.names):
                        if numbers is not None and column in _ROW_NUMBERS:
                            columns[i] = _renumbered(columns[i], numbers)
                    writer.write_batch(pa.RecordBatch.from_arrays(columns, schema=schema))
        return FileRecord(name, path.stat().st_size, hash_file(path))


def _renumbered(column: pa.Array, numbers: NDArray[np.int32]) -> pa.Array:
    """Row numbers, int32 [R] or lists of them, put through `numbers`; -1 stays -1."""
    is_list = pa.types.is_fixed_size_list(column.type)
    old = (column.flatten() if is_list else column).to_numpy(zero_copy_only=False)
    new = pa.array(np.where(old < 0, np.int32(-1), numbers[old]).astype(np.int32))
    return pa.FixedSizeListArray.from_arrays(new, type=column.type) if is_list else new
