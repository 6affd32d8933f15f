"""The hash tree over a task list: an episode can be removed from the list, and the rest still be proven.

Each episode's object of `tasks.jsonl` is replaced by its SHA-256; the SHA-256 of the resulting lines is a plan's
setting `tasks_tree`, and so part of its fingerprint. When an episode is dropped from a finished build, its
hash takes the place of its object: the tree does not change.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

from pipeline.planning.tasks import CANONICAL

TASKS_TREE = "tasks_tree"
"""Key of the settings."""

DROPPED = "dropped"
"""Key of a dropped episode's `data`: the SHA-256 that its object had."""


def tasks_tree(tasks: Iterable[Mapping[str, Any]]) -> str:
    """SHA-256 in hex, as `docs/formats.md` defines it.

    Args:
        tasks: the objects of tasks.jsonl, in order.
    """
    digest = hashlib.sha256()
    for task in tasks:
        content = {**task, "episodes": [episode_sha256(episode) for episode in task["episodes"]]}
        digest.update(_bytes(content) + b"\n")
    return digest.hexdigest()


def episode_sha256(episode: Mapping[str, Any]) -> str:
    """SHA-256 of an episode's object in a task; for a dropped one that of its former object."""
    if is_dropped(episode):
        return str(episode["data"][DROPPED])
    return hashlib.sha256(_bytes(episode)).hexdigest()


def is_dropped(episode: Mapping[str, Any]) -> bool:
    """Whether nothing is left of an episode but its id, its split and a hash."""
    return set(episode["data"]) == {DROPPED} and not episode["files"] and episode["num_frames"] is None


def _bytes(content: Mapping[str, Any]) -> bytes:
    return CANONICAL.encode(content).encode()
