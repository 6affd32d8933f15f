"""Objects of a bucket as files: the bytes that a local file has, in as few as are asked for."""

from __future__ import annotations

import contextlib
import io
import os
import uuid
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.errors import BuildError, SettingsError
from pipeline.sources.files import find_files
from pipeline.sources.libero.source import LiberoSource
from pipeline.storage import object_store
from pipeline.storage.raw import bucket_file, local_copies
from pipeline.storage.raw.bucket_path import BucketPath
from pipeline.storage.raw.places import handle, on_disk, raw_path, raw_root
from pipeline.storage.retry import Retry
from tests.pipeline.storage.flaky_proxy import FlakyProxy, even_rates
from tests.pipeline.storage.s3_server import be_impatient, put_object, s3_client, s3_server, upload

NAMES = ("a.hdf5", "x/b.hdf5", "x/y/c.hdf5", ".hidden/d.hdf5", "x/.e.hdf5", "x/b.txt", "x/sub-1/f.txt", "x2/b.hdf5")
PATTERNS = ("**/*.hdf5", "x/*.hdf5", "x/sub-*/f.txt", "*/b.*", "no/*.hdf5", "x/b.hdf?")


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    with s3_server() as bucket:
        yield bucket


@pytest.fixture
def folder(s3: str) -> str:
    """A place of its own."""
    return f"{s3}/{uuid.uuid4().hex}/raw"


@contextlib.contextmanager
def spoiled() -> Iterator[FlakyProxy]:
    """A proxy that all reads in the block go through."""
    made = FlakyProxy(os.environ["AWS_ENDPOINT_URL"], seed=5)
    with made.running() as address, pytest.MonkeyPatch.context() as patch:
        be_impatient(patch)
        patch.setattr(object_store, "Retry", partial(Retry, delay=0.01))
        patch.setenv("AWS_ENDPOINT_URL", address)
        yield made


def place(url: str) -> BucketPath:
    found = raw_path(url)
    assert isinstance(found, BucketPath)
    return found


@pytest.mark.slow
def test_patterns_find_what_they_find_in_a_folder(folder: str, tmp_path: Path) -> None:
    for name in NAMES:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    upload(tmp_path, folder)
    put_object(f"{folder}/x/", b"")  # the mark of an empty folder
    put_object(f"{folder}2/x/b.hdf5", b"of a neighbour")
    for pattern in PATTERNS:
        here = [os.path.relpath(path, tmp_path) for path in find_files(str(tmp_path), pattern)]
        assert [path.removeprefix(f"{folder}/") for path in find_files(folder, pattern)] == here
    assert set(place(f"{folder}/x").files()) == {".e.hdf5", "b.hdf5", "b.txt"}
    assert place(folder).is_dir()
    assert not place(f"{folder}/nothing").is_dir()
    assert not place(f"{folder}/x").is_file()
    assert not (place(folder) / "../../other").is_file()


@pytest.mark.slow
@pytest.mark.parametrize("size", [0, 1, bucket_file.BLOCK, 3 * bucket_file.BLOCK + 1, 60 * bucket_file.BLOCK])
def test_every_read_gives_the_bytes_of_the_object(folder: str, size: int) -> None:
    rng = np.random.default_rng(size)
    data = rng.bytes(size)
    put_object(f"{folder}/film", data)
    local = io.BytesIO(data)
    with place(f"{folder}/film").open() as file:
        for _ in range(60):
            at, count = (int(value) for value in rng.integers(0, size + 10, 2))
            assert file.seek(at) == local.seek(at)
            assert file.read(count) == local.read(count)
        file.seek(0)
        assert file.read() == data
    assert place(f"{folder}/film").read_bytes() == data
    with on_disk(f"{folder}/film") as copy:
        assert Path(copy).read_bytes() == data


@pytest.mark.slow
def test_a_frame_costs_its_range_and_not_the_file(folder: str, tmp_path: Path) -> None:
    """Of 20 MB of pictures one is read: a request or two for the place of it, and few bytes."""
    pictures = np.random.default_rng(0).integers(0, 256, (100, 256, 256, 3), np.uint8)
    with h5py.File(tmp_path / "a.hdf5", "w") as file:
        file["obs/front"] = pictures
    pq.write_table(pa.table({name: pictures[..., 0, 0].ravel() for name in "abcdefgh"}), tmp_path / "a.parquet")
    upload(tmp_path, folder)
    with spoiled() as counting, h5py.File(handle(f"{folder}/a.hdf5"), "r") as file:
        np.testing.assert_array_equal(file["obs/front"][20], pictures[20])
    assert counting.counts["requests"] < 10
    fetched: list[int] = []
    real = bucket_file.BucketObject.read
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bucket_file.BucketObject, "read", lambda self, a, b: fetched.append(b - a) or real(self, a, b))
        with h5py.File(handle(f"{folder}/a.hdf5"), "r") as file:
            np.testing.assert_array_equal(file["obs/front"][7], pictures[7])
    assert sum(fetched) < 1_500_000


@pytest.mark.slow
def test_requests_that_fail_are_tried_again_and_never_change_a_byte(folder: str) -> None:
    data = np.random.default_rng(1).bytes(5_000_000)
    put_object(f"{folder}/film", data)
    with spoiled() as proxy:
        proxy.rates = even_rates(0.25)
        for _ in range(4):
            with place(f"{folder}/film").open() as file:
                for at in (4_000_000, 0, 2_500_000):
                    file.seek(at)
                    assert file.read(500_000) == data[at : at + 500_000]
            assert place(f"{folder}/film").read_bytes() == data
            assert [path.key for path in place(folder).glob("*")] == [place(f"{folder}/film").key]
        with on_disk(f"{folder}/film") as copy:
            assert Path(copy).read_bytes() == data
    assert proxy.injected > 5


@pytest.mark.slow
def test_a_network_that_is_gone_stops_the_build_and_is_no_damaged_file(folder: str) -> None:
    """In the middle of HDF5's and Arrow's own code: the message is the store's, and no episode is counted as bad."""
    with h5py.File(file := io.BytesIO(), "w") as made:
        made["data/demo_0/actions"] = np.zeros((9, 7))
        made["data/demo_0/obs/agentview_rgb"] = np.zeros((9, 8, 8, 3), np.uint8)
    put_object(f"{folder}/task.hdf5", file.getvalue())
    pq.write_table(pa.table({"a": [1]}), table := io.BytesIO())
    put_object(f"{folder}/a.parquet", table.getvalue())
    source = LiberoSource(root=folder, name="libero", cameras=("agentview_rgb",))
    with spoiled() as proxy:
        opened = [raw_path(f"{folder}/{name}").open("rb") for name in ("task.hdf5", "a.parquet")]
        proxy.rates = {"503": 1.0}
        for read in (lambda: h5py.File(opened[0], "r"), lambda: pq.read_table(opened[1]), source.index):
            with pytest.raises(BuildError, match="cannot be read or written, tried 6 times"):
                read()


@pytest.mark.slow
def test_an_object_that_is_replaced_while_it_is_read(folder: str) -> None:
    put_object(f"{folder}/film", b"a" * 1_000_000)
    with place(f"{folder}/film").open() as file:
        assert file.read(10) == b"a" * 10
        put_object(f"{folder}/film", b"b" * 1_000_000)
        file.seek(900_000)
        with pytest.raises(BuildError, match="film was replaced while it was read"):
            file.read(10)
    with on_disk(f"{folder}/film") as copy:
        assert Path(copy).read_bytes() == b"b" * 1_000_000


@pytest.mark.slow
def test_copies_take_the_room_that_they_may(folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLAJEPA_RAW_CACHE", str(tmp_path / "c"))
    monkeypatch.setenv("VLAJEPA_RAW_CACHE_GB", "0.0000025")
    monkeypatch.setattr(local_copies, "_PATIENCE_S", 0.0)
    for number in range(4):
        put_object(f"{folder}/film{number}", bytes([number]) * 1000)
    for number in (0, 1, 2, 3, 0):
        with on_disk(f"{folder}/film{number}") as copy:
            assert Path(copy).read_bytes() == bytes([number]) * 1000
        held = [path for path in (tmp_path / "c").glob("*/*") if path.parent.name != "downloads"]
        assert sum(path.stat().st_size for path in held) <= 2500
    put_object(f"{folder}/large", b"x" * 3000)
    with pytest.raises(BuildError, match="may hold 2,500; raise VLAJEPA_RAW_CACHE_GB"), on_disk(f"{folder}/large"):
        pass
    monkeypatch.setenv("VLAJEPA_RAW_CACHE_GB", "many")
    with pytest.raises(SettingsError, match="VLAJEPA_RAW_CACHE_GB must be a number"), on_disk(f"{folder}/large"):
        pass


@pytest.mark.slow
def test_what_is_not_there_or_not_allowed(s3: str, folder: str) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        place(f"{folder}/film").read_bytes()
    assert (caught.value.strerror, caught.value.filename) == ("No such file or directory", f"{folder}/film")
    with pytest.raises(FileNotFoundError), on_disk(f"{folder}/film"):
        pass
    assert list(place("s3://no-such-bucket/x").glob("**/*")) == []
    assert s3_client().list_objects_v2(Bucket=s3.removeprefix("s3://"), Prefix="nothing")["KeyCount"] == 0


@pytest.mark.parametrize(
    ("root", "message"),
    [
        ("https://host/data", "cannot be read in place"),
        ("hf://datasets/x/y", "cannot be read in place"),
        ("s3:///folder", "cannot be read in place"),
        ("s3:/bucket/folder", "lost a slash; write it as in s3://bucket/folder"),
        ("s3://AKIA123:hunter2@bucket/folder", "credentials in it"),
    ],
)
def test_addresses_that_are_refused(root: str, message: str) -> None:
    with pytest.raises(SettingsError, match=message) as caught:
        raw_root(root, "source.root")
    assert "hunter2" not in str(caught.value)
    assert "AKIA123" not in str(caught.value)


@pytest.mark.parametrize(
    ("root", "expected"),
    [
        ("s3://bucket", "s3://bucket"),
        ("s3://bucket//a/./b/", "s3://bucket/a/b"),
        ("gs://bucket/a", "gs://bucket/a"),
        ("data/x", str(Path("data/x").resolve())),
    ],
)
def test_addresses_in_one_spelling(root: str, expected: str) -> None:
    assert raw_root(root, "source.root") == expected
