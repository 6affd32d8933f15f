"""`vlajepa audit 'builds=[A,B]'`: whether builds that are trained together keep each other's held-out episodes out.

Episodes by their raw files first. With the raw data of each build, near-duplicates too, and the test sets of the raw
data. Exit code 0 nothing found, 1 found, 2 could not be compared.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from jobs.audit.planned_files import changed_file, planned_files
from jobs.audit.raw_place import raw_place
from jobs.audit.remote_build import remote_build
from jobs.audit.settings import AuditConfig
from jobs.common.escaped import escaped_errors
from jobs.common.progress import progress_bar
from pipeline.audit.duplicates.numbers import NumberSearch, number_marks
from pipeline.audit.duplicates.search import DuplicateSearch
from pipeline.audit.duplicates.sketch import sketch_frames
from pipeline.audit.overlap import EpisodeMarks, overlaps, read_marks
from pipeline.audit.raw.base import RawError, RawSource
from pipeline.audit.raw.place import Place
from pipeline.audit.raw.registry import open_raw
from pipeline.audit.verdicts.audited import read_audited
from pipeline.errors import BuildError, SettingsError
from pipeline.format.build import Build, read_build
from pipeline.format.text.printable import printable
from pipeline.storage.store import is_remote

SHOWN = 20


@dataclass(frozen=True)
class _Side:
    """One of the builds. raw, root: None where no raw data was given."""

    build: Build
    marks: EpisodeMarks
    raw: RawSource | None
    root: Path | Place | None


@dataclass(frozen=True)
class BuildsCompared:
    """What was found between builds that are to be trained together.

    episodes  compared
    overlaps  what breaks rule L6, one text each
    """

    episodes: int
    overlaps: tuple[str, ...]

    @property
    def exit_code(self) -> int:
        """0 clean, 1 if there is any."""
        return int(bool(self.overlaps))


def run_compare(settings: AuditConfig) -> BuildsCompared:
    """Compare and print."""
    with escaped_errors(), contextlib.ExitStack() as stack:
        places = [stack.enter_context(_here(str(place))) for place in settings.builds]
        roots = settings.roots or (None,) * len(places)
        sides = [_side(place, root) for place, root in zip(places, roots, strict=True)]
        names = [side.build.name for side in sides]
        if len(set(names)) < len(names):
            raise SettingsError(
                f"two builds have the same name ({', '.join(names)}); they cannot be trained together: make one of "
                "them again with another source.name, or leave out what is a copy"
            )
        found = [overlap.text for overlap in overlaps([side.marks for side in sides])]
        if settings.roots:
            found += _near_duplicates(sides)
    for line in found[:SHOWN]:
        print(f"L6: {line}")
    if len(found) > SHOWN:
        print(f"… and {len(found) - SHOWN:,} more")
    how = "raw files, near-duplicates and test sets" if settings.roots else "raw files; near-duplicates need roots=[…]"
    count = sum(len(side.marks.ids) for side in sides)
    print(f"{'LEAK' if found else 'CLEAN'}: {len(sides)} builds, {count:,} episodes compared by {how}")
    return BuildsCompared(count, tuple(found))


@contextlib.contextmanager
def _here(address: str) -> Iterator[Path]:
    """The folder of a build's small files."""
    if not is_remote(address):
        yield Path(address)
        return
    with remote_build(address) as place:
        yield place.root


def _side(path: Path, root: Path | str | None) -> _Side:
    build = read_build(read_audited(path).manifest, path)
    place = None if root is None else raw_place(root)
    raw = None if place is None else open_raw(build.settings.content["source"], place)
    return _Side(build, read_marks(build.name, build.read_file("tasks.jsonl")), raw, place)


def _near_duplicates(sides: list[_Side]) -> Iterator[str]:
    """Held-out and test episodes of any raw data that look like a train episode of a build."""
    raws = {side.build.name: side.raw for side in sides if side.raw is not None}

    def read(name: str, view: str) -> Iterator[NDArray[np.uint8]]:
        build, _, episode = name.partition(":")
        return raws[build].readable_frames(episode, view)

    for side in sides:
        _require_files(side)
    search, numbers, gone = DuplicateSearch(), NumberSearch(), dict[str, list[str]]()
    wanted = [(side, episode, split) for side in sides for episode, split in _episodes(side)]
    with progress_bar(total=len(wanted), unit="episode", desc="compare") as bar:
        for side, episode, split in wanted:
            problem = _add(search, numbers, side, episode, split)
            if problem:
                gone.setdefault(side.build.name, []).append(problem)
            bar.update()
    for name, problems in gone.items():
        count = sum(side.build.name == name for side, _, _ in wanted)
        raise BuildError(_unread(name, problems, count))
    for same in numbers.matches():
        yield printable(f"episode {same.episode} has the state and actions of train episode {same.other}, to the bit")
    for match in search.matches(read):
        yield printable(
            f"{match.split} episode {match.episode} shows what train episode {match.other} shows ({match.view}, "
            f"{match.relation}; correlation {match.correlation:.2f})"
        )


def _require_files(side: _Side) -> None:
    """Raise BuildError if raw files of the build's episodes are not there, or not of their planned size."""
    assert side.root is not None
    planned = list(planned_files(side.build))
    problems = [problem for _, files in planned if (problem := changed_file(files, side.root))]
    if problems:
        raise BuildError(_unread(side.build.name, problems, len(planned)))


def _unread(name: str, problems: Sequence[str], count: int) -> str:
    return printable(
        f"{len(problems):,} of {count:,} episodes of {name} cannot be compared, the first because of {problems[0]}; "
        "give with roots= the raw data that the builds were made from"
    )


def _episodes(side: _Side) -> list[tuple[str, str]]:
    """Id and split: those of the plan that were not left out, and the raw data's own test set."""
    splits = dict(zip(side.marks.ids, side.marks.splits.tolist(), strict=True))
    planned = [(episode, splits[episode]) for episode, _ in planned_files(side.build)]
    return planned + [(episode, "test") for episode in (side.raw.episodes("test") if side.raw else ())]


def _add(search: DuplicateSearch, numbers: NumberSearch, side: _Side, episode: str, split: str) -> str:
    """Why the episode cannot be read; "" where it was. Of a test set, of which no build has samples, films may be
    damaged: nothing that cannot be read is trained on."""
    assert side.raw is not None
    try:
        opened = side.raw.open(episode)
        views = {view: sketch_frames(frame for _, frame in opened.frames(view)) for view in opened.frame_readers}
    except RawError as error:
        return "" if split == "test" else str(error)
    name = f"{side.build.name}:{episode}"
    for view, words in views.items():
        search.add_words(name, split, view, words)
    numbers.add(name, split, number_marks(opened.state, opened.actions, split))
    return ""
