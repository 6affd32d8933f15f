"""Batches from a real build: joined by key, the same for any number of threads, ranks and restarts."""

from __future__ import annotations

import io
import itertools
import json
import shutil
import tarfile
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import webdataset as wds
from numpy.typing import NDArray
from PIL import Image

from pipeline.errors import BuildError
from pipeline.manifest import Build, load_build
from pipeline.order import Order
from pipeline.reader import BufferPool, SampleReader
from pipeline.schema import Batch
from pipeline.stream import Stream, ordered_batches


def make_stream(build: Build, batch: int = 4, rank: int = 0, world: int = 1, threads: int = 0) -> Stream:
    reader = SampleReader(build, "train")
    order = Order(reader.shard_sizes, build.fingerprint, 0, batch, streams=4, block_shards=2)
    return Stream(reader, order, rank, world, threads)


def content(batch: Batch[NDArray[Any]]) -> bytes:
    o, t = batch.observation, batch.targets
    arrays = [o.images, o.state, t.context, t.latents, t.latent_mask, t.actions, t.action_mask]
    return b"".join(a.tobytes() for a in arrays if a is not None) + repr((batch.keys, o.instruction)).encode()


def test_a_batch_equals_what_plain_libraries_read(robot_build: Build) -> None:
    """webdataset and pyarrow alone, without any of our code, read the same samples."""
    (batch,) = ordered_batches(SampleReader(robot_build, "val"), 10_000)
    shard = next(s for s in robot_build.manifest["shards"] if s["split"] == "val")
    plain = list(wds.WebDataset(str(robot_build.path / shard["inputs"]["file"]), shardshuffle=False))
    table = pa.ipc.open_file(str(robot_build.path / shard["targets"]["file"])).read_all()
    rows = len(plain)
    assert list(batch.keys[:rows]) == [s["__key__"] for s in plain] == table.column("key").to_pylist()
    for name in ("context", "latents", "actions"):
        values = np.concatenate([chunk.to_numpy_ndarray() for chunk in table.column(name).chunks])
        assert np.array_equal(getattr(batch.targets, name)[:rows], values)
    assert batch.observation.state is not None
    for i, sample in enumerate(plain):
        meta = json.loads(sample["json"])
        assert batch.observation.instruction[i] == meta["instruction"]
        assert np.array_equal(batch.observation.state[i], np.float32(meta["state"]))
        for view, name in enumerate(robot_build.views):
            pixels = np.asarray(Image.open(io.BytesIO(sample[f"{name}.jpg"])))
            assert np.array_equal(batch.observation.images[i, view], pixels)


def test_human_video_has_neither_state_nor_actions(video_build: Build) -> None:
    batch = make_stream(video_build).batch(0)
    assert batch.observation.state is None
    assert batch.targets.actions is None
    assert batch.targets.action_mask is None
    assert batch.observation.images.shape == (4, 1, 64, 64, 3)
    assert batch.targets.latents.shape == (4, 3, 1, 16, 96)


@pytest.mark.parametrize("threads", [1, 3])
def test_threads_do_not_change_batches(robot_build: Build, threads: int) -> None:
    plain = [content(b) for b in make_stream(robot_build).batches(0, 7)]
    assert [content(b) for b in make_stream(robot_build, threads=threads).batches(0, 7)] == plain


def test_a_restart_at_every_step_gives_the_same_tail(robot_build: Build) -> None:
    whole = [content(b) for b in make_stream(robot_build, threads=2).batches(0, 8)]
    for start in range(8):
        assert [content(b) for b in make_stream(robot_build, threads=2).batches(start, 8)] == whole[start:]


def test_ranks_share_the_global_batch(robot_build: Build) -> None:
    whole = make_stream(robot_build).batch(3).keys
    parts = [make_stream(robot_build, rank=rank, world=2).batch(3).keys for rank in range(2)]
    assert (parts[0][0], parts[1][0], parts[0][1], parts[1][1]) == whole


def test_a_consumer_that_stops_early_leaves_no_threads(robot_build: Build) -> None:
    batches = make_stream(robot_build, threads=2).batches()
    next(batches)
    assert any(thread.name.startswith("stream") for thread in threading.enumerate())
    batches.close()  # type: ignore[attr-defined]
    assert not any(thread.name.startswith("stream") for thread in threading.enumerate())


def copy_of(build: Build, path: Path) -> Path:
    shutil.copytree(build.path, path)
    return path


def test_shards_of_different_order_are_refused(video_build: Build, tmp_path: Path) -> None:
    """A tar whose samples were swapped: every byte reads well, but the keys no longer meet (rule L7)."""
    path = copy_of(video_build, tmp_path / "build")
    name = path / video_build.manifest["shards"][0]["inputs"]["file"]
    with tarfile.open(name) as tar:
        members = [member for member in tar.getmembers() if member.name.endswith(".json")]
    pairs = itertools.combinations(members, 2)
    first, second = next(pair for pair in pairs if pair[0].size == pair[1].size)  # offsets stay as they are
    data, size = bytearray(name.read_bytes()), first.size
    one = slice(first.offset_data, first.offset_data + size)
    two = slice(second.offset_data, second.offset_data + size)
    data[one], data[two] = data[two], data[one]
    name.write_bytes(data)
    with pytest.raises(BuildError, match="do not belong together"):
        list(ordered_batches(SampleReader(load_build(path), "train", verify=False), 4))
    with pytest.raises(BuildError, match="have SHA-256"):
        list(ordered_batches(SampleReader(load_build(path), "train"), 4))


@pytest.mark.parametrize("kind", ["inputs", "targets"])
def test_a_shard_of_another_size_is_refused(robot_build: Build, tmp_path: Path, kind: str) -> None:
    path = copy_of(robot_build, tmp_path / "build")
    name = path / robot_build.manifest["shards"][0][kind]["file"]
    name.write_bytes(name.read_bytes()[:-1])
    with pytest.raises(BuildError, match="the manifest lists"):
        list(ordered_batches(SampleReader(load_build(path), "train"), 4))


def test_a_missing_split_names_those_there(video_build: Build) -> None:
    with pytest.raises(BuildError, match="no samples in split 'test'"):
        SampleReader(video_build, "test")


def test_buffers_are_reused_only_when_nobody_looks() -> None:
    made: list[int] = []

    def allocate(size: int) -> NDArray[np.uint8]:
        made.append(size)
        return np.zeros(size, np.uint8)

    pool = BufferPool(allocate)
    first = pool.array((4, 2), np.float16)
    first[:] = 1
    view = first[2:]
    del first
    second = pool.array((4, 2), np.float16)
    second[:] = 2
    assert made == [16, 16]
    assert (view == 1).all()
    del view, second
    third, fourth = pool.array((4, 2), np.float16), pool.array((4, 2), np.float16)
    assert made == [16, 16]
    assert third.ctypes.data != fourth.ctypes.data
