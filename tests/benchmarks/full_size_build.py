"""A finished build of full-size samples, by the real writers, without the hours an encoder would take.

Latents are random numbers and images random colours, because only their sizes matter here.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image

from pipeline.format.build import Build, load_build
from pipeline.format.build_settings import InputSettings
from pipeline.format.columns import samples_schema
from pipeline.format.file_names import inputs_file, targets_file
from pipeline.format.input_sample import InputSample
from pipeline.format.schema import SCHEMA_VERSION, Sizes
from pipeline.samples.inputs import encode_jpeg
from pipeline.shards.inputs_tar import InputPlacement, InputsWriter
from pipeline.shards.targets_arrow import TargetRows, TargetsWriter
from pipeline.storage.atomic import atomic_file, hash_file

SIZES = Sizes(views=2, image_size=224, steps=3, tokens=256, width=1024, state=8, chunk=7, action=7)
"""A robot sample of the reference: 4 MiB of float16 latents."""

VIEWS = ("front", "wrist")
CHUNK = 16
"""Samples written at once, one Arrow record batch."""

FINGERPRINT = "benchmark"


class RandomSamples:
    """Distinct samples cut at different places out of one pool of random numbers."""

    def __init__(self, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self._row = SIZES.views * SIZES.tokens * SIZES.width
        self._pool = rng.standard_normal(2 * (SIZES.steps + 1) * self._row, np.float32).astype(np.float16)
        self._images = tuple(encode_jpeg(_picture(rng), InputSettings(image_size=SIZES.image_size)) for _ in range(32))

    def inputs(self, index: int) -> InputSample:
        key = sample_key(index)
        content = {
            "episode": key[:-7],
            "instruction": f"put object {index} into the drawer",
            "key": key,
            "now": index,
            "source": FINGERPRINT,
            "state": [index / 8] * SIZES.state,
            "views": list(VIEWS),
        }
        images = tuple(self._images[(index * SIZES.views + view) % len(self._images)] for view in range(SIZES.views))
        return InputSample(key, images, (json.dumps(content, separators=(",", ":")) + "\n").encode())

    def targets(self, index: int) -> NDArray[np.float16]:
        """float16 [K+1, V, N, D]; step 0 is the context."""
        size = (SIZES.steps + 1) * self._row
        start = index * 4099 % size
        return self._pool[start : start + size].reshape(SIZES.steps + 1, SIZES.views, SIZES.tokens, SIZES.width)

    def rows(self, indices: range) -> TargetRows:
        stacked = np.stack([self.targets(i) for i in indices])
        count = len(indices)
        actions = np.repeat(np.arange(indices.start, indices.stop, dtype=np.float32), SIZES.chunk * SIZES.action)
        return TargetRows(
            tuple(sample_key(i) for i in indices),
            stacked[:, 0],
            stacked[:, 1:],
            np.ones((count, SIZES.steps), bool),
            actions.reshape(count, SIZES.chunk, SIZES.action),
            np.ones((count, SIZES.chunk), bool),
        )


def sample_key(index: int) -> str:
    return f"e{index:06d}-{index:06d}"


def write_full_size_build(out: Path, shards: int, shard_samples: int) -> Build:
    """Write a build with one train split. `shard_samples` is a multiple of CHUNK."""
    source = RandomSamples()
    entries, tables = [], []
    for shard in range(shards):
        indices = range(shard * shard_samples, (shard + 1) * shard_samples)
        placements, inputs = _write_inputs(out, source, shard, indices)
        digests, targets = _write_targets(out, source, shard, indices)
        entries.append(
            {"split": "train", "index": shard, "samples": len(indices), "inputs": inputs, "targets": targets}
        )
        tables.append(_table(shard, indices, placements, digests))
    pq.write_table(pa.concat_tables(tables), out / "samples.parquet")
    samples = shards * shard_samples
    manifest = {
        "schema_version": SCHEMA_VERSION,
        "fingerprint": FINGERPRINT,
        "name": FINGERPRINT,
        "sizes": asdict(SIZES),
        "views": VIEWS,
        "counts": {"train": {"samples": samples, "episodes": samples, "shards": shards}},
        "shards": entries,
        "files": {"samples.parquet": {"sha256": hash_file(out / "samples.parquet")}},
    }
    (out / "build.json").write_text(json.dumps(manifest))
    return load_build(out)


def _write_inputs(
    out: Path, source: RandomSamples, shard: int, indices: range
) -> tuple[list[InputPlacement], dict[str, object]]:
    file = inputs_file("train", shard)
    with InputsWriter(atomic_file(out / file), VIEWS) as writer:
        placements = [writer.add(source.inputs(i)) for i in indices]
    return placements, asdict(writer.record(file))


def _write_targets(out: Path, source: RandomSamples, shard: int, indices: range) -> tuple[list[str], dict[str, object]]:
    file = targets_file("train", shard)
    metadata = {"fingerprint": FINGERPRINT, "schema_version": str(SCHEMA_VERSION), "shard": file}
    digests: list[str] = []
    with TargetsWriter(atomic_file(out / file), SIZES, metadata) as writer:
        for chunk in _chunks(indices):
            digests += writer.add(source.rows(chunk))
    return digests, asdict(writer.record(file))


def _chunks(indices: range) -> Iterator[range]:
    for start in range(indices.start, indices.stop, CHUNK):
        yield range(start, min(start + CHUNK, indices.stop))


def _table(shard: int, indices: range, placements: list[InputPlacement], digests: list[str]) -> pa.Table:
    rows = [
        {
            "key": sample_key(index),
            "split": "train",
            "shard": shard,
            "row": row,
            "image_offset": placement.image_offset,
            "image_size": placement.image_size,
            "json_offset": placement.json_offset,
            "json_size": placement.json_size,
            "inputs_sha256": placement.sha256,
            "targets_sha256": digest,
        }
        for row, (index, placement, digest) in enumerate(zip(indices, placements, digests, strict=True))
    ]
    return pa.Table.from_pylist(rows, schema=samples_schema(SIZES.views, SIZES.steps))


def _picture(rng: np.random.Generator) -> NDArray[np.uint8]:
    """Smooth colours with a little grain: about 40 KB as a JPEG of quality 95, like a photograph of this size."""
    coarse = Image.fromarray(rng.integers(0, 256, (14, 14, 3), np.uint8))
    smooth = np.asarray(coarse.resize((SIZES.image_size, SIZES.image_size), Image.Resampling.BICUBIC))
    grain = rng.integers(-6, 7, (SIZES.image_size, SIZES.image_size, 1), np.int16)
    return np.clip(smooth.astype(np.int16) + grain, 0, 255).astype(np.uint8)
