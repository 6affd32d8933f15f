"""Plans of builds that are made from finished builds: some episodes dropped, or several builds joined into one.

A derived build has settings, tasks and a fingerprint like any other. Its settings name its parents by their
fingerprints (`derived`), and `build.json` holds what these were computed from (`ancestors`), so that the audit can
recompute them from the derived build alone. `shards.py` makes the shards.
"""

from __future__ import annotations

import difflib
import hashlib
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from pipeline.errors import BuildError
from pipeline.format.build import Build, load_build
from pipeline.format.json.strict_json import parse
from pipeline.format.json.typed_json import from_json
from pipeline.format.text.printable import printable
from pipeline.planning.cost import Counts, estimate_of
from pipeline.planning.episode_filter import STAGE as FILTER
from pipeline.planning.fingerprint import fingerprint_of, setting_differences
from pipeline.planning.plan import Plan, left_out_order, read_plan
from pipeline.planning.task_tree import DROPPED, TASKS_TREE, TaskHashes, episode_sha256, is_dropped
from pipeline.planning.tasks import ShardTask, task_lines
from pipeline.sources.base import EpisodeRef, LedgerEntry
from pipeline.storage.store import LocalStore

DERIVED = "derived"
"""Key of the settings: {kind, parents, …}."""

MAY_DIFFER = ("description", "splits", TASKS_TREE, DERIVED)
"""Sections of the settings in which builds that are joined may differ."""

JOINED_SPLITS = ("train", "val")
SHOWN = 12


@dataclass(frozen=True)
class Parent:
    """A plan that another one is derived from. ancestors: as in `commit.Provenance`, of this plan."""

    plan: Plan
    where: str
    ancestors: Mapping[str, Any]

    def lineage(self) -> dict[str, Any]:
        """Its ancestors and itself, as the build.json of what is derived from it lists them."""
        digest = hashlib.sha256()
        for line in task_lines(self.plan.tasks):
            digest.update(line)
        own = {"settings": self.plan.content, "tasks": digest.hexdigest()}
        return {**self.ancestors, self.plan.fingerprint: own}


@dataclass(frozen=True)
class FinishedBuild(Parent):
    """A finished build in a folder. ledger: its lines; entries: those of its shards in build.json, by task name."""

    build: Build
    ledger: tuple[LedgerEntry, ...]
    entries: Mapping[str, Mapping[str, Any]]

    @property
    def path(self) -> Path:
        return self.build.path


def open_finished(path: Path) -> FinishedBuild:
    """Read a build's description of itself.

    Raises:
        BuildError: it is unfinished or was edited.
    """
    build, plan = load_build(path), read_plan(LocalStore(path))
    if build.fingerprint != plan.fingerprint:
        raise BuildError(f"{path}: build.json and plan.json have different fingerprints; run vlajepa audit {path}")
    try:
        lines = (path / "ledger.jsonl").read_bytes().splitlines()
        ledger = tuple(from_json(LedgerEntry, parse(line)) for line in lines)
    except (OSError, ValueError) as error:
        raise BuildError(
            f"{path}/ledger.jsonl cannot be read ({printable(error)}); run vlajepa audit {path}"
        ) from error
    entries = {f"{entry['split']}-{entry['index']:06d}": entry for entry in build.manifest["shards"]}
    return FinishedBuild(plan, str(path), build.manifest.get("ancestors", {}), build, ledger, entries)


def drop_plan(finished: FinishedBuild, episodes: Collection[str], reason: str) -> Plan:
    """The plan without some episodes: of each, only id, split and the hash of its planned object are kept.

    Raises:
        BuildError: an episode is unknown or has no samples in the build.
    """
    plan = finished.plan
    _check_droppable(finished, episodes)
    tasks = tuple(
        replace(task, groups=tuple(tuple(_without(ref, episodes) for ref in group) for group in task.groups))
        for task in plan.tasks
    )
    derived = {"kind": "drop", "parents": [plan.fingerprint], "episodes": sorted(episodes), "reason": reason}
    rest = sum(not is_dropped(ref.content()) for task in tasks for ref in task.episodes)
    share = min(1.0, rest / max(1, plan.estimate.episodes))
    windows, tubelets = (round(number * share) for number in (plan.estimate.windows, plan.estimate.tubelets))
    counts = Counts(rest, windows, tubelets, len(tasks), exact=False)  # lengths differ
    left_out = tuple(entry for entry in finished.ledger if entry.stage in ("index", FILTER))
    return _derived_plan(plan, dict(plan.content), derived, tasks, left_out, counts)


def join_plan(kind: str, parents: Sequence[Parent]) -> Plan:
    """The plan that holds the tasks of all parents, those of a split numbered anew, in the order of the parents.

    Args:
        kind: "merge" or "extend".

    Raises:
        BuildError: the parents differ in what makes their bytes, or share an episode.
    """
    _check_joinable(parents)
    plans = [parent.plan for parent in parents]
    tasks: list[ShardTask] = []
    for split in JOINED_SPLITS:
        own = [task for plan in plans for task in plan.tasks if task.split == split]
        tasks += [replace(task, index=index) for index, task in enumerate(own)]
    counts = [{split: sum(task.split == split for task in plan.tasks) for split in JOINED_SPLITS} for plan in plans]
    derived = {"kind": kind, "parents": [plan.fingerprint for plan in plans], "tasks": counts}
    settings = dict(plans[0].content)
    wanted = {split for plan in plans for split in plan.settings.splits}
    settings["splits"] = [split for split in JOINED_SPLITS if split in wanted]
    if any(plan.content.get("description") != settings.get("description") for plan in plans):
        del settings["description"]  # each is kept with its parent's settings
    planned = {ref.id for plan in plans for ref in refs_of(plan)}
    left_out = [entry for plan in plans for entry in plan.left_out if entry.episode not in planned]
    unique = {(entry.split, entry.episode): entry for entry in left_out}
    estimates = [plan.estimate for plan in plans]
    sums = {name: sum(getattr(e, name) for e in estimates) for name in ("episodes", "windows", "tubelets", "shards")}
    joined = Counts(**sums, exact=all(estimate.exact for estimate in estimates))
    return _derived_plan(plans[0], settings, derived, tuple(tasks), tuple(unique.values()), joined)


def check_episode_list(episodes: Sequence[str]) -> None:
    """Raise BuildError unless there is at least one episode, each once."""
    twice = [episode for episode, count in sorted(Counter(episodes).items()) if count > 1]
    if not episodes or twice:
        found = f"{', '.join(twice)} twice" if twice else "none"
        raise BuildError(f"give the episodes to drop, each once: episode=ID or 'episodes=[ID,ID]'; got {found}")


def _check_droppable(finished: FinishedBuild, episodes: Collection[str]) -> None:
    known = {ref.id for ref in refs_of(finished.plan)}
    left_out = {entry.episode: entry for entry in finished.ledger}
    problems = []
    for episode in sorted(episodes):
        if episode in left_out:
            entry = left_out[episode]
            problems.append(f"{episode} is left out already ({entry.stage}: {entry.reason})")
        elif episode not in known:
            near = difflib.get_close_matches(episode, known, n=3)
            meant = f"; did you mean {', '.join(near)}?" if near else ""
            problems.append(f"{episode} is no episode of this build{meant}")
    if problems:
        more = [f"and {len(problems) - SHOWN} more"] if len(problems) > SHOWN else []
        listed = "".join(f"\n  {problem}" for problem in [*problems[:SHOWN], *more])
        raise BuildError(f"{finished.path}: nothing was dropped:{listed}")
    if known - set(left_out) == set(episodes):
        which = f"these {len(episodes)} episodes are all that it holds"
        raise BuildError(f"{finished.path}: {which}; delete the folder instead")


def _check_joinable(parents: Sequence[Parent]) -> None:
    if len(parents) < 2:
        raise BuildError(f"at least two builds can be joined, got {len(parents)}; give 'builds=[A,B]'")
    first = parents[0]
    wanted = _joined_settings(first.plan)
    for other in parents[1:]:
        differences = setting_differences(wanted, {**dict.fromkeys(wanted), **_joined_settings(other.plan)})
        if differences:
            shown = "\n".join(f"  {line}" for line in differences[:SHOWN])
            raise BuildError(
                f"{first.where} and {other.where} cannot be joined, they were made with other settings:\n{shown}\n"
                "make one of them again with the settings of the other"
            )
    shared = list(_shared(parents))
    if shared:
        more = f" and {len(shared) - 3} more" if len(shared) > 3 else ""
        raise BuildError(
            f"an episode may be in only one build and one split (rule L6), found {'; '.join(shared[:3])}{more}; "
            "make all builds but one without them (source.leave_out=FILE): what was dropped stays in a build's ledger"
        )


def _shared(parents: Sequence[Parent]) -> Iterator[str]:
    owner: dict[str, tuple[int, str]] = {}
    for number, parent in enumerate(parents):
        for ref in refs_of(parent.plan):
            other, split = owner.setdefault(ref.id, (number, ref.split))
            if (other, split) != (number, ref.split):
                yield f"{ref.id} in {split} of {parents[other].where} and in {ref.split} of {parent.where}"


def _joined_settings(plan: Plan) -> dict[str, Any]:
    settings = {name: value for name, value in plan.content.items() if name not in MAY_DIFFER}
    return {**settings, "sizes": asdict(plan.sizes), "views": list(plan.views), "fps": plan.fps}


def _without(ref: EpisodeRef, episodes: Collection[str]) -> EpisodeRef:
    if ref.id not in episodes:
        return ref
    return EpisodeRef(ref.id, ref.split, (), None, {DROPPED: episode_sha256(ref.content())})


def _derived_plan(
    first: Plan,
    settings: dict[str, Any],
    derived: Mapping[str, Any],
    tasks: tuple[ShardTask, ...],
    left_out: tuple[LedgerEntry, ...],
    counts: Counts,
) -> Plan:
    hashes = TaskHashes.of(tasks)
    settings |= {DERIVED: derived, TASKS_TREE: hashes.tree}
    fingerprint = fingerprint_of(settings, hashes.lines)
    estimate = estimate_of(counts, first.sizes, first.settings.encoder, first.settings.latents.dtype)
    in_order = tuple(sorted(left_out, key=left_out_order))
    return Plan(settings, fingerprint, first.sizes, first.views, first.fps, tasks, in_order, estimate)


def refs_of(plan: Plan) -> Iterator[EpisodeRef]:
    """Every episode of a plan, dropped ones included."""
    return (ref for task in plan.tasks for ref in task.episodes)
