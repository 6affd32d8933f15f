"""The plans that a build's task list was put together from, and what is left to derive of each.

A build that `preprocess` made has one plan. `merge` and `extend` write the tasks of their parents one after the other,
split by split; a drop keeps its parent's tasks. So every stretch of the task list of a split is that of one plan which
read raw data, in its order.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.audit.build import ClaimedBuild

_SPLITS = ("train", "val")


@dataclass(frozen=True)
class LeafPlan:
    """lines: of the task list, by split, in order."""

    lines: Mapping[str, tuple[int, ...]]


def leaf_plans(build: ClaimedBuild) -> list[LeafPlan] | None:
    """The plans of a build; None when its descent is not as it should be (found by rule L7 at level manifest)."""
    lines: dict[str, list[int]] = {split: [] for split in _SPLITS}
    for line, (split, _) in enumerate(build.tasks.tasks):
        lines.setdefault(split, []).append(line)
    counts = {split: len(own) for split, own in lines.items()}
    try:
        shares = list(_shares(build.settings, counts, build.ancestors, 0))
    except (KeyError, TypeError, ValueError, IndexError):
        return None
    found, begin = [], dict.fromkeys(lines, 0)
    for share in shares:
        found.append(LeafPlan({split: tuple(lines[split][begin[split] :][: share[split]]) for split in lines}))
        begin = {split: begin[split] + share[split] for split in lines}
    return found if begin == counts else None


def _shares(
    settings: Mapping[str, Any], counts: Mapping[str, int], ancestors: Mapping[str, Any], depth: int
) -> Iterator[Mapping[str, int]]:
    """Tasks of each split that every plan has. Raises KeyError, TypeError, ValueError or IndexError."""
    derived = settings.get("derived")
    if depth > len(ancestors):
        raise ValueError("ancestors lead in a circle")
    if derived is None:
        yield counts
        return
    parents = [ancestors[fingerprint]["settings"] for fingerprint in derived["parents"]]
    own = [counts] if derived["kind"] == "drop" else [{**dict.fromkeys(counts, 0), **n} for n in derived["tasks"]]
    for parent, share in zip(parents, own, strict=True):
        yield from _shares(parent, share, ancestors, depth + 1)
