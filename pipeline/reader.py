"""A build and sample indices -> a batch of both halves, joined by key. Random access; nothing is read ahead.

Letters as in `schema.py`. Safe to use from several threads: shard files are opened once and read by offset.
"""

from __future__ import annotations

import hashlib
import io
import json
import mmap
import os
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import DTypeLike, NDArray
from PIL import Image

from pipeline.errors import BuildError
from pipeline.manifest import Build
from pipeline.schema import Batch, Observation, Targets
from pipeline.shards import TargetRows, TargetsReader, hash_file

_COLUMNS = [
    "key", "split", "shard", "row", "image_offset", "image_size", "json_offset", "json_size",
    "inputs_sha256", "targets_sha256",
]  # fmt: skip

Allocate = Callable[[int], NDArray[np.uint8]]
"""Makes a buffer of so many bytes; the trainer passes one that gives pinned memory."""


class SampleReader:
    """Reads samples of one split of a finished build.

    Args:
        open_shards: how many shards are kept open, two file descriptors each; the least recently used one is closed
            first. A stream wants `Order.open_shards`.
        verify: hash every sample read and compare with the manifest, so that what is trained on is what was audited.
            Costs one SHA-256 over the sample, in the threads that read ahead.
        allocate: makes the memory of a batch's latents. Buffers are reused once nothing refers to the batch any more.

    Raises:
        BuildError: the build has no samples in this split, or a file is not what the manifest says.
    """

    def __init__(
        self, build: Build, split: str, open_shards: int = 320, allocate: Allocate | None = None, verify: bool = True
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
        self._verify = verify
        self._open = _ShardCache(build, open_shards)
        self._pool = BufferPool(allocate or _allocate_pages)

    def __len__(self) -> int:
        return len(self._samples.key)

    def read(self, indices: NDArray[np.int64]) -> Batch[NDArray[Any]]:
        """Read samples by their index in the split.

        Raises:
            BuildError: a member is not where the manifest says, or keys of inputs and targets differ (rule L7).
        """
        sizes, count = self.build.sizes, len(indices)
        step = (sizes.views, sizes.tokens, sizes.width)
        images = np.empty((count, sizes.views, sizes.image_size, sizes.image_size, 3), np.uint8)
        context = self._pool.array((count, *step), np.float16)
        latents = self._pool.array((count, sizes.steps, *step), np.float16)
        latent_mask = np.empty((count, sizes.steps), bool)
        actions = np.empty((count, sizes.chunk, sizes.action), np.float32) if sizes.action else None
        action_mask = np.empty((count, sizes.chunk), bool) if sizes.action else None
        contents = []
        for i, index in enumerate(indices):
            shard = self._open.shard(self._shards[self._position[int(self._samples.shard[index])]])
            row = int(self._samples.row[index])
            contents.append(self._read_inputs(shard, int(index), images[i]))
            self._check_key(shard, row, contents[-1], int(index))
            shard.targets.read_into(row, context[i], latents[i])
            latent_mask[i] = shard.targets.latent_mask[row]
            if actions is not None and action_mask is not None:
                assert shard.targets.actions is not None
                assert shard.targets.action_mask is not None
                actions[i], action_mask[i] = shard.targets.actions[row], shard.targets.action_mask[row]
        keys = tuple(content["key"] for content in contents)
        state = self._state(contents) if sizes.action else None
        observation: Observation[NDArray[Any]] = Observation(
            images, tuple(content["instruction"] for content in contents), state
        )
        if self._verify:
            rows = TargetRows(keys, context, latents, latent_mask, actions, action_mask)
            for i, index in enumerate(indices):
                self._check_digest("targets", rows.digest(i), self._samples.targets_sha256[index], int(index))
        return Batch(keys, observation, Targets(context, latents, latent_mask, actions, action_mask))

    def _state(self, contents: list[Mapping[str, Any]]) -> NDArray[np.float32]:
        """float32 [B, S]; a robot without a recorded state has S = 0."""
        rows = [content["state"] or [] for content in contents]
        return np.array(rows, np.float32).reshape(len(rows), self.build.sizes.state)

    def _read_inputs(self, shard: _OpenShard, index: int, images: NDArray[np.uint8]) -> Mapping[str, Any]:
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
                self._check_digest("inputs", digest.hexdigest(), samples.inputs_sha256[index], index)
            for view, data in enumerate(members[:-1]):
                images[view] = np.asarray(Image.open(io.BytesIO(data)))
            content: dict[str, Any] = json.loads(members[-1])
            return content
        except (OSError, ValueError) as error:
            raise BuildError(
                f"{shard.path}: sample {samples.key[index].as_py()} cannot be read ({error}); expected SHA-256 of the "
                f"file: {shard.sha256}; run vlajepa audit"
            ) from error

    def _check_digest(self, kind: str, found: str, listed: Any, index: int) -> None:
        if found != listed.as_py():
            shard = self._shards[self._position[int(self._samples.shard[index])]][kind]
            key = self._samples.key[index].as_py()
            raise BuildError(
                f"{self.build.path / shard['file']}: the {kind} of sample {key} have SHA-256 {found}, the audited "
                f"manifest lists {listed}; the file was changed or is damaged: copy the build again, run vlajepa audit"
            )

    def _check_key(self, shard: _OpenShard, row: int, content: Mapping[str, Any], index: int) -> None:
        listed = self._samples.key[index].as_py()
        stored = shard.targets.keys[row] if row < len(shard.targets.keys) else "(none)"
        if not listed == content.get("key") == stored:
            raise BuildError(
                f"{self.build.path}: row {row} is {listed} in the manifest, {content.get('key')} in {shard.path.name} "
                f"and {stored} in {shard.targets.path.name}; the shards do not belong together, run vlajepa audit"
            )


class BufferPool:
    """Memory for large arrays, reused once nothing refers to the array handed out.

    Fresh memory of this size costs a page fault every 4 KiB, about as much as the copy itself. Every array, view or
    tensor made from the array keeps it alive, so a buffer is never reused under a reader. A copy to a device that has
    not ended yet does not: hold the batch until the device has it.
    """

    def __init__(self, allocate: Allocate) -> None:
        self._allocate = allocate
        self._free: dict[int, list[NDArray[np.uint8]]] = {}  # no lock: a finaliser may run inside any operation

    def array(self, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        """An uninitialised array."""
        kind = np.dtype(dtype)
        size = int(np.prod(shape)) * kind.itemsize
        try:
            buffer = self._free.setdefault(size, []).pop()
        except IndexError:
            buffer = self._allocate(size)
        out = np.frombuffer(buffer.data, kind).reshape(shape)  # through a memoryview: its base is not `buffer` itself
        owner = out.base
        assert isinstance(owner, np.ndarray)
        weakref.finalize(owner, self._release, size, buffer)
        return out

    def _release(self, size: int, buffer: NDArray[np.uint8]) -> None:
        self._free[size].append(buffer)


class _SampleTable:
    """The columns of samples.parquet that reading needs, for one split, in manifest order."""

    def __init__(self, build: Build, split: str) -> None:
        path = build.path / "samples.parquet"
        listed = build.manifest["files"]["samples.parquet"]["sha256"]
        if hash_file(path) != listed:
            raise BuildError(f"{path} is not the one build.json lists (SHA-256 {listed}); copy the build again")
        table = pq.read_table(path, columns=_COLUMNS, filters=[("split", "=", split)])
        table = table.combine_chunks()
        self.key = table.column("key")
        self.shard = table.column("shard").to_numpy()
        self.row = table.column("row").to_numpy()
        views = build.sizes.views
        self.image_offset = _flat(table.column("image_offset")).reshape(-1, views)
        self.image_size = _flat(table.column("image_size")).reshape(-1, views)
        self.json_offset = table.column("json_offset").to_numpy()
        self.json_size = table.column("json_size").to_numpy()
        self.inputs_sha256 = table.column("inputs_sha256")
        self.targets_sha256 = table.column("targets_sha256")


class _OpenShard:
    """The two files of a shard, open."""

    def __init__(self, build: Build, shard: Mapping[str, Any]) -> None:
        self.path = build.path / shard["inputs"]["file"]
        self.sha256 = shard["inputs"]["sha256"]
        for kind in ("inputs", "targets"):
            _check_size(build, shard[kind])
        self._descriptor = os.open(self.path, os.O_RDONLY)
        weakref.finalize(self, os.close, self._descriptor)
        self.targets = TargetsReader(build.path / shard["targets"]["file"], build.sizes)

    def read(self, offset: int, size: int) -> bytes:
        data = os.pread(self._descriptor, size, offset)
        if len(data) != size:
            raise OSError(f"the file ends inside the {size} bytes at {offset}")
        return data


class _ShardCache:
    def __init__(self, build: Build, limit: int) -> None:
        self._build = build
        self._limit = limit
        self._open: OrderedDict[str, _OpenShard] = OrderedDict()
        self._lock = threading.Lock()

    def shard(self, entry: Mapping[str, Any]) -> _OpenShard:
        name = entry["inputs"]["file"]
        with self._lock:
            if name not in self._open:
                self._open[name] = _OpenShard(self._build, entry)
                if len(self._open) > self._limit:
                    self._open.popitem(last=False)
            self._open.move_to_end(name)
            return self._open[name]


def _check_size(build: Build, entry: Mapping[str, Any]) -> None:
    path = build.path / entry["file"]
    try:
        found = path.stat().st_size
    except OSError as error:
        raise BuildError(f"{path} of the build is missing ({error.strerror}); copy the build again") from error
    if found != entry["bytes"]:
        raise BuildError(f"{path} has {found} bytes, the manifest lists {entry['bytes']}; copy the build again")


def _flat(column: Any) -> NDArray[Any]:
    return column.combine_chunks().flatten().to_numpy()


def _allocate_pages(size: int) -> NDArray[np.uint8]:
    # Private: Linux ignores the advice on Python's default, a shared mapping.
    memory = mmap.mmap(-1, max(1, size), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        memory.madvise(mmap.MADV_HUGEPAGE)
    return np.frombuffer(memory, np.uint8)[:size]
