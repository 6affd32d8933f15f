"""What a reader needs of samples.parquet, for one split, in manifest order: rows of fixed width in a mapped file.

samples.parquet is read once a node: hashed, and from the same bytes written as

    FOLDER/NAME/rows.bin    one `row_dtype` a sample
    FOLDER/NAME/texts.bin   its key and episode, one after the other

All processes map these files, so that a rank starts at once and takes no memory for samples it does not read. NAME
stands for the bytes of samples.parquet, the split and the sizes of the shards: it is never out of date.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipeline.errors import BuildError
from pipeline.format.build import Build
from pipeline.format.columns import DIGEST, samples_schema
from pipeline.format.file_names import SAMPLES
from pipeline.format.text.printable import printable
from pipeline.storage.own_folder import make_own_folder

_NUMBERS = ("shard", "row", "json_offset", "json_size")
_BY_VIEW = ("image_offset", "image_size")
_HASHES = ("inputs_sha256", "targets_sha256")
_TEXTS = ("key", "episode")
_BATCH = 65_536


def row_dtype(views: int) -> np.dtype[Any]:
    """A row of rows.bin. key_end and episode_end are places in texts.bin, where a row's texts begin at the end of the
    row before."""
    numbers = [("shard", "<i4"), ("row", "<i4"), ("json_offset", "<i8"), ("json_size", "<i4")]
    images = [("image_offset", "<i8", (views,)), ("image_size", "<i4", (views,))]
    texts = [("key_end", "<i8"), ("episode_end", "<i8")]
    return np.dtype([*numbers, *images, *((name, f"V{DIGEST.byte_width}") for name in _HASHES), *texts])


@dataclass(frozen=True)
class SampleRow:
    """Where a sample lies, and what its halves must hash to.

    shard, row      of the manifest
    members         (offset, size) of each JPEG and then of the JSON, in the inputs tar
    inputs_sha256, targets_sha256   32 bytes each
    """

    key: str
    episode: str
    shard: int
    row: int
    members: tuple[tuple[int, int], ...]
    inputs_sha256: bytes
    targets_sha256: bytes


class SampleTable:
    """The R samples of a split.

    Args:
        folder: of this user on this node; None: a temporary one, for this object alone.

    Raises:
        BuildError: samples.parquet is missing, not the one that build.json lists, or not what its shards need; or the
            folder cannot be written.
        SettingsError: the folder is not this user's alone.
    """

    def __init__(self, build: Build, split: str, folder: Path | None) -> None:
        with contextlib.ExitStack() as stack:
            place = folder or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="vlajepa-samples-")))
            made = _made(build, split, place)
            # Mapped files outlive their names
            self._rows = np.memmap(made / "rows.bin", row_dtype(build.sizes.views), "r")
            self._texts = np.memmap(made / "texts.bin", np.uint8, "r")

    def __len__(self) -> int:
        return len(self._rows)

    def shards(self, samples: NDArray[np.int64]) -> NDArray[np.int32]:
        """Index of the shard of each."""
        found: NDArray[np.int32] = self._rows["shard"][samples]
        return found

    def key(self, sample: int) -> str:
        return self._texts_of(sample)[0]

    def episode(self, sample: int) -> str:
        return self._texts_of(sample)[1]

    def row(self, sample: int) -> SampleRow:
        found = self._rows[sample]
        images = zip(found["image_offset"].tolist(), found["image_size"].tolist(), strict=True)
        return SampleRow(
            *self._texts_of(sample),
            int(found["shard"]),
            int(found["row"]),
            (*images, (int(found["json_offset"]), int(found["json_size"]))),
            *(found[name].tobytes() for name in _HASHES),
        )

    def _texts_of(self, sample: int) -> tuple[str, str]:
        begin = int(self._rows[sample - 1]["episode_end"]) if sample else 0
        middle, end = int(self._rows[sample]["key_end"]), int(self._rows[sample]["episode_end"])
        return self._texts[begin:middle].tobytes().decode(), self._texts[middle:end].tobytes().decode()


def _made(build: Build, split: str, folder: Path) -> Path:
    """The folder with a split's files, made by one process if it is not there."""
    shards = [shard for shard in build.manifest["shards"] if shard["split"] == split]
    sizes = [(shard["index"], shard["samples"]) for shard in shards]
    identity = [build.manifest["files"][SAMPLES]["sha256"], split, build.sizes.views, build.sizes.steps, sizes]
    final = folder / hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:40]
    make_own_folder(folder)
    with open(folder / f"{final.name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not _is_whole(final, row_dtype(build.sizes.views), sum(shard["samples"] for shard in shards)):
            shutil.rmtree(final, ignore_errors=True)  # who has its files mapped keeps them
            _make(build, split, shards, final)
    return final


def _is_whole(final: Path, dtype: np.dtype[Any], samples: int) -> bool:
    """Whether its files have the sizes they must have. A row that was changed fits no sample, which is compared with
    it; one that is missing would be missed by nobody."""
    try:
        if (final / "rows.bin").stat().st_size != samples * dtype.itemsize:
            return False
        last = np.memmap(final / "rows.bin", dtype, "r")[-1]
        return (final / "texts.bin").stat().st_size == last["episode_end"]
    except (OSError, ValueError):
        return False


def _make(build: Build, split: str, shards: Sequence[Mapping[str, Any]], final: Path) -> None:
    part = final.with_name(f"{final.name}.part")
    shutil.rmtree(part, ignore_errors=True)  # of a process that was killed
    part.mkdir()
    where = build.path / SAMPLES
    try:
        with tempfile.TemporaryFile(dir=part) as copy:
            build.copy_file(SAMPLES, copy)
            try:
                _convert(copy, build, split, shards, part)
            except (pa.ArrowException, ValueError, KeyError, TypeError) as error:
                fix = "run vlajepa audit on it, or copy the build again"
                raise BuildError(f"{where} cannot be used: {printable(error)}; {fix}") from error
        os.replace(part, final)
    except OSError as error:
        raise BuildError(
            f"{where} cannot be indexed in {final.parent}: {error}; free space there, or give another "
            "trainer.cache_folder"
        ) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _convert(source: IO[bytes], build: Build, split: str, shards: Sequence[Mapping[str, Any]], folder: Path) -> None:
    order = _Order(shards)
    with open(folder / "rows.bin", "wb") as rows, open(folder / "texts.bin", "wb") as texts:
        for batch in _batches(source, build, split):
            order.check(batch)
            found = np.empty(batch.num_rows, row_dtype(build.sizes.views))
            for name in _NUMBERS:
                found[name] = batch.column(name).to_numpy()
            for name in _BY_VIEW:
                found[name] = _by_view(batch.column(name), build.sizes.views)
            for name in _HASHES:
                found[name] = _digests(batch.column(name))
            key, episode = (batch.column(name) for name in _TEXTS)
            lengths = np.stack([pc.binary_length(text).to_numpy() for text in (key, episode)], axis=1)
            ends = texts.tell() + np.cumsum(lengths.reshape(-1), dtype=np.int64).reshape(-1, 2)
            found["key_end"], found["episode_end"] = ends[:, 0], ends[:, 1]
            rows.write(found.tobytes())
            texts.write(_data(pc.binary_join_element_wise(key, episode, "")))
        order.check_end()
        for file in (rows, texts):
            file.flush()
            os.fsync(file.fileno())


def _batches(source: IO[bytes], build: Build, split: str) -> Iterator[pa.RecordBatch]:
    """The rows of a split, some at a time."""
    file = pq.ParquetFile(source, pre_buffer=False)  # which keeps all that was read
    if not file.schema_arrow.equals(samples_schema(build.sizes.views, build.sizes.steps)):
        raise ValueError(f"its columns are not those of this version, but {', '.join(file.schema_arrow.names)}")
    for batch in file.iter_batches(_BATCH, columns=["split", *_TEXTS, *_HASHES, *_NUMBERS, *_BY_VIEW]):
        batch.validate(full=True)
        if any(column.null_count for column in batch.columns):
            raise ValueError("a column holds a null")
        chosen = batch.filter(pc.equal(batch.column("split"), split))
        if chosen.num_rows:
            yield chosen


class _Order:
    """Every row must be that of a shard of build.json, in order: readers find samples by position."""

    def __init__(self, shards: Sequence[Mapping[str, Any]]) -> None:
        self._numbers = np.array([shard["index"] for shard in shards], np.int64)
        self._ends = np.cumsum([shard["samples"] for shard in shards])
        self._seen = 0

    def check(self, batch: pa.RecordBatch) -> None:
        samples = self._seen + np.arange(batch.num_rows)
        self._seen += batch.num_rows
        if self._seen > self._ends[-1]:
            self.check_end()
        shard = np.searchsorted(self._ends, samples, side="right")
        begins = np.concatenate([[0], self._ends[:-1]])
        for name, wanted in (("shard", self._numbers[shard]), ("row", samples - begins[shard])):
            wrong = np.flatnonzero(batch.column(name).to_numpy() != wanted)
            if len(wrong):
                found = batch.column(name)[int(wrong[0])]
                raise ValueError(f"row {samples[wrong[0]]} of the split is of {name} {found}, not in order")

    def check_end(self) -> None:
        if self._seen != self._ends[-1]:
            raise ValueError(f"it has {self._seen} rows of the split, build.json has {self._ends[-1]} samples")


def _by_view(column: pa.Array, views: int) -> NDArray[np.int64]:
    values: NDArray[np.int64] = column.flatten().to_numpy(zero_copy_only=False)
    if len(values) != len(column) * views:
        raise ValueError(f"a column must hold {views} numbers a row")
    return values.reshape(-1, views)


def _digests(column: pa.Array) -> NDArray[Any]:
    """A column of DIGEST, a view of its memory."""
    found: NDArray[Any] = np.frombuffer(column.buffers()[1], f"V{DIGEST.byte_width}")
    return found[column.offset : column.offset + len(column)]


def _data(texts: pa.Array) -> memoryview:
    """The bytes of all texts, one after the other."""
    _, offsets, data = texts.buffers()
    begin, end = np.frombuffer(offsets, np.int32)[[texts.offset, texts.offset + len(texts)]].tolist()
    return memoryview(data)[begin:end]
