"""Rules L6 and L7: which episodes a build must have by its raw data and settings, in which order and in which shards.

A build without some episodes is in order by itself: whoever leaves out the failures, or what a policy finds hard, or
puts the episodes in an order that their outcome decides, writes what no file contradicts. The raw data does. Every
episode of the splits of the settings must be planned or left out with a reason (which `left_out.py` tries again),
sorted by id, and packed by the number of windows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from itertools import pairwise, zip_longest

from pipeline.audit.build import ClaimedBuild
from pipeline.audit.files import TASKS, read_regular
from pipeline.audit.finding import Report
from pipeline.audit.raw.base import RawSource
from pipeline.audit.selection.leaf_plans import LeafPlan, leaf_plans
from pipeline.audit.selection.packing import Packing, Task
from pipeline.audit.selection.window_counts import window_counts
from pipeline.audit.selection.windows import WindowRule
from pipeline.errors import BuildError
from pipeline.format.file_names import PLAN_FILE
from pipeline.format.json.strict_json import parse

SAMPLED_EPISODES = 24
"""Episodes whose length decides how many windows are expected of those whose length the metadata does not have."""


class Selection:
    """Derives the plan of a build.

    Args:
        left_out: episodes of the ledger.
        lengths: frames of the episodes that were decoded.
    """

    def __init__(
        self,
        build: ClaimedBuild,
        raw: RawSource,
        left_out: Collection[str],
        lengths: Mapping[str, int],
        report: Report,
    ) -> None:
        self._build, self._raw, self._left_out, self._report = build, raw, left_out, report
        self._lengths, self._ids = lengths, build.tasks.ids.to_pylist()
        self._rule = WindowRule.of(build)
        splits, limit = build.settings.get("splits"), build.settings.get("limit")
        if not isinstance(splits, list) or not (limit is None or type(limit) is int):
            where = f"{build.root}/build.json: settings"
            raise BuildError(f"{where}.splits must be a list and limit a number or null, found {splits!r}, {limit!r}")
        self._splits, self._limit = splits, limit

    def check(self) -> dict[str, int]:
        """Compare the plan with the raw data. Returns the coverage."""
        self._check_planned()
        plans = leaf_plans(self._build)
        joined = plans is None or len(plans) > 1
        open_limit = joined and self._limit is not None and self._limit < self._most()
        missing = {} if open_limit else self._missing()
        for episode, split in sorted(missing.items()):
            self._report.found("L7", TASKS, f"episode {episode} of {split} is neither planned nor in the ledger")
        underived = 0
        for plan in plans or ():
            underived += self._check_plan(plan)
        named = {"episodes_selected_again": len(self._ids), "shards_packed_again": len(self._build.tasks.tasks)}
        named["shards_packed_again"] -= underived
        if open_limit:
            named["joined_builds_with_limit_not_selected_again"] = 1
        return named

    def _most(self) -> int:
        """Episodes of the largest split of the raw data: no smaller limit can have left any of them out."""
        return max(Counter(split for _, split in self._raw.listed() if split in self._splits).values(), default=0)

    def _check_planned(self) -> None:
        """Every planned episode is one of the raw data, in its split, of the length that the metadata has."""
        tasks = self._build.tasks
        rows = zip(self._ids, tasks.ref_split.to_pylist(), tasks.num_frames.tolist(), tasks.dropped, strict=True)
        for episode, split, frames, dropped in rows:
            self._report.check("L6")
            listed = self._raw.split_of(episode)
            if listed != split and episode not in self._lengths:
                found = "does not list it" if listed is None else f"marks it {listed}"
                self._report.found("L6", TASKS, f"episode {episode} is planned for {split}; the raw data {found}")
            length = self._raw.length_of(episode)
            if not dropped and listed is not None and frames != (-1 if length is None else length):
                said = "does not give its length" if length is None else f"gives it {length} frames"
                planned = "unknown" if frames < 0 else frames
                detail = f"episode {episode} is planned with num_frames {planned}; the raw data {said}"
                self._report.found("L8", TASKS, detail)

    def _missing(self) -> dict[str, str]:
        """Episodes that should have been planned, with their splits."""
        planned, missing = set(self._ids), {}
        covered = {episode for entry in self._left_out for episode in self._raw.meant_by(entry)}
        by_split: dict[str, list[str]] = {split: [] for split in self._splits}
        for episode, split in self._raw.listed():
            if split in by_split:
                by_split[split].append(episode)
        for split, episodes in by_split.items():
            taken = 0
            for episode in sorted(episodes):
                self._report.check("L7")
                full = self._limit is not None and taken >= self._limit
                if episode in planned:
                    taken += 1
                    if full:
                        detail = f"episode {episode} of {split} is planned beyond settings.limit={self._limit}"
                        self._report.found("L7", TASKS, detail)
                elif not full and episode not in covered:
                    missing[episode] = split
        return missing

    def _check_plan(self, plan: LeafPlan) -> int:
        """Compare order and shards of one plan. Returns how many shards could not be derived."""
        tasks = self._build.tasks
        episodes = {split: [self._ids[row] for row in self._rows(lines)] for split, lines in plan.lines.items()}
        for split, names in episodes.items():
            for before, after in pairwise(names):
                self._report.check("L7")
                if not before < after:
                    self._report.found(
                        "L7", TASKS, f"{split}: episode {after} is planned after {before}, not by its id"
                    )
                    return sum(map(len, plan.lines.values()))
        names = [name for split in ("train", "val") for name in episodes.get(split, ())]
        if "derived" not in self._build.settings:
            self._check_estimate(names)
        found = {
            split: [(self._names(line), _groups(tasks.heads[line].get("groups"))) for line in lines]
            for split, lines in plan.lines.items()
        }
        made = [self._packed(episodes, names, typical) for typical in self._typical(names)]
        self._report.check("L7", sum(map(len, found.values())))
        if not any(tasks == found for tasks in made):
            self._differs(plan, found, made[0])
        return 0

    def _packed(self, episodes: Mapping[str, list[str]], names: list[str], typical: int) -> dict[str, list[Task]]:
        """The tasks of each split, when episodes of unknown length count as `typical` windows."""
        lengths = {name: self._raw.length_of(name) for name in names}
        windows = {name: typical if n is None else self._rule.count(n) for name, n in lengths.items()}
        packing = Packing.of(self._build)
        return {split: list(packing.pack((name, windows[name]) for name in own)) for split, own in episodes.items()}

    def _differs(self, plan: LeafPlan, found: Mapping[str, list[Task]], made: Mapping[str, list[Task]]) -> None:
        """Report the first shard of each split that is not as it should be."""
        for split, lines in plan.lines.items():
            nothing: Task = ([], [])
            pairs = zip_longest(found[split], made[split], fillvalue=nothing)
            for place, (has, wants) in enumerate(pairs):
                if has != wants:
                    line = lines[min(place, len(lines) - 1)] if lines else 0
                    where = f"task {split}/{self._build.tasks.tasks[line][1]} holds {_brief(has)}"
                    self._report.found(
                        "L7", TASKS, f"{where}; by settings.shards and the lengths it is {_brief(wants)}"
                    )
                    break

    def _rows(self, lines: tuple[int, ...]) -> Iterator[int]:
        for line in lines:
            rows = self._build.tasks.episodes(line)
            yield from range(rows.start, rows.stop)

    def _names(self, line: int) -> list[str]:
        return [self._ids[row] for row in self._rows((line,))]

    def _typical(self, episodes: list[str]) -> list[int]:
        """Windows that the plan expected of an episode of unknown length: the mean of a sample. Where one of the sample
        cannot be read it may have been opened all the same, and every number up to the largest is possible."""
        lengths = [self._decoded(name) for name in self._sampled(episodes)]
        counts = [self._rule.count(length) for length in lengths if length is not None]
        mean = max(1, round(sum(counts) / len(counts))) if counts else 1
        others = range(1, max(counts, default=1) + 1) if None in lengths else ()
        return list(dict.fromkeys((mean, *others)))

    def _check_estimate(self, episodes: list[str]) -> None:
        """Windows and tubelets of the plan's estimate, where level manifest does not know every length: those of the
        unknown ones are the mean of the sample."""
        known = [length for length in map(self._raw.length_of, episodes) if length is not None]
        sampled = self._sampled(episodes)
        if any(name in self._left_out for name in sampled):
            return  # who planned may have failed to open it
        sample = [self._decoded(name) for name in sampled]
        counts = [window_counts(self._build, length) for length in sample if length is not None]
        if not sample or len(counts) < len(sample):
            return
        own = [window_counts(self._build, length) for length in known]
        estimate = parse(read_regular(self._build.root / PLAN_FILE))["estimate"]
        for at, name in enumerate(("windows", "tubelets")):
            typical = max(1, round(sum(count[at] for count in counts) / len(counts)))
            wanted = sum(count[at] for count in own) + typical * (len(episodes) - len(known))
            self._report.check("L10")
            if estimate[name] != wanted:
                self._report.found(
                    "L10", PLAN_FILE, f"estimate.{name} is {estimate[name]}, by a sample of lengths {wanted}"
                )

    def _sampled(self, episodes: list[str]) -> list[str]:
        """Those of the episodes of unknown length that a plan opens."""
        unknown = [name for name in episodes if self._raw.length_of(name) is None]
        step = max(1, len(unknown) // SAMPLED_EPISODES)
        return unknown[::step][:SAMPLED_EPISODES]

    def _decoded(self, episode: str) -> int | None:
        """Frames of an episode; None where it cannot be read."""
        if episode in self._lengths:
            return self._lengths[episode]
        return self._raw.count_frames(episode, self._build.views[0])


def _groups(value: object) -> list[int]:
    """The sizes of the groups of a task; none where they are no list of numbers."""
    return [size for size in value if type(size) is int] if isinstance(value, list) else []


def _brief(task: Task) -> str:
    names, groups = task
    shown = f"{names[0]} to {names[-1]}" if names else "none"
    return f"{len(names)} episodes ({shown}) in groups of {groups}"
