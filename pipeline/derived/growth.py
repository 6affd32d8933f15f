"""New episodes of a dataset since a build was made of it, and those that vanished or changed."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from pipeline.derived.plan import refs_of
from pipeline.planning.plan import Plan
from pipeline.planning.task_tree import is_dropped
from pipeline.sources.base import LedgerEntry, SourceIndex


@dataclass(frozen=True)
class IndexDiff:
    """An index beside a plan.

    index     the episodes that the plan does not know, and left_out that no ledger holds yet
    vanished  planned episodes that are no longer in the index
    changed   planned episodes for which the index differs: files, sizes, length, text or split
    """

    index: SourceIndex
    vanished: tuple[str, ...]
    changed: tuple[str, ...]


def compare(plan: Plan, ledger: Collection[LedgerEntry], index: SourceIndex, splits: Sequence[str]) -> IndexDiff:
    """What is new in an index.

    An episode that the plan left out before its shards were made is new if the index can use it now; one that was
    dropped is known, and stays left out.

    Args:
        ledger: that of the build of the plan.
        splits: those that are built.
    """
    known = {ref.id: ref for ref in refs_of(plan)}
    found = {ref.id: ref for ref in index.refs}
    noted = {entry.episode for entry in ledger}
    new = tuple(ref for ref in index.refs if ref.id not in known and ref.split in splits)
    left_out = tuple(entry for entry in index.left_out if entry.episode not in noted and entry.episode not in known)
    kept = {name: ref for name, ref in known.items() if not is_dropped(ref.content())}
    vanished = tuple(sorted(name for name in kept if name not in found))
    changed = tuple(sorted(name for name, ref in kept.items() if name in found and ref != found[name]))
    return IndexDiff(replace(index, refs=new, left_out=left_out), vanished, changed)
