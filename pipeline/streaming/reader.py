"""Random access to the samples of a build: sample indices -> a batch of inputs and targets, joined by key.

Letters as in `schema.py`. Safe to use from several threads: shard files are opened once and read by offset.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import BuildError, CorruptError
from pipeline.format.build import Build
from pipeline.format.columns import latent_columns
from pipeline.format.enums import Verify
from pipeline.format.json.strict_json import parse
from pipeline.format.schema import Batch, Observation, Skipped, Targets
from pipeline.shards.targets_arrow import row_buffers
from pipeline.storage.shard_cache import FileCache
from pipeline.streaming.buffers import Allocate, BufferPool, allocate_pages
from pipeline.streaming.cameras import Cameras
from pipeline.streaming.jpeg import decode_jpeg
from pipeline.streaming.open_shards import OpenShard, OpenShards, ShardFiles
from pipeline.streaming.sample_table import SampleRow, SampleTable
from pipeline.streaming.tags import Part, Tags

_VIEW_AXES = {"context": 1, "context_scale": 1, "latents": 2, "latents_scale": 2}
"""Where the views of a batch's latents stand."""


class SampleReader:
    """Reads samples of one split of a finished build.

    Args:
        open_shards: shards kept open, with two or three file descriptors each. The least recently used one is closed
            first. A stream needs `Order.open_shards`.
        verify: how samples are compared with the manifest, so that training reads what was audited; in the reading
            threads.
        allocate: allocates the memory of a batch's latents. Buffers are reused once nothing refers to the batch.
        skip_corrupt: a sample that is unreadable or not the audited one does not raise. Its row is zeros, its masks are
            False, so that no loss uses it, and `Batch.skipped` names it.
        cache: for a build with remote shards.
        folder: where this user's readers on this node keep what they share, see `sample_table.py` and `tags.py`; None,
            or with `verify` every_sample, which trusts nothing there: nothing outlives this reader.
        cameras: that a batch holds; None: all. What is left out is read and compared all the same, but not decoded.

    Raises:
        BuildError: the build has no samples in this split, or a file does not match the manifest.
    """

    def __init__(
        self,
        build: Build,
        split: str,
        open_shards: int = 320,
        allocate: Allocate | None = None,
        verify: Verify = Verify.EVERY_SAMPLE,
        skip_corrupt: bool = False,
        cache: FileCache | None = None,
        folder: Path | None = None,
        cameras: Cameras | None = None,
    ) -> None:
        self.build = build
        self.split = split
        self.cameras = cameras or Cameras.all_of(build)
        shards = [shard for shard in build.manifest["shards"] if shard["split"] == split]
        if not shards:
            raise BuildError(
                f"{build.path} has no samples in split {split!r}; splits: {list(build.manifest['counts'])}"
            )
        self.shard_sizes = tuple(int(shard["samples"]) for shard in shards)
        self._shards = shards
        folder = None if verify is Verify.EVERY_SAMPLE else folder
        self._samples = SampleTable(build, split, None if folder is None else folder / "samples")
        self._position = {shard["index"]: i for i, shard in enumerate(shards)}
        self._verify, self._skip_corrupt = verify, skip_corrupt
        self._tags = Tags(build, split, None if folder is None else folder / "tags") if verify is Verify.ONCE else None
        self._open = OpenShards(ShardFiles(build, cache), open_shards)
        self._pool = BufferPool(allocate or allocate_pages)

    def __len__(self) -> int:
        return len(self._samples)

    def episode(self, index: int) -> str:
        """Episode of a sample."""
        return self._samples.episode(index)

    @property
    def remote(self) -> bool:
        """Whether the shards are remote."""
        return self._open.files.remote

    def prefetch(self, indices: NDArray[np.int64]) -> None:
        """Ask for the shards of samples that will be read; returns at once. Nothing to do for local shards."""
        for shard in np.unique(self._samples.shards(indices)):
            self._open.prefetch(self._shards[self._position[int(shard)]])

    def read(self, indices: NDArray[np.int64]) -> Batch[NDArray[Any]]:
        """Read samples by their index in the split.

        Raises:
            CorruptError: a member does not match the manifest, or the keys of inputs and targets differ (rule L7),
                unless `skip_corrupt`.
            BuildError: remote shards cannot be reached, or the cache is too small.
        """
        observation, targets = self._empty(len(indices))
        instructions, keys, skipped = [], [], []
        for i, index in enumerate(indices):
            row = self._samples.row(int(index))
            try:
                content = self._read_sample(observation, targets, i, int(index), row)
            except CorruptError as error:
                if not self._skip_corrupt:
                    raise
                for array in (observation.images, observation.state, *vars(targets).values()):
                    if array is not None:
                        array[i] = 0  # no loss sees a row of zeros
                skipped.append(Skipped(row.key, str(error)))
                content = {"instruction": ""}
            keys.append(row.key)
            instructions.append(content["instruction"])
        observation = replace(observation, instruction=tuple(instructions))
        return Batch(tuple(keys), observation, self._of_cameras(targets), tuple(skipped))

    def _of_cameras(self, targets: Targets[NDArray[Any]]) -> Targets[NDArray[Any]]:
        """Targets with the latents of the chosen cameras alone, in memory of the same kind."""
        chosen = self.cameras.latents
        if len(chosen) == self.build.sizes.views:
            return targets
        picked = {}
        for name, array in vars(targets).items():
            if array is not None and name in _VIEW_AXES:
                axis = _VIEW_AXES[name]
                shape = (*array.shape[:axis], len(chosen), *array.shape[axis + 1 :])
                picked[name] = self._pool.array(shape, array.dtype)
                np.take(array, chosen, axis, out=picked[name], mode="clip")  # the other modes copy once more
        return replace(targets, **picked)

    def _empty(self, count: int) -> tuple[Observation[NDArray[Any]], Targets[NDArray[Any]]]:
        """Arrays of a batch, to be filled in place."""
        sizes = self.build.sizes
        columns = latent_columns(sizes, self.build.latents)
        latents = {name: self._pool.array((count, *shape), kind) for name, (kind, shape) in columns.items()}
        robot = bool(sizes.action)
        images = np.empty((count, len(self.cameras.images), sizes.image_size, sizes.image_size, 3), np.uint8)
        state = np.empty((count, sizes.state), np.float32) if robot else None
        targets: Targets[NDArray[Any]] = Targets(
            **latents,
            latent_mask=np.empty((count, sizes.steps), bool),
            actions=np.empty((count, sizes.chunk, sizes.action), np.float32) if robot else None,
            action_mask=np.empty((count, sizes.chunk), bool) if robot else None,
        )
        return Observation(images, (), state), targets

    def _read_sample(
        self,
        observation: Observation[NDArray[Any]],
        targets: Targets[NDArray[Any]],
        i: int,
        index: int,
        sample: SampleRow,
    ) -> Mapping[str, Any]:
        """Fill row i; the content of the sample's JSON."""
        shard = self._open.shard(self._shards[self._position[sample.shard]])
        content = self._read_inputs(shard, index, sample, observation, i)
        self._check_key(shard, sample, content)
        latents = {name: getattr(targets, name)[i] for name in latent_columns(self.build.sizes, self.build.latents)}
        shard.targets.read_into(sample.row, **latents)
        targets.latent_mask[i] = shard.targets.latent_mask[sample.row]
        if targets.actions is not None and targets.action_mask is not None:
            assert shard.targets.actions is not None
            assert shard.targets.action_mask is not None
            targets.actions[i] = shard.targets.actions[sample.row]
            targets.action_mask[i] = shard.targets.action_mask[sample.row]
        self._check(shard.targets.path, Part.TARGETS, tuple(row_buffers(targets, i)), index, sample)
        return content

    def _read_inputs(
        self, shard: OpenShard, index: int, sample: SampleRow, observation: Observation[NDArray[Any]], i: int
    ) -> Mapping[str, Any]:
        try:
            members = [shard.read(offset, size) for offset, size in sample.members]
            self._check(shard.path, Part.INPUTS, members, index, sample)
            for place, view in enumerate(self.cameras.images):
                decode_jpeg(members[view], observation.images[i, place])
            content = _document(members[-1])
            if observation.state is not None:
                observation.state[i] = content["state"] or []  # a robot without a recorded state has S = 0
            return content
        except (OSError, ValueError) as error:
            raise CorruptError(
                f"{shard.path}: sample {sample.key} cannot be read ({error}); expected SHA-256 of the file: "
                f"{shard.sha256}; run vlajepa audit"
            ) from error

    def _check(self, path: Path, part: Part, content: Sequence[Any], index: int, sample: SampleRow) -> None:
        """Raise CorruptError unless a half of a sample is what the manifest lists."""
        if self._verify is Verify.OFF:
            return
        tag = None if self._tags is None else self._tags.of(part, index, content)
        if self._tags is not None and tag is not None and self._tags.knows(part, index, tag):
            return
        digest = hashlib.sha256()
        for piece in content:
            digest.update(piece)
        if digest.digest() != (sample.inputs_sha256, sample.targets_sha256)[part]:
            raise self._changed(path, part, digest.hexdigest(), sample)
        if self._tags is not None and tag is not None:
            self._tags.keep(part, index, tag)

    def _changed(self, path: Path, part: Part, found: str, sample: SampleRow) -> CorruptError:
        kind = part.name.lower()
        shard = self._shards[self._position[sample.shard]][kind]
        listed = (sample.inputs_sha256, sample.targets_sha256)[part].hex()
        fix = "delete this copy" if self.remote else "copy the build again, run vlajepa audit"
        return CorruptError(
            f"{path}: the {kind} of sample {sample.key} have SHA-256 {found}, the audited manifest lists {listed}; the "
            f"file was changed or is damaged ({shard['file']}, whose SHA-256 is {shard['sha256']}): {fix}"
        )

    def _check_key(self, shard: OpenShard, sample: SampleRow, content: Mapping[str, Any]) -> None:
        stored = shard.targets.keys[sample.row] if sample.row < len(shard.targets.keys) else "(none)"
        if not sample.key == content.get("key") == stored:
            raise CorruptError(
                f"{self.build.path}: row {sample.row} is {sample.key} in the manifest, {content.get('key')} in "
                f"{shard.path.name} and {stored} in {shard.targets.path.name}; the shards do not belong together, run "
                "vlajepa audit"
            )


def _document(data: bytes) -> dict[str, Any]:
    """A sample's KEY.json. Raises ValueError when it is not what its format says."""
    content = parse(data)
    if not isinstance(content, dict) or not isinstance(content.get("instruction"), str):
        raise ValueError("its JSON is no object with an instruction")
    state = content.get("state", "")
    if state is not None and not (isinstance(state, list) and all(type(value) in (int, float) for value in state)):
        raise ValueError("state must be a list of numbers or null")
    return content
