"""The hash tree over a task list: an episode can be removed from the list, and the rest still be proven.

Each episode's object of `tasks.jsonl` is replaced by its SHA-256; the SHA-256 of the resulting lines is a plan's
setting `tasks_tree`, and so part of its fingerprint. When an episode is dropped from a finished build, its
hash takes the place of its object: the tree does not change.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.planning.tasks import CANONICAL, ShardTask, line_of, ref_content

TASKS_TREE = "tasks_tree"
"""Key of the settings."""

DROPPED = "dropped"
"""Key of a dropped episode's `data`: the SHA-256 that its object had."""


@dataclass(frozen=True)
class TaskHashes:
    """SHA-256 in hex. tree: of the hash tree, as `docs/formats.md` defines it; lines: of tasks.jsonl."""

    tree: str
    lines: str

    @classmethod
    def of(cls, tasks: Iterable[ShardTask]) -> TaskHashes:
        """Both in one pass: to write an episode as JSON is what takes time."""
        tree, lines = hashlib.sha256(), hashlib.sha256()
        for task in tasks:
            contents = [ref_content(ref) for ref in task.episodes]
            texts = [CANONICAL.encode(content) for content in contents]
            hashes = [_sha256_of(content, text) for content, text in zip(contents, texts, strict=True)]
            lines.update(line_of(task, texts))
            tree.update(line_of(task, [f'"{sha256}"' for sha256 in hashes]))
        return cls(tree.hexdigest(), lines.hexdigest())


def episode_sha256(episode: Mapping[str, Any]) -> str:
    """SHA-256 of an episode's object in a task; for a dropped one that of its former object."""
    return _sha256_of(episode, CANONICAL.encode(episode))


def _sha256_of(episode: Mapping[str, Any], text: str) -> str:
    return str(episode["data"][DROPPED]) if is_dropped(episode) else hashlib.sha256(text.encode()).hexdigest()


def is_dropped(episode: Mapping[str, Any]) -> bool:
    """Whether nothing is left of an episode but its id, its split and a hash."""
    return set(episode["data"]) == {DROPPED} and not episode["files"] and episode["num_frames"] is None
