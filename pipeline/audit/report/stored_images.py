"""Stored input images for the report, found by the manifest's offsets, whatever state the build is in."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.audit.build import ClaimedBuild
from pipeline.audit.files import is_regular
from pipeline.audit.report.evidence import Sheet
from pipeline.audit.samples import batches, chosen_rows, open_samples, rows_at
from pipeline.errors import BuildError
from pipeline.format.file_names import inputs_file

MAX_IMAGE_BYTES = 1 << 22
"""Larger "images" are not shown: a broken manifest may point anywhere."""


def choose_samples(build: ClaimedBuild, count: int, seed: int) -> list[str]:
    """Keys of some random samples, in the manifest's order."""
    with open_samples(build) as file:
        chosen = chosen_rows(file.metadata.num_rows, seed, 0.0, count)
    return [row["key"] for row in rows_at(build, ("key",), chosen)]


def stored_sheets(build: ClaimedBuild, samples: Sequence[str]) -> list[Sheet]:
    """A sheet for each view of each sample that the manifest knows, in the order of `samples`."""
    rows: dict[str, dict[str, Any]] = {}
    with contextlib.suppress(BuildError):
        for batch in batches(build, ("key", "split", "shard", "now", "image_offset", "image_size")):
            wanted = pc.is_in(batch.column("key"), value_set=pa.array(samples, pa.string()))
            for row in batch.filter(wanted).to_pylist():
                rows.setdefault(row["key"], row)
    return [
        Sheet(key, view, rows[key]["now"], _stored(build, rows[key], position))
        for key in samples
        if key in rows
        for position, view in enumerate(build.views)
    ]


def _stored(build: ClaimedBuild, row: dict[str, Any], position: int) -> bytes:
    file = inputs_file(str(row["split"]), row["shard"])
    offset, size = row["image_offset"][position], row["image_size"][position]
    listed = any(entry.inputs.path == file for entry in build.shards)
    if not listed or offset < 0 or not 0 < size <= MAX_IMAGE_BYTES:
        return b""
    if build.fetcher is not None:
        return build.fetcher.part(file, offset, size)
    path = build.root / file
    if not is_regular(path):
        return b""
    with open(path, "rb") as opened:
        opened.seek(offset)
        return opened.read(size)
