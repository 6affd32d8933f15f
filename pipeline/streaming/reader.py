"""A build and sample indices -> a batch of both halves, joined by key. Random access; nothing is read ahead.

Letters as in `schema.py`. Safe to use from several threads: shard files are opened once and read by offset.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipeline.errors import BuildError, CorruptError
from pipeline.format.build import Build
from pipeline.format.columns import latent_columns
from pipeline.format.schema import Batch, Observation, Skipped, Targets
from pipeline.shards.targets_arrow import TargetRows
from pipeline.storage.atomic import hash_file
from pipeline.storage.shard_cache import FileCache
from pipeline.streaming.buffers import Allocate, BufferPool, allocate_pages
from pipeline.streaming.jpeg import decode_jpeg
from pipeline.streaming.open_shards import OpenShard, OpenShards, ShardFiles

_COLUMNS = [
    "key", "split", "shard", "row", "episode", "image_offset", "image_size", "json_offset", "json_size",
    "inputs_sha256", "targets_sha256",
]  # fmt: skip


class SampleReader:
    """Reads samples of one split of a finished build.

    Args:
        open_shards: how many shards are kept open, two or three file descriptors each; the least recently used
            one is closed first. A stream wants `Order.open_shards`.
        verify: hash every sample read and compare with the manifest, so that what is trained on is what was audited.
            Costs one SHA-256 over the sample, in the threads that read ahead.
        allocate: makes the memory of a batch's latents. Buffers are reused once nothing refers to the batch any more.
        skip_corrupt: a sample that cannot be read or is not the audited one does not raise: its row is zeros, its masks
            are False, so that no loss sees it, and `Batch.skipped` names it.
        cache: for a build whose shards lie elsewhere.

    Raises:
        BuildError: the build has no samples in this split, or a file is not what the manifest says.
    """

    def __init__(
        self,
        build: Build,
        split: str,
        open_shards: int = 320,
        allocate: Allocate | None = None,
        verify: bool = True,
        skip_corrupt: bool = False,
        cache: FileCache | None = None,
    ) -> None:
        self.build = build
        self.split = split
        shards = [shard for shard in build.manifest["shards"] if shard["split"] == split]
        if not shards:
            raise BuildError(
                f"{build.path} has no samples in split {split!r}; splits: {list(build.manifest['counts'])}"
            )
        self.shard_sizes = tuple(int(shard["samples"]) for shard in shards)
        self._shards = shards
        self._samples = _SampleTable(build, split)
        self._position = {shard["index"]: i for i, shard in enumerate(shards)}
        self._verify, self._skip_corrupt = verify, skip_corrupt
        self._open = OpenShards(ShardFiles(build, cache), open_shards)
        self._pool = BufferPool(allocate or allocate_pages)

    def __len__(self) -> int:
        return len(self._samples.key)

    def episode(self, index: int) -> str:
        """Episode of a sample."""
        return str(self._samples.episode[index].as_py())

    @property
    def remote(self) -> bool:
        """Whether shards are fetched from elsewhere."""
        return self._open.files.remote

    def prefetch(self, indices: NDArray[np.int64]) -> None:
        """Ask for the shards of samples that will be read; returns at once. Nothing to do for local shards."""
        for shard in np.unique(self._samples.shard[indices]):
            self._open.prefetch(self._shards[self._position[int(shard)]])

    def read(self, indices: NDArray[np.int64]) -> Batch[NDArray[Any]]:
        """Read samples by their index in the split.

        Raises:
            CorruptError: a member is not where or what the manifest says, or keys of inputs and targets differ (rule
                L7), unless `skip_corrupt`.
            BuildError: shards that lie elsewhere cannot be reached, or the cache is too small.
        """
        rows = self._empty(len(indices))
        instructions, keys, skipped = [], [], []
        for i, index in enumerate(indices):
            try:
                content = self._read_sample(rows, i, int(index))
            except CorruptError as error:
                if not self._skip_corrupt:
                    raise
                rows.clear(i)
                skipped.append(Skipped(self._samples.key[index].as_py(), str(error)))
                content = {"instruction": ""}
            keys.append(self._samples.key[index].as_py())
            instructions.append(content["instruction"])
        observation: Observation[NDArray[Any]] = Observation(rows.images, tuple(instructions), rows.state)
        targets: Targets[NDArray[Any]] = Targets(
            rows.context, rows.latents, rows.latent_mask, rows.actions, rows.action_mask, rows.context_scale,
            rows.latents_scale,
        )  # fmt: skip
        return Batch(tuple(keys), observation, targets, tuple(skipped))

    def _empty(self, count: int) -> _Rows:
        sizes = self.build.sizes
        columns = latent_columns(sizes, self.build.latents)
        latents = {name: self._pool.array((count, *shape), kind) for name, (kind, shape) in columns.items()}
        robot = bool(sizes.action)
        return _Rows(
            images=np.empty((count, sizes.views, sizes.image_size, sizes.image_size, 3), np.uint8),
            state=np.empty((count, sizes.state), np.float32) if robot else None,
            **latents,
            latent_mask=np.empty((count, sizes.steps), bool),
            actions=np.empty((count, sizes.chunk, sizes.action), np.float32) if robot else None,
            action_mask=np.empty((count, sizes.chunk), bool) if robot else None,
        )

    def _read_sample(self, rows: _Rows, i: int, index: int) -> Mapping[str, Any]:
        """Fill row i; the content of the sample's JSON."""
        shard = self._open.shard(self._shards[self._position[int(self._samples.shard[index])]])
        row = int(self._samples.row[index])
        content = self._read_inputs(shard, index, rows, i)
        self._check_key(shard, row, content, index)
        shard.targets.read_into(row, **rows.latent_arrays(i))
        rows.latent_mask[i] = shard.targets.latent_mask[row]
        if rows.actions is not None and rows.action_mask is not None:
            assert shard.targets.actions is not None
            assert shard.targets.action_mask is not None
            rows.actions[i], rows.action_mask[i] = shard.targets.actions[row], shard.targets.action_mask[row]
        if self._verify:
            listed = self._samples.targets_sha256[index]
            self._check_digest(shard.targets.path, "targets", rows.targets(content["key"], i), listed, index)
        return content

    def _read_inputs(self, shard: OpenShard, index: int, rows: _Rows, i: int) -> Mapping[str, Any]:
        samples, digest = self._samples, hashlib.sha256()
        try:
            members = [
                shard.read(int(offset), int(size))
                for offset, size in zip(samples.image_offset[index], samples.image_size[index], strict=True)
            ]
            members.append(shard.read(int(samples.json_offset[index]), int(samples.json_size[index])))
            if self._verify:
                for member in members:
                    digest.update(member)
                self._check_digest(shard.path, "inputs", digest.hexdigest(), samples.inputs_sha256[index], index)
            for view, data in enumerate(members[:-1]):
                decode_jpeg(data, rows.images[i, view])
            content: dict[str, Any] = json.loads(members[-1])
            if rows.state is not None:
                rows.state[i] = content["state"] or []  # a robot without a recorded state has S = 0
            return content
        except (OSError, ValueError) as error:
            raise CorruptError(
                f"{shard.path}: sample {samples.key[index].as_py()} cannot be read ({error}); expected SHA-256 of the "
                f"file: {shard.sha256}; run vlajepa audit"
            ) from error

    def _check_digest(self, path: Path, kind: str, found: str, listed: Any, index: int) -> None:
        if found != listed.as_py():
            shard = self._shards[self._position[int(self._samples.shard[index])]][kind]
            key = self._samples.key[index].as_py()
            fix = "delete this copy" if self.remote else "copy the build again, run vlajepa audit"
            raise CorruptError(
                f"{path}: the {kind} of sample {key} have SHA-256 {found}, the audited manifest lists {listed}; the "
                f"file was changed or is damaged ({shard['file']}, whose SHA-256 is {shard['sha256']}): {fix}"
            )

    def _check_key(self, shard: OpenShard, row: int, content: Mapping[str, Any], index: int) -> None:
        listed = self._samples.key[index].as_py()
        stored = shard.targets.keys[row] if row < len(shard.targets.keys) else "(none)"
        if not listed == content.get("key") == stored:
            raise CorruptError(
                f"{self.build.path}: row {row} is {listed} in the manifest, {content.get('key')} in {shard.path.name} "
                f"and {stored} in {shard.targets.path.name}; the shards do not belong together, run vlajepa audit"
            )


@dataclass(frozen=True)
class _Rows:
    """The arrays of a batch while it is filled; shapes as in `schema.Observation` and `schema.Targets`."""

    images: NDArray[np.uint8]
    state: NDArray[np.float32] | None
    context: NDArray[Any]
    latents: NDArray[Any]
    latent_mask: NDArray[np.bool_]
    actions: NDArray[np.float32] | None
    action_mask: NDArray[np.bool_] | None
    context_scale: NDArray[np.float32] | None = None
    latents_scale: NDArray[np.float32] | None = None

    def clear(self, i: int) -> None:
        """Make row i one that no loss sees."""
        for array in vars(self).values():
            if array is not None:
                array[i] = 0

    def latent_arrays(self, i: int) -> dict[str, NDArray[Any]]:
        """Row i of the arrays that hold latents, by column."""
        arrays = {
            "context": self.context, "latents": self.latents, "context_scale": self.context_scale,
            "latents_scale": self.latents_scale,
        }  # fmt: skip
        return {name: array[i] for name, array in arrays.items() if array is not None}

    def targets(self, key: str, i: int) -> str:
        """Digest of the targets of row i."""
        rows = TargetRows(
            (key,), self.context, self.latents, self.latent_mask, self.actions, self.action_mask, self.context_scale,
            self.latents_scale,
        )  # fmt: skip
        return rows.digest(i)


class _SampleTable:
    """The columns of samples.parquet that reading needs, for one split, in manifest order."""

    def __init__(self, build: Build, split: str) -> None:
        path = build.path / "samples.parquet"
        listed = build.manifest["files"]["samples.parquet"]["sha256"]
        if hash_file(path) != listed:
            raise BuildError(f"{path} is not the one build.json lists (SHA-256 {listed}); copy the build again")
        table = pq.read_table(path, columns=_COLUMNS, filters=[("split", "=", split)], read_dictionary=["episode"])
        table = table.combine_chunks()
        self.key = table.column("key")
        self.episode = table.column("episode")
        self.shard = table.column("shard").to_numpy()
        self.row = table.column("row").to_numpy()
        views = build.sizes.views
        self.image_offset = _flat(table.column("image_offset")).reshape(-1, views)
        self.image_size = _flat(table.column("image_size")).reshape(-1, views)
        self.json_offset = table.column("json_offset").to_numpy()
        self.json_size = table.column("json_size").to_numpy()
        self.inputs_sha256 = table.column("inputs_sha256")
        self.targets_sha256 = table.column("targets_sha256")


def _flat(column: Any) -> NDArray[Any]:
    return column.combine_chunks().flatten().to_numpy()
