"""Builds made from others (`settings.derived`): every ancestor's fingerprint and task list, derived again from this
build's own files; dropped episodes; and which ancestor the files of a shard may have been written for. Rule L7.

A plan's settings hold `tasks_tree`: the SHA-256 of its task list with each episode in place of its own SHA-256. What
was dropped leaves this hash behind, so the trees of all ancestors can be computed from the task list that is left, and
their fingerprints, which cover the trees, from the settings in `ancestors`.
"""

from __future__ import annotations

import hashlib
import itertools
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.audit.build import ClaimedBuild
from pipeline.audit.files import BUILD, LEDGER, TASKS
from pipeline.audit.finding import Report
from pipeline.audit.ledger import ledger_entries
from pipeline.format.json.strict_json import canonical

TREE = "tasks_tree"
DERIVED = "derived"
SPLITS = ("train", "val")

MAY_DIFFER = {"drop": (DERIVED,), "merge": (DERIVED, TREE, "description", "splits")}
MAY_DIFFER["extend"] = MAY_DIFFER["merge"]
"""Sections of the settings that a derived build need not have in common with its parents."""


@dataclass(frozen=True)
class _Node:
    """This build or an ancestor. places: for each of its tasks, in order, the line of this build's task list and the
    index it has there; dropped: episodes that were dropped between it and this build."""

    fingerprint: str
    settings: Mapping[str, Any]
    places: tuple[tuple[int, int], ...]
    dropped: frozenset[str]


class _WrongError(Exception):
    """What `derived` or `ancestors` holds cannot be followed any further."""


def check(build: ClaimedBuild, report: Report) -> None:
    """Follow the build back to where its shards were written."""
    report.check("L7")
    is_derived = DERIVED in build.settings
    if not is_derived and (build.ancestors or any(shard.origin for shard in build.shards)):
        report.found("L7", BUILD, "the build names ancestors or origins, but settings.derived does not name their kind")
    places = tuple((line, index) for line, (_, index) in enumerate(build.tasks.tasks))
    root = _Node(build.fingerprint, build.settings, places, frozenset())
    if is_derived or TREE in build.settings:
        _check_tree(build, root, report)
    try:
        nodes = list(_ancestry(build, root, report))
    except _WrongError as error:
        report.found("L7", BUILD, str(error))
        return
    for unknown in sorted(set(build.ancestors) - {node.fingerprint for node in nodes[1:]}):
        report.found("L10", BUILD, f"ancestors holds {unknown:.16}, from which the build was not made")
    _check_dropped(build, nodes, report)
    _check_origins(build, nodes, report)


def _ancestry(build: ClaimedBuild, root: _Node, report: Report) -> Iterator[_Node]:
    """The build and its ancestors, each after those it is a parent of. Raises _WrongError."""
    pending, seen = [root], {root.fingerprint}
    while pending:
        node = pending.pop()
        yield node
        if DERIVED not in node.settings:
            continue
        for parent in _parents(build, node):
            report.check("L7", 2)
            if parent.fingerprint in seen:
                raise _WrongError(f"settings.derived leads to {parent.fingerprint:.16} twice")
            seen.add(parent.fingerprint)
            _check_fingerprint(build, parent, report)
            _check_tree(build, parent, report)
            _check_settings(node, parent, report)
            pending.append(parent)


def _parents(build: ClaimedBuild, node: _Node) -> list[_Node]:
    derived, where = node.settings[DERIVED], f"settings.derived of {node.fingerprint:.16}"
    kind = derived.get("kind") if isinstance(derived, dict) else None
    keys = {"drop": {"kind", "parents", "episodes", "reason"}}.get(str(kind), {"kind", "parents", "tasks"})
    if kind not in MAY_DIFFER or set(derived) != keys or not _strings(derived["parents"]):
        raise _WrongError(f"{where} must be of the kind {', '.join(MAY_DIFFER)}")
    parents = derived["parents"]
    settings = [_settings(build, fingerprint) for fingerprint in parents]
    if kind == "drop":
        if len(settings) != 1 or not _strings(derived["episodes"]) or not isinstance(derived["reason"], str):
            raise _WrongError(f"{where} must name one parent, episodes and a reason")
        return [_Node(parents[0], settings[0], node.places, node.dropped | set(derived["episodes"]))]
    shares = _shares(build, node, derived["tasks"])
    if len(shares) != len(settings) or len(settings) < 2:
        raise _WrongError(f"{where} must name two parents or more, each with its tasks")
    return [_Node(*parent, node.dropped) for parent in zip(parents, settings, shares, strict=True)]


def _shares(build: ClaimedBuild, node: _Node, counts: object) -> list[tuple[tuple[int, int], ...]]:
    """Which tasks each parent of a joined build has, numbered as they were there."""
    if not isinstance(counts, list) or not all(
        isinstance(count, dict) and sorted(count) == sorted(SPLITS) and all(type(n) is int for n in count.values())
        for count in counts
    ):
        raise _WrongError(f"settings.derived.tasks of {node.fingerprint:.16} must give train and val for each parent")
    splits = [build.tasks.tasks[line][0] for line, _ in node.places]
    together = {split: sum(count[split] for count in counts) for split in SPLITS}
    if Counter(splits) != Counter(together):
        raise _WrongError(f"{node.fingerprint:.16} has other numbers of tasks than its parents together")
    rest = {split: iter([line for line, _ in node.places if build.tasks.tasks[line][0] == split]) for split in SPLITS}
    return [
        tuple(
            (line, index)
            for split in SPLITS
            for index, line in enumerate(itertools.islice(rest[split], max(0, count[split])))
        )
        for count in counts
    ]


def _settings(build: ClaimedBuild, fingerprint: str) -> dict[str, Any]:
    entry = build.ancestors.get(fingerprint)
    if not isinstance(entry, dict) or set(entry) != {"settings", "tasks"} or not isinstance(entry["settings"], dict):
        raise _WrongError(f"ancestors must hold settings and tasks of {fingerprint:.16}, a build this one is made from")
    return dict(entry["settings"])


def _check_fingerprint(build: ClaimedBuild, node: _Node, report: Report) -> None:
    chain = canonical(build.ancestors[node.fingerprint])
    found = hashlib.sha256(chain.encode()).hexdigest()
    if found != node.fingerprint:
        report.found("L7", BUILD, f"the settings and tasks of ancestor {node.fingerprint:.16} give {found:.16}")


def _check_tree(build: ClaimedBuild, node: _Node, report: Report) -> None:
    """The task list, or the part of it that an ancestor had, is that of the fingerprint."""
    report.check("L7")
    digest, table = hashlib.sha256(), build.tasks
    for line, index in node.places:
        content = {**table.heads[line], "index": index, "episodes": table.hashes[table.episodes(line)].to_pylist()}
        digest.update(canonical(content).encode() + b"\n")
    found, claimed = digest.hexdigest(), node.settings.get(TREE)
    if claimed != found:
        whose = "the build" if node.fingerprint == build.fingerprint else f"its ancestor {node.fingerprint:.16}"
        trees = f"its tree of hashes is {found:.16}, settings.{TREE} is {claimed!s:.16}"
        report.found("L7", TASKS, f"the task list is not that of {whose}: {trees}")


def _check_settings(child: _Node, parent: _Node, report: Report) -> None:
    """A derived build was made with the settings of its parents."""
    different = MAY_DIFFER[child.settings[DERIVED]["kind"]]
    for name in sorted({*child.settings, *parent.settings} - {*different}):
        if canonical(child.settings.get(name)) != canonical(parent.settings.get(name)):
            other = f"{parent.fingerprint:.16}, which the build is made of"
            report.found("L7", BUILD, f"settings.{name} is not that of {other}")
    if "description" in child.settings and child.settings["description"] != parent.settings.get("description"):
        report.found("L7", BUILD, f"settings.description is not that of {parent.fingerprint:.16}")


def _check_dropped(build: ClaimedBuild, nodes: list[_Node], report: Report) -> None:
    """Episodes that are dropped by a parent's plan, by the task list and by the ledger are the same."""
    drops = [node.settings[DERIVED] for node in nodes if node.settings.get(DERIVED, {}).get("kind") == "drop"]
    claimed = [episode for derived in drops for episode in derived["episodes"]]
    erased = set(build.tasks.ids.filter(build.tasks.dropped).to_pylist())
    report.check("L7", len(erased))
    for episode in sorted(set(claimed) ^ erased):
        where = "settings.derived" if episode in set(claimed) else "tasks.jsonl"
        report.found("L7", TASKS, f"episode {episode} is dropped only by {where}")
    for episode in sorted(episode for episode, count in Counter(claimed).items() if count > 1):
        report.found("L7", BUILD, f"episode {episode} is dropped twice")
    in_ledger = {entry["episode"] for entry in ledger_entries(build) if entry.get("stage") == "drop"}
    for episode in sorted(in_ledger ^ erased):
        report.found("L7", LEDGER, f"episode {episode} is dropped by tasks.jsonl or by the ledger, but not by both")


def _check_origins(build: ClaimedBuild, nodes: list[_Node], report: Report) -> None:
    """The files of a shard were written for this build, or for an ancestor that had the same task, whole."""
    at = {task: line for line, task in enumerate(build.tasks.tasks)}
    places = {node.fingerprint: (dict(node.places), node.dropped) for node in nodes[1:]}
    for shard in build.shards:
        report.check("L7")
        line, origin = at.get((shard.split, shard.index)), shard.origin
        if origin is None or line is None:
            continue  # a shard of no task is reported with the order
        name = f"shard {shard.split}/{shard.index}"
        if origin.fingerprint not in places:
            report.found("L7", BUILD, f"{name}: its origin {origin.fingerprint:.16} is no ancestor of the build")
            continue
        indices, dropped = places[origin.fingerprint]
        if indices.get(line) != origin.index:
            report.found("L7", BUILD, f"{name}: its origin's task {origin.index} is not the task of this shard")
        for episode in sorted(dropped & set(build.tasks.ids[build.tasks.episodes(line)].to_pylist())):
            report.found("L7", BUILD, f"{name}: its origin is older than the drop of episode {episode}")


def _strings(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(item, str) for item in value)
