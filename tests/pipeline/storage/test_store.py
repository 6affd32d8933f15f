"""A build folder as a store: the same behaviour in a folder, on S3 and in memory; locks; a full disk."""

from __future__ import annotations

import errno
import multiprocessing
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from obstore.store import MemoryStore

from pipeline.errors import BuildError
from pipeline.format.input_sample import InputSample
from pipeline.format.schema import Sizes
from pipeline.shards.inputs_tar import InputsWriter
from pipeline.shards.targets_arrow import TargetRows, TargetsWriter
from pipeline.storage import atomic, clients, store
from pipeline.storage.object_store import ObjectStore
from pipeline.storage.retry import Retry
from pipeline.storage.store import LocalStore, Store, open_store
from tests.conftest import SampleData
from tests.jobs.test_cli import run
from tests.pipeline.storage.s3_server import s3_server

SPAWN = multiprocessing.get_context("spawn")
LOCK = "lock/driver.json"


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    with s3_server() as bucket:
        yield bucket


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of a bucket in memory."""
    monkeypatch.setitem(clients._clients, (os.getpid(), "memory", "builds", None, None, None), MemoryStore())
    return "memory://builds"


@pytest.fixture(params=["folder", pytest.param("s3", marks=pytest.mark.slow), "memory"])
def made(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[str], Store]:
    """Makes stores of one kind; names that begin alike lie beside each other."""
    root = f"{uuid.uuid4().hex}"
    if request.param == "folder":
        return lambda name: open_store(tmp_path / root / name)
    bucket = request.getfixturevalue("s3" if request.param == "s3" else "memory")
    return lambda name: open_store(f"{bucket}/{root}/{name}")


def test_what_is_written_is_read(made: Callable[[str], Store]) -> None:
    place = made("build")
    place.write("plan.json", b"one")
    place.write("plan.json", b"two")
    with place.writing("train/inputs-000000.tar") as path:
        path.write_bytes(b"x" * 1000)
    assert place.read("plan.json") == b"two"
    with place.reading("train/inputs-000000.tar") as path:
        assert path.read_bytes() == b"x" * 1000
    assert place.sizes() == {"plan.json": 3, "train/inputs-000000.tar": 1000}


def test_a_file_whose_writer_fails_never_appears(made: Callable[[str], Store]) -> None:
    place = made("build")
    with pytest.raises(ZeroDivisionError), place.writing("train/a") as path:  # noqa: PT012
        path.write_bytes(b"half")
        raise ZeroDivisionError
    assert place.sizes() == {}


def test_what_is_not_there_is_empty_or_missing(made: Callable[[str], Store]) -> None:
    place = made("nothing")
    assert place.sizes() == {}
    with place.folder("work") as folder:
        assert list(folder.glob("*")) == []
    place.remove("work")
    place.remove("plan.json")
    place.tidy()
    with pytest.raises(FileNotFoundError):
        place.read("plan.json")
    with pytest.raises(FileNotFoundError), place.reading("plan.json"):
        pytest.fail("nothing to read")


def test_builds_whose_names_begin_alike_do_not_mix(made: Callable[[str], Store]) -> None:
    one, two = made("build"), made("build2")
    for place, content in ((one, b"1"), (two, b"22")):
        for name in ("plan.json", "work/a", "work2/b"):
            place.write(name, content)
    assert one.sizes() == {"plan.json": 1, "work/a": 1, "work2/b": 1}
    with one.folder("work") as folder:
        assert [path.name for path in folder.iterdir()] == ["a"]
    one.remove("work")
    assert one.sizes() == {"plan.json": 1, "work2/b": 1}
    one.remove("plan.json")
    assert two.sizes() == {"plan.json": 2, "work/a": 2, "work2/b": 2}


def test_a_lock_is_made_once_and_can_be_made_again(made: Callable[[str], Store]) -> None:
    place = made("build")
    assert place.create(LOCK, b"first")
    assert not place.create(LOCK, b"second")
    assert place.read(LOCK) == b"first"
    place.remove("lock")
    assert place.create(LOCK, b"third")
    assert place.sizes() == {LOCK: 5}


def test_a_store_says_where_it_is(tmp_path: Path) -> None:
    assert open_store(tmp_path / "build").where == str(tmp_path / "build")
    assert open_store("s3://bucket/build/").where == "s3://bucket/build"


def _race(root: Path, barrier: object, results: object, seed: int) -> None:
    place = LocalStore(root)
    for i in range(40):
        barrier.wait()  # type: ignore[attr-defined]
        with ThreadPoolExecutor(3) as pool:
            tried = [f"{seed}-{i}-{thread}".encode() for thread in range(3)]
            won = list(pool.map(lambda data, i=i: place.create(f"lock-{i}/driver.json", data), tried))
        results.put([(i, data) for data, mine in zip(tried, won, strict=True) if mine])  # type: ignore[attr-defined]


@pytest.mark.slow
def test_of_many_threads_and_processes_one_makes_the_lock(tmp_path: Path) -> None:
    """Two processes of three threads each, forty times; the file is the winner's."""
    fork = multiprocessing.get_context("fork")
    barrier, results = fork.Barrier(2), fork.Queue()
    processes = [fork.Process(target=_race, args=(tmp_path, barrier, results, seed)) for seed in range(2)]
    for process in processes:
        process.start()
    won = [entry for _ in range(80) for entry in results.get(timeout=60)]
    for process in processes:
        process.join()
    assert sorted(i for i, _ in won) == list(range(40))
    assert all((tmp_path / f"lock-{i}" / "driver.json").read_bytes() == data for i, data in won)
    assert not list(tmp_path.glob(".tmp-*"))


def test_a_lock_whose_temporary_folder_is_tidied_away_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another driver starts, and tidies up, in the middle."""
    place, rename, swept = LocalStore(tmp_path), os.rename, []

    def sweep_first(source: Path, target: Path) -> None:
        if not swept:
            swept.append(source)
            place.tidy()
        rename(source, target)

    monkeypatch.setattr(store.os, "rename", sweep_first)
    assert place.create(LOCK, b"mine")
    assert len(swept) == 1
    assert place.read(LOCK) == b"mine"


@pytest.mark.parametrize("number", [errno.ENOENT, errno.ENOTEMPTY])
def test_a_rename_that_nfs_sent_twice_is_still_ones_own(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = os.rename

    def lost_answer(source: Path, target: Path) -> None:
        rename(source, target)
        raise OSError(number, "the answer to the first was lost")

    monkeypatch.setattr(store.os, "rename", lost_answer)
    assert LocalStore(tmp_path).create(LOCK, b"mine")


def test_what_killed_writers_leave_is_not_listed_and_tidied_away(tmp_path: Path) -> None:
    place = LocalStore(tmp_path)
    lock = tmp_path / f".tmp-lock-{'0' * 32}"
    lock.mkdir()
    (lock / "driver.json").write_bytes(b"{}")
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / f".tmp-inputs-000000.tar-{'a' * 32}").write_bytes(b"half")
    (tmp_path / "checkpoints" / f".tmp-{'b' * 32}").mkdir(parents=True)
    assert place.sizes() == {}
    place.tidy()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoints", "train"]
    assert [*(tmp_path / "train").iterdir(), *(tmp_path / "checkpoints").iterdir()] == []


def test_what_others_keep_below_is_not_tidied_away(tmp_path: Path) -> None:
    """`out` may hold other runs, whose writers live, and anybody's files."""
    others = [
        tmp_path / "other-run" / f".tmp-run.json-{'0' * 32}",
        tmp_path / "other-run" / "checkpoints" / f".tmp-{'0' * 32}",
        tmp_path / "notes" / ".tmp-notes.txt",
        tmp_path / ".tmp-mine",
        tmp_path / "train" / ".tmp-notes-0",
    ]
    for path in others:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"precious")
    LocalStore(tmp_path).tidy()
    assert all(path.read_bytes() == b"precious" for path in others)


def test_a_folder_is_removed_in_one_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What another makes at its place meanwhile stays: a driver's lock, just released, may be taken at once."""
    place, rmtree = LocalStore(tmp_path), shutil.rmtree
    place.write(LOCK, b"1")
    seen = []

    def slow(path: Path) -> None:
        seen.append(place.names("lock"))
        place.write(LOCK, b"2")
        rmtree(path)

    monkeypatch.setattr(shutil, "rmtree", slow)
    place.remove("lock")
    assert seen == [[]]
    assert place.read(LOCK) == b"2"
    assert [path.name for path in tmp_path.iterdir()] == ["lock"]


def test_a_folder_that_another_removes_file_by_file_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As often as the other is quicker: a work folder has thousands of files."""
    place, rmtree, quicker = LocalStore(tmp_path), shutil.rmtree, iter(range(2000))
    place.write("work/a", b"x")

    def late(path: Path) -> None:
        if next(quicker, None) is not None:
            raise FileNotFoundError(errno.ENOENT, "No such file or directory")
        rmtree(path)

    monkeypatch.setattr(shutil, "rmtree", late)
    place.remove("work")
    assert not (tmp_path / "work").exists()


def test_a_folder_that_cannot_be_removed_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = LocalStore(tmp_path)
    place.write("work/a", b"x")

    def busy(_path: Path) -> None:
        raise OSError(errno.EBUSY, "busy")

    monkeypatch.setattr(shutil, "rmtree", busy)
    with pytest.raises(OSError, match="busy"):
        place.remove("work")


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path, str], None]:
    """Makes the next temporary file of a name one that says "no space left", as the kernel does for /dev/full."""

    def fill(folder: Path, name: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        monkeypatch.setattr(atomic.uuid, "uuid4", lambda: uuid.UUID(int=0))
        (folder / f".tmp-{name}-{uuid.UUID(int=0).hex}").symlink_to("/dev/full")

    return fill


FULL = r"{} cannot be written: No space left on device; free space there"


def test_a_full_disk_is_one_error_with_the_folder(tmp_path: Path, full: Callable[[Path, str], None]) -> None:
    full(tmp_path, "plan.json")
    with pytest.raises(BuildError, match=FULL.format(tmp_path)):
        LocalStore(tmp_path).write("plan.json", b"x")
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_under_the_writer_of_inputs(tmp_path: Path, full: Callable[[Path, str], None]) -> None:
    full(tmp_path / "train", "a.tar")
    sample = InputSample("e-000000", (b"x" * 100_000,), b"{}\n")
    with (
        pytest.raises(BuildError, match=FULL.format(tmp_path)),
        InputsWriter(LocalStore(tmp_path).streaming("train/a.tar"), ["front"]) as writer,
    ):
        writer.add(sample)
    assert list((tmp_path / "train").iterdir()) == []


def test_a_full_disk_under_the_writer_of_targets(tmp_path: Path, full: Callable[[Path, str], None]) -> None:
    full(tmp_path / "train", "a.arrow")
    sizes = Sizes(views=1, image_size=8, steps=1, tokens=64, width=64, state=0, chunk=0, action=0)
    latents = np.zeros((1, 1, 1, 64, 64), np.float16)
    rows = TargetRows(("e-000000",), latents[:, 0], latents, np.ones((1, 1), bool), None, None)
    with (
        pytest.raises(BuildError, match=FULL.format(tmp_path)),
        TargetsWriter(LocalStore(tmp_path).streaming("train/a.arrow"), sizes, {}) as writer,
    ):
        writer.add(rows)
    assert list((tmp_path / "train").iterdir()) == []


@pytest.mark.slow
def test_a_full_disk_is_what_the_command_says(
    tmp_path: Path, sample_data: SampleData, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def sync(_path: Path) -> None:  # where NFS says so
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(atomic, "_sync", sync)
    settings = ("source=ssv2", f"source.root={sample_data.ssv2}", "encoder=tiny", f"out={tmp_path / 'out'}")
    code, _, err = run(capsys, "plan", *settings)
    assert code == 2
    assert err.startswith(f"vlajepa: {tmp_path / 'out'} cannot be written: No space left on device; free space there")
    assert list((tmp_path / "out").iterdir()) == []


def _fill(place: Store) -> None:
    with place.writing("train/a") as path:
        path.symlink_to("/dev/full")
        path.write_bytes(b"x" * 100_000)


def test_a_full_scratch_folder_is_named_and_nothing_is_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, memory: str
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    place = ObjectStore(f"{memory}/{uuid.uuid4().hex}", retry=Retry(attempts=1))
    with pytest.raises(BuildError, match=f"{FULL.format(tmp_path)}, or name another folder in TMPDIR"):
        _fill(place)
    assert place.sizes() == {}
    place.write("b", b"x" * 100_000)
    (tmp_path / "b").symlink_to("/dev/full")
    with pytest.raises(BuildError, match=r"TMPDIR"):
        place.download("b", tmp_path / "b")
