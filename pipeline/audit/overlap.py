"""Whether builds that are trained together keep each other's held-out episodes out of training (rule L6).

No audit of one build can see it. An episode is known by the raw files it was planned from: their paths and sizes, and
where the plan hashed them (`hash_raw`) their hashes, which a renamed copy keeps; with its place in files that hold
several. M marks, E episodes.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import BuildError
from pipeline.format.json.strict_json import canonical, member, parse_object
from pipeline.format.text.printable import printable

_PLACE = ("record", "demo", "rows", "episode_index")
"""Of an episode in files that hold several, by the readers."""


@dataclass(frozen=True)
class EpisodeMarks:
    """The episodes of a build by marks of their raw files.

    marks    uint64 [M];  episode  int64 [M], the mark's row in `ids`
    ids, splits  of E episodes
    """

    build: str
    marks: NDArray[np.uint64]
    episode: NDArray[np.int64]
    ids: tuple[str, ...]
    splits: NDArray[np.str_]

    def chosen(self, train: bool) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
        """Marks and rows of the train episodes, or of the others."""
        wanted = (self.splits[self.episode] == "train") == train
        return self.marks[wanted], self.episode[wanted]


@dataclass(frozen=True)
class Overlap:
    """An episode that one build trains on and another holds out."""

    train: str
    episode: str
    held_out: str
    split: str
    other: str

    @property
    def text(self) -> str:
        """One line."""
        return printable(
            f"episode {self.episode} is in train of {self.train} and in {self.split} of {self.held_out} as {self.other}"
        )


def read_marks(build: str, tasks: bytes) -> EpisodeMarks:
    """The episodes of a tasks.jsonl. Dropped ones, of which nothing is left, have no marks.

    Args:
        build: its name, for messages.

    Raises:
        BuildError: it is malformed.
    """
    marks: list[int] = []
    rows: list[int] = []
    ids: list[str] = []
    splits: list[str] = []
    for number, line in enumerate(tasks.splitlines(), start=1):
        where = f"{build}: tasks.jsonl:{number}"
        for ref in member(parse_object(line, where), "episodes", list, where):
            if not isinstance(ref, dict):
                raise BuildError(f"{where}: an episode must be an object")
            own = list(_marks(ref, where))
            marks += own
            rows += [len(ids)] * len(own)
            ids.append(member(ref, "id", str, where))
            splits.append(member(ref, "split", str, where))
    return EpisodeMarks(
        build, np.array(marks, np.uint64), np.array(rows, np.int64), tuple(ids), np.array(splits, np.str_)
    )


def overlaps(builds: Sequence[EpisodeMarks]) -> Iterator[Overlap]:
    """Every episode in train of one build that another one holds out."""
    for train, held_out in itertools.permutations(builds, 2):
        a, b = train.chosen(True), held_out.chosen(False)
        seen: set[tuple[int, int]] = set()
        _, first, second = np.intersect1d(a[0], b[0], return_indices=True)
        for i, j in zip(a[1][first].tolist(), b[1][second].tolist(), strict=True):
            if (i, j) not in seen:
                seen.add((i, j))
                yield Overlap(train.build, train.ids[i], held_out.build, str(held_out.splits[j]), held_out.ids[j])


def _marks(ref: dict[str, Any], where: str) -> Iterator[int]:
    files, hashes = member(ref, "files", list, where), ref.get("sha256", [])
    data = member(ref, "data", dict, where)
    if not files:
        return
    place = {name: data[name] for name in _PLACE if name in data}
    if not isinstance(hashes, list) or not all(isinstance(text, str) for text in hashes):
        raise BuildError(f"{where}: sha256 must be a list of texts")
    try:
        yield _mark(["files", files, place])
        if hashes:
            yield _mark(["sha256", sorted(hashes), place])
    except ValueError as error:
        raise BuildError(f"{where}: {printable(error)}") from error


def _mark(value: Any) -> int:
    return int.from_bytes(hashlib.sha256(canonical(value).encode("utf-8", "surrogatepass")).digest()[:8], "big")
