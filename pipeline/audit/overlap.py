"""Whether builds that are trained together keep each other's held-out episodes out of training (rule L6).

No audit of one build can see it. An episode is known by each of its raw files, so that builds of other cameras of one
dataset are compared too: by the file's hash where both plans have hashes (`hash_raw`), which a renamed copy keeps, else
by its path and size; in files that hold several episodes with its place there, never with its number, which a copy may
change. A file that several episodes of a build have in common, such as a film of a covered camera, says nothing, nor
does the list of a dataset's tasks. M marks, E episodes.
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

_PLACE = ("record", "demo", "rows")
"""Of an episode in files that hold several, by the readers; of a LeRobot dataset `rows` are of its table."""


@dataclass(frozen=True)
class Marks:
    """Files of episodes. values: uint64 [M];  episode: int64 [M], the mark's row in `EpisodeMarks.ids`."""

    values: NDArray[np.uint64]
    episode: NDArray[np.int64]

    @classmethod
    def of(cls, found: Sequence[tuple[int, int]]) -> Marks:
        """Those (mark, episode) whose mark only one episode has."""
        pairs = np.array(sorted(set(found)), dtype=np.uint64).reshape(-1, 2)
        _, first, times = np.unique(pairs[:, 0], return_index=True, return_counts=True)
        own = first[times == 1]
        return cls(pairs[own, 0], pairs[own, 1].astype(np.int64))

    def chosen(self, rows: NDArray[np.bool_]) -> Marks:
        """Those of the episodes for which bool [E] holds."""
        wanted = rows[self.episode]
        return Marks(self.values[wanted], self.episode[wanted])


@dataclass(frozen=True)
class EpisodeMarks:
    """The episodes of a build by marks of their raw files.

    names, hashes  marks of paths and sizes, and of contents; hashes: None unless every file has one
    ids, splits    of E episodes
    """

    build: str
    names: Marks
    hashes: Marks | None
    ids: tuple[str, ...]
    splits: NDArray[np.str_]


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
    names: list[tuple[int, int]] = []
    hashes: list[tuple[int, int]] | None = []
    ids: list[str] = []
    splits: list[str] = []
    for number, line in enumerate(tasks.splitlines(), start=1):
        where = f"{build}: tasks.jsonl:{number}"
        for ref in member(parse_object(line, where), "episodes", list, where):
            if not isinstance(ref, dict):
                raise BuildError(f"{where}: an episode must be an object")
            for file, digest, place in _files(ref, where):
                names.append((_mark(["file", file, place], where), len(ids)))
                if hashes is not None and digest is not None:
                    hashes.append((_mark(["sha256", digest, place], where), len(ids)))
                else:
                    hashes = None
            ids.append(member(ref, "id", str, where))
            splits.append(member(ref, "split", str, where))
    known = None if hashes is None else Marks.of(hashes)
    return EpisodeMarks(build, Marks.of(names), known, tuple(ids), np.array(splits, np.str_))


def overlaps(builds: Sequence[EpisodeMarks]) -> Iterator[Overlap]:
    """Every episode in train of one build that another one holds out."""
    for train, held_out in itertools.permutations(builds, 2):
        one, other = train.names, held_out.names
        if train.hashes is not None and held_out.hashes is not None:
            one, other = train.hashes, held_out.hashes
        one, other = one.chosen(train.splits == "train"), other.chosen(held_out.splits != "train")
        _, first, second = np.intersect1d(one.values, other.values, return_indices=True)
        for i, j in sorted({*zip(one.episode[first].tolist(), other.episode[second].tolist(), strict=True)}):
            yield Overlap(train.build, train.ids[i], held_out.build, str(held_out.splits[j]), held_out.ids[j])


def _files(ref: dict[str, Any], where: str) -> Iterator[tuple[Any, str | None, Any]]:
    """The files of an episode, their hashes where the plan has them, and its place in each."""
    files, hashes = member(ref, "files", list, where), ref.get("sha256", [])
    data = member(ref, "data", dict, where)
    if not isinstance(hashes, list) or not all(isinstance(text, str) for text in hashes):
        raise BuildError(f"{where}: sha256 must be a list of texts")
    known = hashes if len(hashes) == len(files) else [None] * len(files)
    films = data.get("videos")
    spans = {film[0]: film[1:3] for film in films.values() if _is_film(film)} if isinstance(films, dict) else {}
    for file, digest in zip(files, known, strict=True):
        path = file[0] if isinstance(file, list) and file and isinstance(file[0], str) else None
        if path is not None and path in spans:
            yield file, digest, spans[path]  # from and to, in seconds; nothing in a film of one episode
        elif path is None or path != data.get("tasks_file"):
            yield file, digest, _place(data)


def _is_film(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], str)


def _place(data: dict[str, Any]) -> dict[str, Any]:
    """Where an episode stands in a file that is no film."""
    several = data.get("version") == "v3.0" and "rows" not in data  # a table without ranges: the number is all there is
    return {name: data[name] for name in (*_PLACE, *(("episode_index",) if several else ())) if name in data}


def _mark(value: Any, where: str) -> int:
    try:
        text = canonical(value).encode("utf-8", "surrogatepass")
    except ValueError as error:
        raise BuildError(f"{where}: {printable(error)}") from error
    return int.from_bytes(hashlib.sha256(text).digest()[:8], "big")
