"""The rows of one LeRobot episode, found and confirmed by facts that do not depend on each other.

In a table that episodes share, a row says to which episode it belongs (`episode_index`), where it lies in the whole
dataset (`index`), which frame it is (`frame_index`) and when it was recorded (`timestamp`). Tools that delete, renumber
or merge episodes change some of these and forget others. Whoever trusts one of them pairs the picture of an episode
with the state of another. So every fact that a table has must agree with the metadata, and at least two must be there.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipeline.errors import EpisodeError
from pipeline.sources.base import EpisodeRef
from pipeline.sources.metadata import undecodable
from pipeline.sources.video.stored_image import decode_image
from pipeline.storage.raw.places import handle

LARGEST = 2**53
"""Of an integer that bookkeeping may hold: a float is exact up to it."""

BOOKKEEPING = ("episode_index", "frame_index", "index", "timestamp", "task_index")


class Table:
    """The rows of one episode.

    Raises:
        EpisodeError: "bad-table" or "undecodable".
    """

    def __init__(self, root: str, ref: EpisodeRef) -> None:
        self.file = os.path.join(root, ref.data["table"])
        self._widths: Mapping[str, int] = ref.data["widths"]
        self._number: int = ref.data["episode_index"]
        self._range: Sequence[int] | None = ref.data.get("rows")
        self._by_place: bool = ref.data["by_place"]
        self._shared: bool = ref.data["version"] == "v3.0"
        columns = [*BOOKKEEPING, *self._widths, *ref.data.get("images", {}).values()]
        self._table = self._read(columns)
        self.rows: int = self._table.num_rows
        self._check_rows()

    def field(self, name: str) -> NDArray[Any]:
        """A column of vectors (fixed-size or plain lists, or scalars), [rows, width]."""
        width = self._widths[name]
        values = _flatten(self._column(name), width)
        if values is None:
            column = self._column(name)
            empty = _first_null(column)
            found = f"{column.type}" + ("" if empty is None else f" and null at row {empty} of the episode")
            detail = f"{self.file}: column {name} does not hold {self.rows} x {width} numbers; it is {found}"
            raise EpisodeError("bad-table", detail)
        return values.reshape(self.rows, width)

    def integers(self, name: str) -> NDArray[np.int64] | None:
        """A column of integers; None if it does not exist."""
        if name not in self._table.column_names:
            return None
        column = self._table[name]
        values = column.to_numpy() if not column.null_count else np.array([np.nan])
        # pandas makes floats of integers; those that are whole are integers.
        whole = values.dtype.kind in "iuf" and not (values.dtype.kind == "f" and (values != np.rint(values)).any())
        if not whole or (np.abs(values.astype(np.float64)) > LARGEST).any():
            found = f"{column.type} with {column.null_count} nulls"
            detail = f"{self.file}: column {name} is {found}, expected integers up to 2^53"
            raise EpisodeError("bad-table", detail)
        return values.astype(np.int64)

    def images(self, key: str, size: Sequence[int] | None) -> Callable[[int], NDArray[np.uint8]]:
        """Decoder of the images of a column, which stay encoded until a frame is read.

        Args:
            size: declared height and width; None: any.
        """
        column = self._column(key)
        if not pa.types.is_struct(column.type) or column.type.get_field_index("bytes") < 0:
            detail = f"{self.file}: column {key} is {column.type}, expected images (bytes, path)"
            raise EpisodeError("bad-table", detail)
        encoded = pc.struct_field(column, "bytes")

        def image(index: int) -> NDArray[np.uint8]:
            content = encoded[index].as_py()
            where = f"{self.file}: {key} at frame {index}"
            if not content:
                raise EpisodeError("undecodable", f"{where} holds no bytes; embed the images in the table with lerobot")
            picture = decode_image(content, where)
            if size is not None and picture.shape[:2] != tuple(size):
                raise wrong_size(picture.shape, size, where)
            return picture

        return image

    def _read(self, columns: Sequence[str]) -> pa.Table:
        """The columns that exist; of a shared table the rows that any fact takes for the episode's."""
        try:
            with pq.ParquetFile(handle(self.file)) as file:
                present = file.schema_arrow.names
            names = [name for name in dict.fromkeys(columns) if name in present]
            filters = self._filters(present) if self._shared else None
            table = pq.read_table(handle(self.file), columns=names, filters=filters, partitioning=None)
        except (pa.ArrowException, OSError, MemoryError) as error:
            raise undecodable(self.file, error) from error
        if not table.num_rows:
            raise EpisodeError("bad-table", f"{self.file} has no rows" + (f" of episode {self._number}" * self._shared))
        return table

    def _filters(self, present: Sequence[str]) -> list[list[tuple[str, str, int]]]:
        """Rows at the episode's place, and rows of its number."""
        ways = []
        if self._range is not None and "index" in present:
            ways.append([("index", ">=", self._range[0]), ("index", "<", self._range[1])])
        if "episode_index" in present and not (self._by_place and ways):
            ways.append([("episode_index", "==", self._number)])
        if not ways:
            detail = f"{self.file} has no column episode_index to find the rows of the episode"
            raise EpisodeError("bad-table", detail)
        if "frame_index" not in present and len(ways) < 2:
            detail = "nothing confirms which rows are those of the episode: it has no column frame_index"
            raise EpisodeError("bad-table", f"{self.file}, episode {self._number}: {detail}")
        return ways

    def _check_rows(self) -> None:
        """Every fact about the rows must be the one that the metadata gives."""
        expected = {"frame_index": np.arange(self.rows)}
        if not self._by_place:
            expected["episode_index"] = np.full(self.rows, self._number)
        if self._shared and self._range is not None:
            expected["index"] = self._range[0] + np.arange(self.rows)
        for name, values in expected.items():
            found = self.integers(name)
            if found is not None and not np.array_equal(found, values):
                at = int(np.argmax(found != values))
                detail = (
                    f"row {at} has {name} {found[at]}, by the metadata of episode {self._number} it is {values[at]}"
                )
                raise EpisodeError("bad-table", f"{self.file}: {detail}")
        if self._shared and self._range is not None and self._range[1] - self._range[0] != self.rows:
            detail = f"{self.rows} rows of episode {self._number}, dataset_from_index and dataset_to_index give"
            raise EpisodeError("bad-table", f"{self.file}: {detail} {self._range[0]} to {self._range[1]}")
        self._check_clock()

    def _check_clock(self) -> None:
        """Times of the rows never step back: where they do, another episode begins."""
        if "timestamp" not in self._table.column_names:
            return
        column = self._table["timestamp"]
        if column.null_count or not (pa.types.is_floating(column.type) or pa.types.is_integer(column.type)):
            return
        times = column.to_numpy()
        back = np.flatnonzero(times[1:] < times[:-1])  # a difference of integers may wrap around
        if len(back):
            detail = f"timestamp steps back at row {back[0] + 1} of episode {self._number}: another one begins there"
            raise EpisodeError("bad-table", f"{self.file}: {detail}")

    def _column(self, name: str) -> pa.ChunkedArray:
        if name not in self._table.column_names:
            found = ", ".join(self._table.column_names)
            raise EpisodeError("bad-table", f"{self.file} has no column {name}; it has {found}")
        return self._table[name]


def wrong_size(found: Sequence[int], declared: Sequence[int], where: str) -> EpisodeError:
    """The error for pictures of another height and width than declared."""
    detail = f"frames are {found[0]} x {found[1]} (height x width), meta/info.json declares"
    return EpisodeError("bad-table", f"{where}: {detail} {declared[0]} x {declared[1]}")


def _flatten(column: pa.ChunkedArray, width: int) -> NDArray[Any] | None:
    """All numbers of a column of vectors, row by row; None if they are not rows of `width` numbers."""
    found = 1
    while _is_list(column.type):
        lengths = pc.list_value_length(column).to_numpy(zero_copy_only=False)
        if column.null_count or not len(lengths) or (lengths != lengths[0]).any():
            return None
        found *= int(lengths[0])
        column = pc.list_flatten(column)
    kind = column.type
    numeric = pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_boolean(kind)
    return np.asarray(column.to_numpy()) if numeric and found == width and not column.null_count else None


def _is_list(kind: pa.DataType) -> bool:
    return pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)


def _first_null(column: pa.ChunkedArray) -> int | None:
    """The first row that is empty or holds an empty value; None if there is none."""
    values = column
    rows = np.arange(len(column))
    while True:
        empty = np.flatnonzero(pc.is_null(values).to_numpy())
        if len(empty):
            return int(rows[empty[0]])
        if not _is_list(values.type):
            return None
        rows = rows.repeat(pc.list_value_length(values).to_numpy())
        values = pc.list_flatten(values)
