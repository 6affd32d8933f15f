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

from pipeline.planning.tasks import ShardTask, line_of
from pipeline.sources.base import EpisodeRef
from pipeline.sources.canonical_json import CANONICAL

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
            refs = task.episodes
            texts = [ref.text() for ref in refs]
            hashes = [_sha256_of_ref(ref, text) for ref, text in zip(refs, texts, strict=True)]
            lines.update(line_of(task, texts))
            tree.update(line_of(task, [b'"%b"' % sha256.encode() for sha256 in hashes]))
        return cls(tree.hexdigest(), lines.hexdigest())


def episode_sha256(episode: Mapping[str, Any]) -> str:
    """SHA-256 of an episode's object in a task; for a dropped one that of its former object."""
    return _sha256_of(episode, CANONICAL.encode(episode).encode())


def _sha256_of_ref(ref: EpisodeRef, text: bytes) -> str:
    """Of the JSON alone, unless the episode may be a dropped one: a dropped one has no length."""
    return _sha256_of(ref.content(), text) if ref.num_frames is None and DROPPED.encode() in text else _sha256(text)


def _sha256(text: bytes) -> str:
    return hashlib.sha256(text).hexdigest()


def _sha256_of(episode: Mapping[str, Any], text: bytes) -> str:
    return str(episode["data"][DROPPED]) if is_dropped(episode) else _sha256(text)


def is_dropped(episode: Mapping[str, Any]) -> bool:
    """Whether nothing is left of an episode but its id, its split and a hash."""
    return set(episode["data"]) == {DROPPED} and not episode["files"] and episode["num_frames"] is None
