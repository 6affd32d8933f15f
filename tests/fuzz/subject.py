"""What is fuzzed: a folder of files, what reads them, and what a reader may not accept."""

from __future__ import annotations

import os
import random
import shutil
import signal
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from pipeline.errors import EpisodeError, RunError
from tests.fuzz.spoil import spoil

SECONDS = 20
"""A reader that takes longer hangs."""

LONGEST = 4000
"""Characters of a message."""


class HangError(Exception):
    """A reader took too long."""


@dataclass(frozen=True)
class Subject:
    """A folder.

    files    to spoil: glob patterns below it
    readers  by name, what commands do with the folder
    repair   makes the hashes fit again, as an attacker would; None where there are none
    covered  files that a hash covers: where it was not repaired, these readers have to refuse every change of them
    refuse   names of these readers
    """

    name: str
    folder: Path
    files: Sequence[str]
    readers: dict[str, Callable[[Path], object]]
    repair: Callable[[Path, str], None] | None = None
    covered: Sequence[str] = ()
    refuse: Sequence[str] = ()


@dataclass(frozen=True)
class Finding:
    """What reproduces it, and what was wrong."""

    subject: str
    file: str
    seed: int
    repaired: bool
    reader: str
    problem: str


def try_one(subject: Subject, seed: int, folder: Path) -> Iterator[Finding]:
    """Spoil one file of a copy below `folder`, and read it in every way."""
    rng = random.Random(f"{subject.name} {seed}")
    copy = folder / f"{subject.name}-{seed}"
    _link(subject.folder, copy)
    paths = sorted({path for pattern in subject.files for path in subject.folder.glob(pattern) if path.is_file()})
    name = rng.choice(paths).relative_to(subject.folder).as_posix()
    before = (subject.folder / name).read_bytes()
    after = spoil(before, name, rng)
    repaired = subject.repair is not None and rng.random() < 0.6
    (copy / name).unlink()
    (copy / name).write_bytes(after)
    try:
        if repaired and subject.repair is not None:
            subject.repair(copy, name)
        covered = not repaired and any(Path(name).match(pattern) for pattern in subject.covered) and before != after
        for reader, read in subject.readers.items():
            problem = _outcome(read, copy, covered and reader in subject.refuse)
            if problem:
                yield Finding(subject.name, name, seed, repaired, reader, problem)
    finally:
        shutil.rmtree(copy)


def _outcome(read: Callable[[Path], object], folder: Path, must_refuse: bool) -> str:
    """What is wrong with how a reader took it; "" if nothing is."""
    try:
        with _time_limit():
            refused = read(folder) is REFUSED
    except (RunError, EpisodeError, OSError) as error:
        text = str(error)
        return f"a message of {len(text)} characters: {text[:200]}" if len(text) > LONGEST else ""
    except HangError:
        return f"still reading after {SECONDS} s"
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        own = [frame for frame in frames if not any(part in frame.filename for part in ("/tests/", "/lib/python", "<"))]
        place = (own or frames)[-1]
        return f"{type(error).__name__} at {os.path.relpath(place.filename)}:{place.lineno}: {str(error)[:200]!r}"
    return "accepted, though the file is not the one that was hashed" if must_refuse and not refused else ""


REFUSED = object()
"""Returned by a reader that says "no" without an exception."""


@contextmanager
def _time_limit() -> Iterator[None]:
    def late(_number: int, _frame: FrameType | None) -> None:
        raise HangError

    before: Any = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _link(original: Path, copy: Path) -> None:
    """The same tree; its files are hard links."""
    shutil.copytree(original, copy, copy_function=os.link)
