"""The cache of remote files: bounded, shared by threads and processes, and unharmed by whoever dies."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import BuildError, CorruptError, SettingsError
from pipeline.storage.download import RemoteFile
from pipeline.storage.retry import Retry
from pipeline.storage.shard_cache import CachedFile, FileCache
from tests.pipeline.storage.s3_server import FlakyServer

QUICK = Retry(attempts=4, delay=0.001)
SPAWN = multiprocessing.get_context("spawn")


@pytest.fixture
def server() -> Iterator[FlakyServer]:
    with FlakyServer().running() as running:
        yield running


@pytest.fixture
def origin(tmp_path: Path) -> Callable[[str, int], RemoteFile]:
    """Makes a file of a size whose content spells its name, and its `file://` source."""

    def make(name: str, size: int) -> RemoteFile:
        return local_source(tmp_path / "origin", name, size)

    return make


def local_source(folder: Path, name: str, size: int) -> RemoteFile:
    folder.mkdir(exist_ok=True)
    data = spelled(name, size)
    (folder / name).write_bytes(data)
    return RemoteFile(f"file://{folder / name}", size, hashlib.sha256(data).hexdigest())


def spelled(name: str, size: int) -> bytes:
    return (name.encode() * (size // len(name) + 1))[:size]


def content(file: CachedFile, source: RemoteFile) -> bytes:
    """What a reader sees; it must be the file asked for."""
    data = file.path.read_bytes()
    assert hashlib.sha256(data).hexdigest() == source.sha256
    return data


def held_bytes(folder: Path) -> int:
    """Bytes of all files of a cache at one moment, counted as the cache itself counts them: under its lock."""
    with open(folder / "lock", "a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        total = 0
        for path in folder.rglob("*"):
            with contextlib.suppress(FileNotFoundError):  # empty lock files come and go without the cache's lock
                total += path.stat().st_size if path.is_file() else 0
        return total


def cached(folder: Path) -> set[str]:
    return {path.name for path in folder.glob("[0-9a-f][0-9a-f]/*")}


def leftovers(folder: Path) -> list[Path]:
    return list((folder / "downloads").iterdir())


@contextlib.contextmanager
def watched(folder: Path, limit: int) -> Iterator[list[int]]:
    """Weigh a cache all the time; it must never be above its limit. Yields the weights seen."""
    seen: list[int] = []
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.001):
            seen.append(held_bytes(folder))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield seen
    finally:
        done.set()
        thread.join()
    assert max(seen) <= limit


def test_a_file_is_downloaded_once(server: FlakyServer, tmp_path: Path) -> None:
    source = server.add("a", b"x" * 100_000)
    with FileCache(tmp_path, 10**6).open(source) as first:
        assert content(first, source) == b"x" * 100_000
    with FileCache(tmp_path, 10**6).open(source) as second:
        assert second.path == first.path
    assert server.requests["a"] == 1
    assert leftovers(tmp_path) == []


def test_an_empty_file_and_one_as_large_as_the_limit_fit(origin: Callable[..., RemoteFile], tmp_path: Path) -> None:
    cache = FileCache(tmp_path / "c", 1000)
    for source in (origin("empty", 0), origin("full", 1000), origin("again", 1000)):
        with cache.open(source) as file:
            content(file, source)


def test_the_least_recently_opened_file_goes_first(origin: Callable[..., RemoteFile], tmp_path: Path) -> None:
    cache = FileCache(tmp_path / "c", 300)
    a, b, c, d = (origin(name, 100) for name in "abcd")
    for source in (a, b, c, a, d):  # `a` was downloaded first, but used again
        cache.open(source).close()
    assert cached(tmp_path / "c") == {a.sha256, c.sha256, d.sha256}


def test_a_file_in_use_stays(origin: Callable[..., RemoteFile], tmp_path: Path) -> None:
    cache = FileCache(tmp_path / "c", 200)
    a, b, c = (origin(name, 100) for name in "abc")
    with cache.open(a) as held:
        cache.open(b).close()
        cache.open(c).close()
        content(held, a)
    assert cached(tmp_path / "c") == {a.sha256, c.sha256}


def test_a_file_nobody_refers_to_is_closed(origin: Callable[..., RemoteFile], tmp_path: Path) -> None:
    cache = FileCache(tmp_path / "c", 100, patience=0)
    file = cache.open(origin("a", 100))
    with pytest.raises(BuildError):
        cache.open(origin("b", 100))
    del file
    cache.open(origin("b", 100)).close()


def test_a_full_cache_says_what_fills_it_and_what_to_do(origin: Callable[..., RemoteFile], tmp_path: Path) -> None:
    cache = FileCache(tmp_path / "c", 250, patience=0.05)
    held = [cache.open(origin(name, 100)) for name in "ab"]
    with pytest.raises(
        BuildError, match=r"2 files in use take 200 .* raise trainer\.cache_gb, or lower trainer"
    ) as error:
        cache.open(origin("c", 100))
    assert "250" in str(error.value)
    assert cached(tmp_path / "c") == {hashlib.sha256(spelled(n, 100)).hexdigest() for n in "ab"}
    assert leftovers(tmp_path / "c") == []
    held.pop().close()
    cache.open(origin("c", 100)).close()


def test_a_file_larger_than_the_limit_drives_nothing_out(origin: Callable[..., RemoteFile], tmp_path: Path) -> None:
    cache = FileCache(tmp_path / "c", 250)
    cache.open(origin("a", 100)).close()
    with pytest.raises(BuildError, match="may hold 250; raise"):
        cache.open(origin("b", 251))
    assert len(cached(tmp_path / "c")) == 1


def test_opening_waits_for_room(origin: Callable[..., RemoteFile], tmp_path: Path) -> None:
    cache = FileCache(tmp_path / "c", 100, patience=20)
    held = cache.open(origin("a", 100))
    timer = threading.Timer(0.2, held.close)
    timer.start()
    source = origin("b", 100)
    with cache.open(source) as file:
        content(file, source)
    timer.join()


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(
    sizes=st.lists(st.integers(0, 60), min_size=4, max_size=7),
    limit=st.integers(60, 150),
    steps=st.lists(st.tuples(st.integers(0, 6), st.booleans()), max_size=25),
)
def test_it_holds_what_a_model_of_it_holds(sizes: list[int], limit: int, steps: list[tuple[int, bool]]) -> None:
    """Against a list in order of use: what is evicted, what stays, and when there is no room."""
    with tempfile.TemporaryDirectory() as folder:
        sources = [local_source(Path(folder) / "origin", f"file-{i}", size) for i, size in enumerate(sizes)]
        cache = FileCache(Path(folder) / "cache", limit, patience=0)
        order: list[int] = []
        in_use: dict[int, CachedFile] = {}
        for i, keep in ((i % len(sizes), keep) for i, keep in steps):
            if i in in_use:
                in_use.pop(i).close()
                continue
            fits = _model_open(order, sizes, limit, i, set(in_use))
            if not fits:
                with pytest.raises(BuildError):
                    cache.open(sources[i])
            else:
                file = cache.open(sources[i])
                content(file, sources[i])
                if keep:
                    in_use[i] = file
                else:
                    file.close()
            assert cached(cache.folder) == {sources[j].sha256 for j in order}
            assert held_bytes(cache.folder) <= limit


def _model_open(order: list[int], sizes: list[int], limit: int, i: int, in_use: set[int]) -> bool:
    if i in order:
        order.remove(i)
        order.append(i)
        return True
    for j in list(order):
        if sum(sizes[k] for k in order) + sizes[i] > limit and j not in in_use:
            order.remove(j)
    if sum(sizes[k] for k in order) + sizes[i] > limit:
        return False
    order.append(i)
    return True


def _open_at_random(cache: FileCache, sources: list[RemoteFile], seed: int, rounds: int) -> int:
    """Open files at random, look twice at each. Returns how many were opened."""
    choice = random.Random(seed)
    for _ in range(rounds):
        source = choice.choice(sources)
        with cache.open(source) as file:
            content(file, source)
            time.sleep(choice.random() * 0.004)
            content(file, source)  # an evictor would have taken it by now
    return rounds


@pytest.mark.slow
def test_many_threads_share_a_tiny_cache(server: FlakyServer, tmp_path: Path) -> None:
    sources = [server.add(f"f{i}", spelled(f"f{i}", 20_000 + i)) for i in range(9)]
    limit = 100_000  # four files; eight threads want one each
    cache = FileCache(tmp_path, limit, patience=60)
    held_bytes(tmp_path)
    with watched(tmp_path, limit) as seen, ThreadPoolExecutor(8) as pool:
        done = list(pool.map(lambda seed: _open_at_random(cache, sources, seed, 40), range(8)))
    assert sum(done) == 320
    assert max(seen) > 60_000  # it was full, so the bound meant something
    assert leftovers(tmp_path) == []


def test_threads_that_want_one_file_download_it_once(server: FlakyServer, tmp_path: Path) -> None:
    source = server.add("a", spelled("a", 1_000_000))
    cache, start = FileCache(tmp_path, 10**7), threading.Barrier(8)

    def work() -> bool:
        start.wait()
        with cache.open(source) as file:
            return content(file, source) == server.files["a"]

    with ThreadPoolExecutor(8) as pool:
        assert all(f.result() for f in [pool.submit(work) for _ in range(8)])
    assert server.requests["a"] == 1


def test_a_file_deleted_between_being_found_and_locked(
    server: FlakyServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = server.add("a", spelled("a", 1000))
    cache = FileCache(tmp_path, 10**6)
    with cache.open(source) as file:
        victims = [file.path]
    lock = fcntl.flock

    def after_an_evictor(descriptor: int, kind: int) -> None:
        if kind == fcntl.LOCK_SH and victims:
            victims.pop().unlink()
        lock(descriptor, kind)

    monkeypatch.setattr(fcntl, "flock", after_an_evictor)
    with cache.open(source) as file:
        content(file, source)
    assert server.requests["a"] == 2


def test_a_file_that_came_between_looking_and_locking(
    server: FlakyServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = server.add("a", spelled("a", 1000))
    cache, look = FileCache(tmp_path, 10**6), FileCache._open_whole

    def before_another_ends(self: FileCache, source: RemoteFile) -> CachedFile | None:
        monkeypatch.undo()
        found = look(self, source)
        FileCache(tmp_path, 10**6).open(source).close()
        return found

    monkeypatch.setattr(FileCache, "_open_whole", before_another_ends)
    with cache.open(source) as file:
        content(file, source)
    assert server.requests["a"] == 1


def _process_main(folder: Path, limit: int, sources: list[RemoteFile], seed: int, rounds: int) -> None:
    cache = FileCache(folder, limit, patience=60)
    cache.prefetch(sources[seed : seed + 3])
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda i: _open_at_random(cache, sources, 2 * seed + i, rounds), range(2)))


@pytest.mark.slow
def test_many_processes_share_a_tiny_cache_and_some_are_killed(server: FlakyServer, tmp_path: Path) -> None:
    """Four processes of two threads, three killed at a random moment; the others see whole files, within the limit."""
    sources = [server.add(f"f{i}", spelled(f"f{i}", 200_000 + i)) for i in range(9)]
    limit = 900_000
    FileCache(tmp_path, limit)
    arguments = (tmp_path, limit, sources)
    victims = [SPAWN.Process(target=_process_main, args=(*arguments, seed, 10**6)) for seed in range(3)]
    with watched(tmp_path, limit) as seen:
        for process in victims:
            process.start()
        survivor = SPAWN.Process(target=_process_main, args=(*arguments, 3, 150))
        survivor.start()
        while len(cached(tmp_path)) < 3:
            time.sleep(0.01)
        for process in victims:
            time.sleep(random.Random(process.pid).random() * 0.5)
            assert process.is_alive()
            process.kill()
            process.join()
        survivor.join(60)
    assert survivor.exitcode == 0
    assert max(seen) > 600_000
    cache = FileCache(tmp_path, limit)
    for source in sources:
        with cache.open(source) as file:
            content(file, source)
    assert leftovers(tmp_path) == []


def _open_one(folder: Path, limit: int, source: RemoteFile) -> None:
    FileCache(folder, limit, patience=0).open(source)


@pytest.mark.slow
@pytest.mark.parametrize("same_file", [True, False])
def test_a_downloader_killed_midway_leaves_nothing(server: FlakyServer, tmp_path: Path, same_file: bool) -> None:
    """What it had reserved (more than half the cache) is free again, for the same file and for another."""
    dying = server.add("dying", spelled("dying", 600_000))
    wanted = dying if same_file else server.add("other", spelled("other", 700_000))
    server.held.add("dying")
    process = SPAWN.Process(target=_open_one, args=(tmp_path, 1_000_000, dying))
    process.start()
    assert server.half_sent.wait(60)
    assert held_bytes(tmp_path) == 600_000  # counted while it is still being downloaded
    assert len(leftovers(tmp_path)) == 2
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    server.held.clear()
    assert len(leftovers(tmp_path)) == 2
    with FileCache(tmp_path, 1_000_000, patience=0).open(wanted) as file:
        content(file, wanted)
    assert leftovers(tmp_path) == []
    assert cached(tmp_path) == {wanted.sha256}


def test_a_download_in_progress_is_counted_and_waited_for(server: FlakyServer, tmp_path: Path) -> None:
    slow, other = server.add("slow", spelled("slow", 600_000)), server.add("other", spelled("other", 600_000))
    server.held.add("slow")
    cache = FileCache(tmp_path, 1_000_000, patience=0)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(lambda: cache.open(slow).close())
        assert server.half_sent.wait(60)
        second = pool.submit(lambda: cache.open(other).close())
        time.sleep(0.2)
        assert not second.done()
        assert server.requests["other"] == 0  # there is no room until the first is finished
        server.release.set()
        first.result(60)
        second.result(60)
    assert cached(tmp_path) == {other.sha256}


def test_a_server_that_fails_for_a_while_is_asked_again(server: FlakyServer, tmp_path: Path) -> None:
    source = server.add("a", spelled("a", 300_000))
    server.failures["a"], server.cut["a"] = 2, 1
    with FileCache(tmp_path, 10**6, retry=QUICK).open(source) as file:
        content(file, source)
    assert server.requests["a"] == 4


def test_a_server_that_keeps_failing_is_an_error(server: FlakyServer, tmp_path: Path) -> None:
    source = server.add("a", spelled("a", 300_000))
    server.failures["a"] = 4
    cache = FileCache(tmp_path, 10**6, retry=QUICK)
    with pytest.raises(BuildError, match=r"/a cannot be read or written, tried 4 times.*503") as error:
        cache.open(source)
    assert not isinstance(error.value, CorruptError)
    assert leftovers(tmp_path) == []
    with cache.open(source) as file:  # and it is not remembered
        content(file, source)


def test_a_file_damaged_on_the_way_is_read_again(server: FlakyServer, tmp_path: Path) -> None:
    source = server.add("a", spelled("a", 300_000))
    server.damaged["a"] = 1
    with FileCache(tmp_path, 10**6, retry=QUICK).open(source) as file:
        content(file, source)
    assert server.requests["a"] == 2


@pytest.mark.parametrize("change", ["bit", "shorter", "empty"])
def test_a_file_of_other_content_is_never_served(server: FlakyServer, tmp_path: Path, change: str) -> None:
    source = server.add("a", b"x" * 1000)
    server.files["a"] = {"bit": b"x" * 999 + b"y", "shorter": b"x" * 999, "empty": b""}[change]
    cache = FileCache(tmp_path, 10**6, retry=QUICK)
    with pytest.raises(CorruptError, match=source.sha256) as error:
        cache.open(source)
    assert hashlib.sha256(server.files["a"]).hexdigest() in str(error.value)
    assert source.url in str(error.value)
    assert server.requests["a"] == 2
    assert cached(tmp_path) == set()
    assert leftovers(tmp_path) == []


def test_what_stands_behind_the_listed_bytes_is_not_copied(server: FlakyServer, tmp_path: Path) -> None:
    source = server.add("a", b"x" * 1000)
    server.files["a"] += b"smuggled" * 10_000
    with FileCache(tmp_path, 1000).open(source) as file:
        assert content(file, source) == b"x" * 1000


def test_a_missing_file_is_not_asked_for_again(server: FlakyServer, tmp_path: Path) -> None:
    source = server.add("a", b"x")
    del server.files["a"]
    with pytest.raises(CorruptError, match="does not exist"):
        FileCache(tmp_path, 10**6, retry=QUICK).open(source)
    assert server.requests["a"] == 1


def test_a_cached_file_that_was_cut_is_fetched_again(server: FlakyServer, tmp_path: Path) -> None:
    source = server.add("a", spelled("a", 1000))
    cache = FileCache(tmp_path, 10**6)
    with cache.open(source) as file:
        path = file.path
    os.truncate(path, 500)
    with cache.open(source) as file:
        content(file, source)


def test_a_disk_that_is_full_is_not_blamed_on_the_store(server: FlakyServer, tmp_path: Path) -> None:
    code = (
        "import resource, signal, sys; from pathlib import Path; from pipeline.storage.shard_cache import FileCache\n"
        "from pipeline.storage.download import RemoteFile\n"
        "cache = FileCache(Path(sys.argv[1]), 10**7)\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (10**6, 10**6))\n"
        "cache.open(RemoteFile(sys.argv[2], 10**6 + 1, sys.argv[3]))\n"
    )
    source = server.add("a", spelled("a", 10**6 + 1))
    command = [sys.executable, "-c", code, str(tmp_path), source.url, source.sha256]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "cannot be written" in ended.stderr
    assert "lower trainer.cache_gb" in ended.stderr
    assert server.requests["a"] <= 1


def test_prefetched_files_are_there_when_opened(server: FlakyServer, tmp_path: Path) -> None:
    sources = [server.add(f"f{i}", spelled(f"f{i}", 1000)) for i in range(60)]
    cache = FileCache(tmp_path, 10**6, threads=4)
    cache.prefetch(sources)
    wait_until(lambda: len(cached(tmp_path)) == 60)  # no thread gives one up because another counts just then
    cache.prefetch(sources)
    for source in sources:
        with cache.open(source) as file:
            content(file, source)
    assert all(server.requests[f"f{i}"] == 1 for i in range(60))


def test_a_prefetch_that_fails_is_an_error_when_the_file_is_opened(server: FlakyServer, tmp_path: Path) -> None:
    gone, there = server.add("gone", b"x"), server.add("there", b"y")
    del server.files["gone"]
    cache = FileCache(tmp_path, 10**6, retry=QUICK, threads=1)
    cache.prefetch([gone, there])
    wait_until(lambda: cached(tmp_path) == {there.sha256})  # the thread went on
    with pytest.raises(CorruptError, match="does not exist"):
        cache.open(gone)


def test_what_a_prefetch_may_drive_out(origin: Callable[..., RemoteFile], tmp_path: Path) -> None:
    cache = FileCache(tmp_path / "c", 300, patience=0)
    used, held, early, late, later = (origin(name, 100) for name in ("used", "held", "early", "late", "later"))
    cache.open(used).close()
    with cache.open(held):
        cache.fetch_ahead(early)
        cache.fetch_ahead(late)  # takes the place of the file that was used
        assert cached(cache.folder) == {held.sha256, early.sha256, late.sha256}
        cache.fetch_ahead(later)  # but not of those still to be used
        assert cached(cache.folder) == {held.sha256, early.sha256, late.sha256}
        cache.open(later).close()  # opening does, the oldest first
        assert cached(cache.folder) == {held.sha256, late.sha256, later.sha256}
        cache.open(late).close()
        cache.fetch_ahead(early)  # `later` was used, longer ago than `late`
        assert cached(cache.folder) == {held.sha256, late.sha256, early.sha256}


@pytest.mark.slow
def test_a_process_ends_while_it_fetches_ahead(server: FlakyServer, tmp_path: Path) -> None:
    source = server.add("a", spelled("a", 100_000))
    server.held.add("a")
    code = (
        "import sys; from pathlib import Path; from pipeline.storage.shard_cache import FileCache\n"
        "from pipeline.storage.download import RemoteFile\n"
        "FileCache_ = FileCache(Path(sys.argv[1]), 10**6)\n"
        "FileCache_.prefetch([RemoteFile(sys.argv[2], 100_000, sys.argv[3])]); sys.stdin.read(1)\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path), source.url, source.sha256]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert server.half_sent.wait(60)
        _, errors = process.communicate(b"x", timeout=30)
    assert process.returncode == 0, errors.decode()
    server.held.clear()
    with FileCache(tmp_path, 10**6).open(source) as file:
        content(file, source)
    assert leftovers(tmp_path) == []


def test_the_threads_end_with_their_cache(origin: Callable[..., RemoteFile], tmp_path: Path) -> None:
    before = set(threading.enumerate())
    cache = FileCache(tmp_path / "c", 1000, threads=3)
    cache.prefetch([origin("a", 100)])
    wait_until(lambda: len(cached(tmp_path / "c")) == 1)
    assert len(set(threading.enumerate()) - before) == 3
    del cache
    wait_until(lambda: set(threading.enumerate()) <= before)


def test_a_forked_child_keeps_the_file_it_was_handed(origin: Callable[..., RemoteFile], tmp_path: Path) -> None:
    """Closing in the parent does not take the child's file away; the child's end frees it."""
    cache = FileCache(tmp_path / "c", 100, patience=0)
    file = cache.open(origin("a", 100))
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(write)
        os.read(read, 1)
        os._exit(0)
    os.close(read)
    file.close()
    with pytest.raises(BuildError):
        cache.open(origin("b", 100))
    os.close(write)
    os.waitpid(child, 0)
    cache.open(origin("b", 100)).close()


@pytest.mark.parametrize(("size", "sha256"), [(1, "../" * 21 + "x"), (1, "A" * 64), (-1, "a" * 64), ("1", "a" * 64)])
def test_a_hash_or_size_that_is_none_is_refused(size: int, sha256: str) -> None:
    with pytest.raises(BuildError, match=r"build\.json lists"):
        RemoteFile("memory://x", size, sha256)


def test_a_limit_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cache_gb"):
        FileCache(tmp_path, 0)


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(BuildError, match=r"file.*cache_folder"):
        FileCache(tmp_path / "file" / "cache", 1)


def wait_until(condition: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)
