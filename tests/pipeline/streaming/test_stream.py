"""Batches from a real build: joined by key, the same for any number of threads, ranks and restarts."""

from __future__ import annotations

import io
import itertools
import json
import shutil
import tarfile
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import webdataset as wds
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from pipeline.errors import BuildError, SettingsError
from pipeline.format.build import Build, load_build
from pipeline.format.build_settings import WindowPolicy
from pipeline.format.enums import Verify
from pipeline.format.schema import Batch
from pipeline.streaming.buffers import BufferPool, allocate_pages
from pipeline.streaming.mixture import Mixture
from pipeline.streaming.open_shards import OpenShard, OpenShards, ShardFiles
from pipeline.streaming.order import Order
from pipeline.streaming.reader import SampleReader
from pipeline.streaming.stream import BuildBatch, Stream, ordered_indices
from tests.conftest import SampleData
from tests.jobs.runs import build_config, make_here, robot_source


def make_stream(
    *builds: Build, batch: int = 4, rank: int = 0, world: int = 1, threads: int = 0, readers: Any = None
) -> Stream:
    readers = readers or [SampleReader(build, "train") for build in builds]
    orders = [Order(reader.shard_sizes, reader.build.fingerprint, 0, streams=8, block_shards=2) for reader in readers]
    mixture = Mixture([order.samples for order in orders], batch, 8)
    return Stream(readers, orders, mixture, rank, world, threads)


def content(batch: Batch[NDArray[Any]]) -> bytes:
    return b"".join(part for row in rows(batch) for part in row)


def rows(batch: Batch[NDArray[Any]]) -> list[tuple[bytes, ...]]:
    """Each sample with everything that belongs to it."""
    o, t = batch.observation, batch.targets
    arrays = [o.images, o.state, t.context, t.latents, t.latent_mask, t.actions, t.action_mask]
    return [
        (key.encode(), o.instruction[i].encode(), *(a[i].tobytes() for a in arrays if a is not None))
        for i, key in enumerate(batch.keys)
    ]


def global_rows(parts_by_rank: list[list[BuildBatch]]) -> list[list[tuple[bytes, ...]]]:
    """The parts of all ranks put together again: sample p of a build came from rank p mod W."""
    builds = [part.build for part in parts_by_rank[0]]
    assert all([part.build for part in parts] == builds for parts in parts_by_rank)
    by_build = [[rows(parts[i].batch) for parts in parts_by_rank] for i in range(len(builds))]
    return [[row for one in zip(*ranks, strict=True) for row in one] for ranks in by_build]


def read_all(reader: SampleReader, batch_size: int) -> Iterator[Batch[NDArray[Any]]]:
    return map(reader.read, ordered_indices(len(reader), batch_size))


def test_a_batch_equals_what_plain_libraries_read(robot_build: Build) -> None:
    """webdataset and pyarrow alone, without any of our code, read the same samples."""
    (batch,) = read_all(SampleReader(robot_build, "val"), 10_000)
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
    (part,) = make_stream(video_build).build_batches(0)
    batch = part.batch
    assert batch.observation.state is None
    assert batch.targets.actions is None
    assert batch.targets.action_mask is None
    assert batch.observation.images.shape == (4, 1, 64, 64, 3)
    assert batch.targets.latents.shape == (4, 3, 1, 16, 96)


@pytest.fixture(scope="session")
def second_robot(sample_data: SampleData, tmp_path_factory: pytest.TempPathFactory) -> Build:
    """The robot episodes under another name with other windows: 2 views, fewer samples than `robot_build`."""
    source = robot_source(sample_data.lerobot, val_share=0.0)
    source["name"] = "second"
    return make_here(build_config(tmp_path_factory.mktemp("builds") / "second", source, window=WindowPolicy(every=9)))


@pytest.mark.parametrize("world", [1, 2, 4, 8])
@pytest.mark.parametrize("threads", [0, 1, 3])
def test_any_ranks_and_threads_give_the_same_global_batches(
    robot_build: Build, second_robot: Build, threads: int, world: int
) -> None:
    """Two builds that share batches, byte for byte, over more than an epoch of the smaller one."""
    readers = [SampleReader(build, "train") for build in (robot_build, second_robot)]
    steps = 1 + min(len(reader) for reader in readers) // 4
    whole = make_stream(readers=readers, batch=8)
    streams = [make_stream(readers=readers, batch=8, rank=r, world=world, threads=threads) for r in range(world)]
    batches = [list(stream.batches(0, steps)) for stream in streams]
    for step in range(steps):
        assert global_rows([rank[step] for rank in batches]) == global_rows([whole.build_batches(step)])
        seen = [row[0] for build in global_rows([rank[step] for rank in batches]) for row in build]
        assert len(set(seen)) == len(seen) == 8  # no two ranks share a sample


def test_an_epoch_holds_every_sample_once(robot_build: Build) -> None:
    stream = make_stream(robot_build, batch=4)
    samples = stream.orders[0].samples
    keys = [key for parts in stream.batches(0, samples) for part in parts for key in part.batch.keys]
    assert len(keys) == 4 * samples
    for epoch in range(4):
        assert len(set(keys[epoch * samples : (epoch + 1) * samples])) == samples


def test_a_restart_at_every_step_gives_the_same_tail(robot_build: Build, second_robot: Build) -> None:
    readers = [SampleReader(build, "train") for build in (robot_build, second_robot)]
    whole = [global_rows([parts]) for parts in make_stream(readers=readers, batch=8).batches(0, 8)]
    for start in range(8):
        stream = make_stream(readers=readers, batch=8, threads=2)
        assert [global_rows([parts]) for parts in stream.batches(start, 8)] == whole[start:]


def test_a_restart_on_other_ranks_gives_the_same_tail(robot_build: Build) -> None:
    readers = [SampleReader(robot_build, "train")]
    whole = [global_rows([parts]) for parts in make_stream(readers=readers, batch=8).batches(0, 6)]
    for start, world in ((1, 2), (3, 8), (5, 4)):
        streams = [make_stream(readers=readers, batch=8, rank=rank, world=world) for rank in range(world)]
        tails = zip(*(stream.batches(start, 6) for stream in streams), strict=True)
        assert [global_rows(list(parts)) for parts in tails] == whole[start:]


class Shelf:
    """Stands for a reader where only integers matter."""

    remote = False
    split = "train"

    def __init__(self, build: Build) -> None:
        self.build = build


@given(
    st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=9), min_size=1, max_size=3),
    st.lists(st.integers(1, 9), min_size=3, max_size=3),
    st.sampled_from([1, 2, 4, 8]),
    st.integers(0, 50),
)
def test_ranks_never_share_a_sample_of_a_step(
    robot_build: Build, builds: list[list[int]], weights: list[int], world: int, step: int
) -> None:
    """The whole of what a step draws, as integers: for any builds and weights, ranks cut it without rest or overlap."""
    orders = [Order(sizes, str(i), 0, streams=8, block_shards=4) for i, sizes in enumerate(builds)]
    mixture = Mixture(weights[: len(builds)], 8, 8)
    if any(order.samples < mixture.largest(i) for i, order in enumerate(orders)):
        return
    shelves: Any = [Shelf(robot_build)] * len(builds)
    one = Stream(shelves, orders, mixture).indices(step)
    assert sum(len(chosen) for _, chosen in one) == 8
    ranks = [Stream(shelves, orders, mixture, rank, world).indices(step) for rank in range(world)]
    for position, (build, chosen) in enumerate(one):
        assert all(rank[position][0] == build for rank in ranks)
        assert np.array_equal(np.stack([rank[position][1] for rank in ranks], axis=1).reshape(-1), chosen)


def test_a_build_smaller_than_its_share_is_refused(video_build: Build) -> None:
    with pytest.raises(SettingsError, match="ssv2: train has 24 samples, fewer than the 32 it gives"):
        make_stream(video_build, batch=32)


def test_memory_of_batches_is_used_again(robot_build: Build) -> None:
    """What a step leaves behind is what the next one fills: the loader's memory does not grow with time."""
    made: list[int] = []

    def allocate(size: int) -> NDArray[np.uint8]:
        made.append(size)
        return allocate_pages(size)

    reader = SampleReader(robot_build, "train", allocate=allocate)
    batches = make_stream(readers=[reader], threads=2).batches(0, 60)
    for _ in batches:
        pass
    # Two arrays for each of at most seven batches: four ready or under way, two being read, one in use.
    assert len(made) <= 2 * 7


def test_a_consumer_that_stops_early_leaves_no_threads(robot_build: Build) -> None:
    batches = make_stream(robot_build, threads=2).batches()
    next(batches)
    assert any(thread.name.startswith("stream") for thread in threading.enumerate())
    batches.close()  # type: ignore[attr-defined]
    assert not any(thread.name.startswith("stream") for thread in threading.enumerate())


@pytest.mark.parametrize("kind", ["inputs", "targets"])
def test_corrupt_samples_can_be_skipped(robot_build: Build, tmp_path: Path, kind: str) -> None:
    """The bad sample's row is empty and masked on whatever rank has it; every other row is as it was."""
    path = copy_of(robot_build, tmp_path / "build")
    good = make_stream(robot_build, batch=8).build_batches(0)[0].batch
    files = [path / shard[kind]["file"] for shard in robot_build.manifest["shards"] if shard["split"] == "train"]
    file = files[0]
    if kind == "targets":
        file = next(file for file in files if good.targets.latents[3].tobytes() in file.read_bytes())
    data = bytearray(file.read_bytes())
    if kind == "targets":
        place = data.index(good.targets.latents[3].tobytes()) + 5
    else:
        with tarfile.open(file) as tar:
            place = tar.getmembers()[4].offset_data + 100
    data[place] ^= 1
    file.write_bytes(data)
    found: list[str] = []
    for world in (1, 4):
        readers = [SampleReader(load_build(path), "train", skip_corrupt=True)]
        steps = range(-(-len(readers[0]) // 8))
        streams = [make_stream(readers=readers, batch=8, rank=rank, world=world) for rank in range(world)]
        batches = [[stream.build_batches(step)[0].batch for step in steps] for stream in streams]
        skipped = {s.key: s.reason for rank in batches for batch in rank for s in batch.skipped}
        found.append(repr(sorted(skipped.items())))
        assert len(skipped) == 1
        assert file.name in next(iter(skipped.values()))
        for rank in batches:
            for batch in rank:
                for i, key in enumerate(batch.keys):
                    empty = not batch.targets.latent_mask[i].any() and not batch.observation.images[i].any()
                    assert empty == (key in skipped)
    assert found[0] == found[1]


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
        list(read_all(SampleReader(load_build(path), "train", verify=Verify.OFF), 4))
    with pytest.raises(BuildError, match="have SHA-256"):
        list(read_all(SampleReader(load_build(path), "train"), 4))


@pytest.mark.parametrize("kind", ["inputs", "targets"])
def test_a_shard_of_another_size_is_refused(robot_build: Build, tmp_path: Path, kind: str) -> None:
    path = copy_of(robot_build, tmp_path / "build")
    name = path / robot_build.manifest["shards"][0][kind]["file"]
    name.write_bytes(name.read_bytes()[:-1])
    with pytest.raises(BuildError, match="the manifest lists"):
        list(read_all(SampleReader(load_build(path), "train"), 4))


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


def test_a_full_set_of_open_shards_closes_one_before_it_opens_another(robot_build: Build, tmp_path: Path) -> None:
    """Shards that lie in a cache are held while they are open: the cache has room for so many, and not for one more."""
    held: list[int] = []
    alive: weakref.WeakSet[Any] = weakref.WeakSet()

    class Watched(OpenShard):
        def __init__(self, *arguments: Any) -> None:
            held.append(len(alive))
            super().__init__(*arguments)
            alive.add(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipeline.streaming.open_shards.OpenShard", Watched)
        shards = OpenShards(ShardFiles(robot_build, None), 2)
        entries = robot_build.manifest["shards"]
        for entry in [*entries, *entries]:
            shards.shard(entry)
    assert len(entries) == 3
    assert max(held) == 1
