"""Stored input images for the report, found by the manifest's offsets, whatever state the build is in."""

from __future__ import annotations

import random
from collections.abc import Collection, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.audit.build import ClaimedBuild
from pipeline.audit.files import is_regular
from pipeline.audit.report.evidence import Sheet
from pipeline.audit.samples import batches, open_samples
from pipeline.errors import BuildError
from pipeline.format.file_names import inputs_file

MAX_IMAGE_BYTES = 1 << 22
"""Larger "images" are not shown: a broken manifest may point anywhere."""


def choose_samples(build: ClaimedBuild, count: int, seed: int) -> list[str]:
    """Keys of some random samples, in the manifest's order."""
    with open_samples(build) as file:
        total = file.metadata.num_rows
    wanted = set(random.Random(seed).sample(range(total), min(count, total)))
    keys, at = [], 0
    for batch in batches(build, ("key",)):
        keys += [batch.column("key")[i - at].as_py() for i in sorted(wanted) if at <= i < at + batch.num_rows]
        at += batch.num_rows
    return keys


def stored_sheets(build: ClaimedBuild, samples: Sequence[str]) -> list[Sheet]:
    """A sheet for each view of each sample that the manifest knows, in the order of `samples`."""
    rows = _rows(build, set(samples))
    return [
        Sheet(key, view, rows[key]["now"], _stored(build, rows[key], position))
        for key in samples
        if key in rows
        for position, view in enumerate(build.views)
    ]


def _rows(build: ClaimedBuild, keys: Collection[str]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    try:
        for batch in batches(build, ("key", "split", "shard", "now", "image_offset", "image_size")):
            here = pc.is_in(batch.column("key"), value_set=pa.array(sorted(keys), pa.string()))
            for row in batch.filter(here).to_pylist():
                found.setdefault(row["key"], row)
    except BuildError:
        return found
    return found


def _stored(build: ClaimedBuild, row: dict[str, Any], position: int) -> bytes:
    file = inputs_file(str(row["split"]), row["shard"])
    offset, size = row["image_offset"][position], row["image_size"][position]
    if file not in {entry.inputs.path for entry in build.shards}:
        return b""
    if offset < 0 or not 0 < size <= MAX_IMAGE_BYTES:
        return b""
    if build.fetcher is not None:
        return build.fetcher.part(file, offset, size)
    path = build.root / file
    if not is_regular(path):
        return b""
    with open(path, "rb") as opened:
        opened.seek(offset)
        return opened.read(size)
