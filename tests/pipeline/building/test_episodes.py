"""Episodes that fail, once or for good, change while they are read, or meet a full disk."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from pipeline.building import episodes
from pipeline.building.episodes import UNWATCHED, EpisodeLog, opened, storing
from pipeline.encoder.encoder_frames import FrameSettings
from pipeline.errors import EpisodeError, RunError
from pipeline.format.build_settings import InputSettings, WindowPolicy
from pipeline.format.enums import EncoderMode
from pipeline.format.episode import Episode
from pipeline.format.schema import Sizes
from pipeline.planning.recipe import Recipe
from pipeline.sources.base import EpisodeRef, SourceIndex
from pipeline.sources.episode.time_limit import within
from pipeline.sources.files import check_files, hash_files
from pipeline.storage.store import open_store
from tests.pipeline.fake_episode import FakeEpisode

RECIPE = Recipe(
    "",
    "s",
    ("front",),
    Sizes(1, 64, 3, 16, 96, 0, 0, 0),
    WindowPolicy(),
    InputSettings(),
    FrameSettings(64),
    EncoderMode.PREFIX,
    8,
)


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(episodes, "PAUSES", (0.0, 0.0))


def ref(*files: str, sha256: tuple[str, ...] = (), size: int = 5) -> EpisodeRef:
    return EpisodeRef("e", "train", tuple((name, size) for name in files), 20, {"instruction": "x"}, sha256)


class Failing:
    """Fails so many times with one error, then gives 7."""

    def __init__(self, times: int, error: Exception) -> None:
        self.times, self.error, self.calls = times, error, 0

    def __call__(self) -> int:
        self.calls += 1
        if self.calls <= self.times:
            raise self.error
        return 7


@pytest.mark.parametrize(
    ("reason", "times", "result", "calls"),
    [("undecodable", 1, 7, 2), ("undecodable", 2, 7, 3), ("undecodable", 9, None, 3), ("no-instruction", 1, None, 1)],
)
def test_an_error_that_may_pass_is_tried_again(reason: str, times: int, result: int | None, calls: int) -> None:
    log, work = EpisodeLog(RECIPE, "inputs", UNWATCHED), Failing(times, EpisodeError(reason, "why"))
    assert log.attempt(ref(), work) == result
    assert work.calls == calls
    assert [(f.stage, f.reason, f.windows) for f in log.left_out] == ([] if result else [("inputs", reason, 14)])


def test_an_error_that_is_none_of_the_episodes_stops_the_run_and_names_it() -> None:
    log = EpisodeLog(RECIPE, "targets", UNWATCHED)
    with pytest.raises(RunError, match="targets job, episode e: unexpected KeyError: 'x'"):
        log.attempt(ref(), Failing(1, KeyError("x")))
    with pytest.raises(RunError, match=r"^stop$"):
        log.attempt(ref(), Failing(1, RunError("stop")))


class Blaming:
    def blamed(self) -> dict[str, tuple[str, str]]:
        return {"e": ("timed-out", "for ever")}

    @contextmanager
    def reading(self, episode: str) -> Iterator[None]:
        raise AssertionError(f"{episode} must not be read")


def test_an_episode_that_was_blamed_is_not_read_again() -> None:
    log = EpisodeLog(RECIPE, "inputs", Blaming())  # type: ignore[arg-type]
    assert log.attempt(ref(), Failing(0, KeyError())) is None
    assert [(entry.reason, entry.detail) for entry in log.left_out] == [("timed-out", "for ever")]


@dataclass(frozen=True)
class FileSource:
    root: str

    def index(self) -> SourceIndex:
        raise NotImplementedError

    def open(self, ref: EpisodeRef) -> Episode:
        check_files(self.root, ref)
        return FakeEpisode(20)


def replaced(path: Path) -> None:
    (path.parent / "new").write_bytes(b"world")
    os.replace(path.parent / "new", path)


def rewritten(path: Path) -> None:
    path.write_bytes(b"world")
    os.utime(path, ns=(1, 1))


def rewritten_with_its_old_time(path: Path) -> None:
    time = path.stat().st_mtime_ns
    path.write_bytes(b"world")
    os.utime(path, ns=(time, time))


@pytest.mark.parametrize("change", [replaced, rewritten, rewritten_with_its_old_time, Path.unlink])
def test_a_file_that_changes_while_it_is_read_is_told(tmp_path: Path, change: Callable[[Path], None]) -> None:
    (tmp_path / "a").write_bytes(b"hello")
    source = FileSource(str(tmp_path))
    with opened(source, ref("a")) as episode:
        assert episode.num_frames == 20
    context = opened(source, ref("a"))
    context.__enter__()
    change(tmp_path / "a")
    with pytest.raises(EpisodeError, match=r"changed-file: a of .* changed while it was read"):
        context.__exit__(None, None, None)


def index_of(*refs: EpisodeRef) -> SourceIndex:
    return SourceIndex("s", ("front",), 0, 0, None, refs, (), {})


def test_a_file_of_the_same_size_is_told_by_its_hash(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"hello")
    (planned,) = hash_files(str(tmp_path), index_of(ref("a")), ("train",)).refs
    check_files(str(tmp_path), planned)
    (tmp_path / "a").write_bytes(b"world")
    os.utime(tmp_path / "a", ns=(1, 1))
    check_files(str(tmp_path), ref("a"))
    with pytest.raises(EpisodeError, match=r"changed-file: .*/a has SHA-256 486e.*, the plan recorded 2cf2"):
        check_files(str(tmp_path), planned)


def test_hashing_reads_a_shared_file_once_and_names_one_that_is_gone(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"hello")
    seen: list[int] = []
    index = hash_files(str(tmp_path), index_of(ref("a"), ref("a"), ref("gone")), ("train",), seen.append)
    assert seen == [5, 5]
    assert len({r.sha256 for r in index.refs}) == 1
    assert [(entry.episode, entry.reason) for entry in index.left_out] == [("e", "missing-file")]
    assert hash_files(str(tmp_path), index_of(ref("gone")), ("val",)).left_out == ()


def test_a_full_disk_is_no_fault_of_an_episode(tmp_path: Path) -> None:
    with (
        pytest.raises(RunError, match=r"cannot be written: .*No space left.*run the same command again"),
        storing(open_store(tmp_path)),
    ):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_what_a_plan_looks_into_has_a_time_limit() -> None:
    assert within(5.0, "e", lambda: 7) == 7
    with pytest.raises(KeyError):
        within(5.0, "e", Failing(1, KeyError()))
    read, write = os.pipe()
    with pytest.raises(EpisodeError, match=r"timed-out: episode e was not read within 0.05 seconds"):
        within(0.05, "e", lambda: os.read(read, 1))
    os.write(write, b"x")


def test_a_new_mode_of_a_file_while_it_is_read_costs_no_episode(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"hello")
    source, reads = FileSource(str(tmp_path)), 0

    def read() -> int:
        nonlocal reads
        with opened(source, ref("a")) as episode:
            reads += 1
            if reads == 1:
                (tmp_path / "a").chmod(0o600)
            return episode.num_frames

    log = EpisodeLog(RECIPE, "inputs", UNWATCHED)
    assert log.attempt(ref("a"), read) == 20
    assert (reads, log.left_out) == (2, [])
