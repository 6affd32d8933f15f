"""`vlajepa audit 'builds=[A,B]'`: whether builds that are trained together keep each other's held-out episodes out.

Episodes by their raw files first. With the raw data of each build, near-duplicates too, and the test sets of the raw
data. Exit code 0 nothing found, 1 found, 2 could not be compared.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from jobs.audit.raw_place import raw_place
from jobs.audit.remote_build import remote_build
from jobs.audit.settings import AuditConfig
from jobs.common.escaped import escaped_errors
from jobs.common.progress import progress_bar
from pipeline.audit.duplicates.search import DuplicateSearch
from pipeline.audit.duplicates.sketch import sketch_frames
from pipeline.audit.overlap import EpisodeMarks, overlaps, read_marks
from pipeline.audit.raw.base import RawError, RawSource
from pipeline.audit.raw.registry import open_raw
from pipeline.audit.verdicts.audited import read_audited
from pipeline.errors import BuildError, SettingsError
from pipeline.format.build import Build, read_build
from pipeline.format.text.printable import printable
from pipeline.storage.store import is_remote

SHOWN = 20


@dataclass(frozen=True)
class _Side:
    """One of the builds. raw: None where no raw data was given."""

    build: Build
    marks: EpisodeMarks
    raw: RawSource | None


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
    raw = None if root is None else open_raw(build.settings.content["source"], raw_place(root))
    return _Side(build, read_marks(build.name, build.read_file("tasks.jsonl")), raw)


def _near_duplicates(sides: list[_Side]) -> Iterator[str]:
    """Held-out and test episodes of any raw data that look like a train episode of a build."""
    raws = {side.build.name: side.raw for side in sides if side.raw is not None}

    def read(name: str, view: str) -> Iterator[NDArray[np.uint8]]:
        build, _, episode = name.partition(":")
        return raws[build].readable_frames(episode, view)

    search, readable = DuplicateSearch(), 0
    wanted = [(side, episode, split) for side in sides for episode, split in _episodes(side)]
    with progress_bar(total=len(wanted), unit="episode", desc="compare") as bar:
        for side, episode, split in wanted:
            readable += _add(search, side, episode, split)
            bar.update()
    if wanted and not readable:
        raise BuildError("no episode of the builds can be read below roots=; give the roots they were made from")
    for match in search.matches(read):
        yield printable(
            f"{match.split} episode {match.episode} shows what train episode {match.other} shows ({match.view}, "
            f"{match.relation}; correlation {match.correlation:.2f})"
        )


def _episodes(side: _Side) -> list[tuple[str, str]]:
    """Id and split: the plan's, and the raw data's own test set."""
    planned = list(zip(side.marks.ids, side.marks.splits.tolist(), strict=True))
    return planned + [(episode, "test") for episode in (side.raw.episodes("test") if side.raw else ())]


def _add(search: DuplicateSearch, side: _Side, episode: str, split: str) -> bool:
    """Whether the episode could be read."""
    assert side.raw is not None
    try:
        opened = side.raw.open(episode)
        views = {view: sketch_frames(frame for _, frame in opened.frames(view)) for view in opened.frame_readers}
    except RawError:
        return False  # level source reports it of a build's episode
    for view, words in views.items():
        search.add_words(f"{side.build.name}:{episode}", split, view, words)
    return True
