"""A shard's task, and tasks.jsonl: written and read line by line, as a million episodes make hundreds of megabytes."""

from __future__ import annotations

import contextlib
import gc
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, overload

from pipeline.format.json.strict_json import parse_any
from pipeline.sources.base import EpisodeRef
from pipeline.sources.canonical_json import CANONICAL

EpisodeGroup = tuple[EpisodeRef, ...]
"""Episodes that are encoded together."""


@dataclass(frozen=True, slots=True)
class ShardTask:
    """One shard to make: its episodes, in order, in groups that are decoded together."""

    split: str
    index: int
    groups: Sequence[EpisodeGroup]

    @property
    def name(self) -> str:
        return f"{self.split}-{self.index:06d}"

    @property
    def episodes(self) -> tuple[EpisodeRef, ...]:
        return tuple(ref for group in self.groups for ref in group)

    @property
    def num_episodes(self) -> int:
        return self.groups.episodes if isinstance(self.groups, StoredGroups) else sum(map(len, self.groups))


@dataclass(frozen=True, slots=True, eq=False)
class StoredGroups(Sequence[EpisodeGroup]):
    """The groups of a task that was read: its line, parsed at each access to an episode.

    A driver keeps the tasks of a whole plan; their parsed episodes would take three times the memory of the lines.

    length, episodes  number of groups and of episodes
    """

    line: bytes
    length: int
    episodes: int

    def __len__(self) -> int:
        return self.length

    @overload
    def __getitem__(self, index: int) -> EpisodeGroup: ...

    @overload
    def __getitem__(self, index: slice) -> tuple[EpisodeGroup, ...]: ...

    def __getitem__(self, index: int | slice) -> EpisodeGroup | tuple[EpisodeGroup, ...]:
        return self._parsed()[index]

    def __iter__(self) -> Iterator[EpisodeGroup]:
        return iter(self._parsed())

    def __eq__(self, other: object) -> bool:
        """Like a tuple of the groups."""
        if isinstance(other, StoredGroups) and self.line == other.line:
            return True
        return self._parsed() == (other._parsed() if isinstance(other, StoredGroups) else other)

    def _parsed(self) -> tuple[EpisodeGroup, ...]:
        content = json.loads(self.line)
        refs = iter([_ref(episode) for episode in content["episodes"]])
        return tuple(tuple(next(refs) for _ in range(count)) for count in content["groups"])


def task_lines(tasks: Iterable[ShardTask]) -> Iterator[bytes]:
    """The content of tasks.jsonl: one line a shard."""
    for task in tasks:
        yield line_of(task, [ref.text() for ref in task.episodes])


def line_of(task: ShardTask, episodes: Iterable[bytes]) -> bytes:
    """The line of a task, of what is written for each of its episodes."""
    groups = ",".join([str(len(group)) for group in task.groups])
    rest = f'],"groups":[{groups}],"index":{task.index},"split":{CANONICAL.encode(task.split)}}}\n'
    return b'{"episodes":[' + b",".join(episodes) + rest.encode()


def read_task(line: bytes) -> ShardTask:
    """The task of a line of tasks.jsonl.

    Raises:
        ValueError: the line is no task.
    """
    content = parse_any(line)
    if type(content) is not dict or not {"split", "index", "groups", "episodes"} <= content.keys():
        raise ValueError("a task must be an object with split, index, groups and episodes")
    split, index, sizes, episodes = (content[name] for name in ("split", "index", "groups", "episodes"))
    if type(split) is not str or type(index) is not int or index < 0:
        raise ValueError(f"a task must have a split and an index, found {split!r:.40} and {index!r:.40}")
    if type(sizes) is not list or type(episodes) is not list or not all(type(size) is int for size in sizes):
        raise ValueError(f"groups and episodes of task {split}/{index} must be lists")
    if not all(size >= 0 for size in sizes) or sum(sizes) != len(episodes):
        raise ValueError(f"task {split}/{index} has groups of {sizes!r:.80} episodes, but {len(episodes)} of them")
    if not all(map(_is_ref, episodes)):
        raise ValueError(f"task {split}/{index} holds something else than episodes")
    return ShardTask(sys.intern(split), index, StoredGroups(line, len(sizes), len(episodes)))


@contextlib.contextmanager
def no_cycles() -> Iterator[None]:
    """Stop the search for cycles of objects, in a block that makes none.

    It would look through the millions of objects of an index again and again, for half of a plan's time.
    """
    searching = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if searching:
            gc.enable()


def _ref(content: dict[str, Any]) -> EpisodeRef:
    files, sha256 = tuple((path, size) for path, size in content["files"]), tuple(content.get("sha256", ()))
    return EpisodeRef(content["id"], content["split"], files, content["num_frames"], content["data"], sha256)


def _is_ref(value: Any) -> bool:
    """Whether an episode of a line has the types that `_ref` and its users rely on."""
    if type(value) is not dict or not {"id", "split", "files", "num_frames", "data"} <= value.keys():
        return False
    files, hashes = value["files"], value.get("sha256", [])
    if not type(value["id"]) is type(value["split"]) is str or type(value["data"]) is not dict:
        return False
    if type(value["num_frames"]) not in (int, type(None)) or not type(files) is type(hashes) is list:
        return False
    for file in files:  # a loop: a plan of a million episodes has millions of files
        if type(file) is not list or len(file) != 2 or type(file[0]) is not str or type(file[1]) is not int:
            return False
    return all(type(digest) is str for digest in hashes)
