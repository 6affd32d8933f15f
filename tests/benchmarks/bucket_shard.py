"""What a shard of a build in a bucket takes of TMPDIR while it is written: a count of bytes, whatever the machine does.

The bucket is a folder (file://) that the clients of buckets write to: the same parts, the same comparison at the end.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO
from unittest import mock

from pipeline.shards.arrow_writer import HashingWriter
from pipeline.storage.object_store import ObjectStore, open_object_store
from pipeline.storage.upload import PART
from tests.benchmarks.report import Series, Target, interleaved, print_table


@dataclass(frozen=True)
class Scale:
    """mib: of a shard."""

    mib: int = 2048


TINY = Scale(mib=20)

PIECE = bytes(2**20)


def run(folder: Path, repeats: int, scale: Scale) -> None:
    store = open_object_store(f"file://{folder / 'bucket'}")
    scratch = folder / "tmp"
    scratch.mkdir()
    with mock.patch.object(tempfile, "tempdir", str(scratch)):
        found = interleaved(
            {
                "through a local file": lambda: _peak(_copied(store), scratch, scale),
                "sent in parts while it is written": lambda: _peak(store.streaming("shard"), scratch, scale),
            },
            repeats,
        )
    before, after = found.values()
    shares = [Series(one.name, tuple(value / scale.mib for value in one.values)) for one in (before, after)]
    print_table(
        f"Most of a shard of {scale.mib:,} MiB that lies in TMPDIR while it is written into a bucket",
        "MiB",
        [before, after],
        [
            Series("share of the shard, through a local file", shares[0].values),
            Target(Series("share of a shard in TMPDIR, sent in parts", shares[1].values), 0.0, at_most=True),
        ],
        [f"parts of {PART / 2**20:.0f} MiB, up to seven in memory"],
    )


@contextmanager
def _copied(store: ObjectStore) -> Iterator[IO[bytes]]:
    """As other files are written."""
    with store.writing("shard") as path, open(path, "wb", buffering=0) as file:
        yield file


def _peak(place: AbstractContextManager[IO[bytes]], scratch: Path, scale: Scale) -> float:
    """MiB."""
    most = 0
    with HashingWriter(place) as writer:
        for _ in range(scale.mib):
            writer._sink.write(PIECE)
            most = max(most, sum(path.stat().st_size for path in scratch.rglob("*") if path.is_file()))
    return most / 2**20
