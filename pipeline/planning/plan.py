"""Source index -> frozen shard tasks, a fingerprint over everything that changes bytes, and what the build will cost.

The plan is made from metadata alone. What only an opened file shows (the length of a webm) is estimated from a sample
of files, for the cost and for packing shards.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from itertools import zip_longest
from pathlib import Path
from typing import Any

from pipeline.encoder.encoder_frames import FrameSettings
from pipeline.errors import BuildError, EpisodeError, RunError
from pipeline.format.build_settings import BuildSettings, WindowPolicy
from pipeline.format.file_names import PLAN_FILE, TASKS_FILE
from pipeline.format.json.strict_json import parse
from pipeline.format.json.typed_json import from_json
from pipeline.format.schema import Sizes
from pipeline.format.text.printable import printable
from pipeline.planning.cost import Counts, Estimate, estimate_of
from pipeline.planning.episode_filter import STAGE as FILTER
from pipeline.planning.fingerprint import fingerprint_of, make_fingerprint, setting_differences
from pipeline.planning.packing import pack
from pipeline.planning.recipe import Recipe
from pipeline.planning.task_tree import TASKS_TREE, TaskHashes
from pipeline.planning.tasks import ShardTask, no_cycles, read_task, task_lines
from pipeline.samples.windows import count_tubelets, count_windows
from pipeline.sources.base import EpisodeRef, LedgerEntry, Source, SourceIndex
from pipeline.sources.episode.time_limit import SAMPLE_LIMIT_S, within
from pipeline.storage.store import Store

SAMPLED_EPISODES = 24
"""How many files of unknown length the plan opens to estimate the mean length."""


@dataclass(frozen=True)
class Plan:
    """A frozen plan. `content` is the stored form of its settings: everything besides the tasks that changes bytes."""

    content: Mapping[str, Any]
    fingerprint: str
    sizes: Sizes
    views: tuple[str, ...]
    fps: float | None
    tasks: tuple[ShardTask, ...]
    left_out: tuple[LedgerEntry, ...]
    estimate: Estimate

    @cached_property
    def settings(self) -> BuildSettings:
        """The settings, typed."""
        return BuildSettings.read(self.content)

    @property
    def name(self) -> str:
        """Name of the source."""
        return self.settings.source_name

    def recipe(self) -> Recipe:
        """What a worker needs besides its task."""
        settings = self.settings
        return Recipe(
            self.fingerprint,
            self.name,
            self.views,
            self.sizes,
            settings.window,
            settings.inputs,
            FrameSettings(settings.encoder.crop_size, settings.encoder.resize),
            settings.encoder.mode,
            settings.shards.group_samples,
            settings.latents.dtype,
        )

    @cached_property
    def num_episodes(self) -> int:
        """Episodes to be used, and those already left out by no filter: the base of the allowed share of bad ones."""
        bad = sum(entry.stage != FILTER for entry in self.left_out)
        return sum(task.num_episodes for task in self.tasks) + bad


def sizes_of(index: SourceIndex, settings: BuildSettings) -> Sizes:
    """The sizes of the build of a source."""
    has_actions = index.action_dim > 0
    return Sizes(
        views=len(index.views),
        image_size=settings.inputs.image_size,
        steps=settings.window.steps,
        tokens=settings.encoder.tokens,
        width=settings.encoder.width,
        state=index.state_dim,
        chunk=settings.window.chunk if has_actions else 0,
        action=index.action_dim,
    )


def make_plan(source: Source, index: SourceIndex, settings: BuildSettings) -> Plan:
    """Pack the episodes of the settings' splits into shard tasks. Test episodes are never planned (rule L6).

    Args:
        settings: everything that changes bytes. With the source's description, its views and the sizes, its
            content becomes the plan's and part of the fingerprint.

    Raises:
        RunError: no episode gives a window, or `window.skip_idle` is set for a source without a state.
    """
    splits, policy, sizes = settings.splits, settings.window, sizes_of(index, settings)
    if "test" in splits:
        raise RunError("the test split is never built for training; choose from train, val")
    if policy.skip_idle and not sizes.state:
        raise RunError(f"{index.name} has no state to tell idle frames by; set window.skip_idle=0")
    refs = [ref for ref in index.refs if ref.split in splits]
    has_actions = sizes.action > 0
    typical, typical_tubelets = _typical_counts(source, refs, policy, has_actions)
    lengths = Counter(ref.num_frames for ref in refs)
    windows_of = {n: typical if n is None else count_windows(n, policy, has_actions) for n in lengths}
    windows = [windows_of[ref.num_frames] for ref in refs]
    with no_cycles():
        tasks = tuple(task for split in splits for task in pack(split, refs, windows, settings.shards))
    total = sum(windows)
    tubelets = sum(
        episodes * (typical_tubelets if frames is None else count_tubelets(frames, policy, has_actions))
        for frames, episodes in lengths.items()
    )
    if total == 0:
        raise RunError(
            f"{index.name}: none of {len(refs)} episodes of the splits {', '.join(splits)} is long enough for a window "
            f"of {policy.steps} steps at interval {policy.interval}; lower window.steps or window.interval"
        )
    counts = Counts(len(refs), total, tubelets, len(tasks), all(ref.num_frames is not None for ref in refs))
    estimate = estimate_of(counts, sizes, settings.encoder, settings.latents.dtype)
    left_out = tuple(sorted((entry for entry in index.left_out if entry.split in splits), key=left_out_order))
    facts = {"description": dict(index.description), "views": list(index.views), "sizes": asdict(sizes)}
    with no_cycles():
        hashes = TaskHashes.of(tasks)
        frozen = json.loads(json.dumps({**settings.content, **facts})) | {TASKS_TREE: hashes.tree}
        fingerprint = fingerprint_of(frozen, hashes.lines)
    return Plan(frozen, fingerprint, sizes, index.views, index.fps, tasks, left_out, estimate)


def left_out_order(entry: LedgerEntry) -> tuple[str, str, str, str]:
    """The order of `left_out` in plan.json."""
    return entry.split, entry.episode, entry.reason, entry.detail


def check_same_plan(
    stored: Plan, settings: Mapping[str, Any], out: Path | str, tasks: Sequence[ShardTask] | None = None
) -> None:
    """Raise BuildError, showing the first differences, when `out` was planned with other settings (or tasks)."""
    differences = setting_differences(stored.content, settings)
    if tasks is not None and any(a != b for a, b in zip_longest(task_lines(tasks), task_lines(stored.tasks))):
        differences += _task_differences(stored.tasks, tasks)
    if differences:
        shown = "\n".join(f"  {line}" for line in differences[:12])
        raise BuildError(
            f"{out} holds the plan of another build; stored -> asked for:\n{shown}\n"
            "choose another out=, or delete the folder to start over"
        )


def write_plan(plan: Plan, store: Store) -> None:
    """Write plan.json and tasks.jsonl into a new or empty folder.

    Raises:
        BuildError: the folder holds something else.
    """
    foreign = [n for n in store.sizes() if n.split("/")[0] not in ("logs", "lock", TASKS_FILE)]  # killed right here
    if foreign:
        raise BuildError(
            f"{store.where} is not empty and holds no plan (but {foreign[0]}); choose an empty folder for out="
        )
    store.tidy()
    with no_cycles(), store.writing(TASKS_FILE) as path, open(path, "wb") as file:
        file.writelines(task_lines(plan.tasks))
    content = {
        "fingerprint": plan.fingerprint,
        "settings": plan.content,
        "sizes": asdict(plan.sizes),
        "views": plan.views,
        "fps": plan.fps,
        "estimate": asdict(plan.estimate),
        "left_out": [asdict(entry) for entry in plan.left_out],
    }
    store.write(PLAN_FILE, (json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode())


@dataclass(frozen=True)
class _Stored:
    """plan.json."""

    fingerprint: str
    settings: dict[str, Any]
    sizes: Sizes
    views: tuple[str, ...]
    fps: float | None
    estimate: Estimate
    left_out: tuple[LedgerEntry, ...]


def read_plan(store: Store) -> Plan:
    """Read a plan written by `write_plan`.

    Raises:
        BuildError: there is none, or its fingerprint does not fit its content.
    """
    try:
        content = from_json(_Stored, parse(store.read(PLAN_FILE)), PLAN_FILE)
        tasks: list[ShardTask] = []
        with no_cycles(), store.reading(TASKS_FILE) as path, open(path, "rb") as file:
            fingerprint = make_fingerprint(content.settings, _reading(file, tasks))
        rest = (content.sizes, content.views, content.fps, tuple(tasks), content.left_out, content.estimate)
        plan = Plan(content.settings, content.fingerprint, *rest)
        plan.settings  # noqa: B018  read here, where an error names the file
    except (OSError, ValueError) as error:
        what = f"holds no readable plan ({printable(error)})"
        raise BuildError(f"{store.where} {what}; run vlajepa plan first") from error
    if fingerprint != plan.fingerprint:
        raise BuildError(
            f"{store.where}/plan.json or tasks.jsonl was edited: the fingerprint does not fit; plan into a new folder"
        )
    return plan


def _reading(lines: Iterable[bytes], tasks: list[ShardTask]) -> Iterator[bytes]:
    """The lines of tasks.jsonl; the task of each is appended to `tasks`."""
    for line in lines:
        tasks.append(read_task(line))
        yield line


def _typical_counts(
    source: Source, refs: Sequence[EpisodeRef], policy: WindowPolicy, has_actions: bool
) -> tuple[int, int]:
    """Mean windows and tubelets of a spread-out sample of the episodes whose length the metadata lacks; at
    least 1."""
    unknown = [ref for ref in refs if ref.num_frames is None]
    step = max(1, len(unknown) // SAMPLED_EPISODES)
    counts = []

    def count(ref: EpisodeRef) -> tuple[int, int]:
        with source.open(ref) as episode:
            frames = episode.num_frames
            return count_windows(frames, policy, has_actions), count_tubelets(frames, policy, has_actions)

    for ref in unknown[::step][:SAMPLED_EPISODES]:
        try:
            counts.append(within(SAMPLE_LIMIT_S, ref.id, partial(count, ref)))
        except EpisodeError:
            continue  # the task that owns the episode records it
    windows, tubelets = (max(1, round(sum(part) / len(part))) for part in zip(*counts or [(1, 1)], strict=True))
    return windows, tubelets


def _task_differences(stored: Sequence[ShardTask], asked: Sequence[ShardTask]) -> list[str]:
    old, new = ({ref.id: ref for task in tasks for ref in task.episodes} for tasks in (stored, asked))
    changed = sorted(i for i in old.keys() | new.keys() if old.get(i) != new.get(i))
    if not changed:
        return ["the episodes are packed differently"]
    return [f"{len(changed)} episodes were added, removed or changed, first: {changed[0]}"]
