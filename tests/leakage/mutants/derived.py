"""Builds made from others that are not what they claim: episodes that were not dropped, foreign shards, forged parents.

Each mutant derives a build honestly, in the place of the clean one, and then spoils it. `build.parent / "old"` is the
parent.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from jobs.preprocess.drop import drop
from jobs.preprocess.merge import merge
from jobs.preprocess.settings import DropConfig, MergeConfig
from tests.leakage.mutants.mutant import Mutant
from tests.leakage.tools import ARROW, TAR, edit_json, read_rows, refit_inputs
from tests.pipeline.audit.tiny_build import (
    ROBOT,
    ROBOT_EPISODES,
    Row,
    TinyEpisode,
    compact,
    fingerprint_of,
    pretty,
    rehash,
    tree_of,
    write_build,
    write_manifest,
)
from tests.pipeline.audit.tiny_targets import read_targets, write_targets

WORLD = replace(ROBOT, episodes=(*ROBOT_EPISODES, TinyEpisode("ep_d", "train", 0, 12)))
"""Train shard 0 holds two episodes: dropping ep_d writes it anew, the other shards stay."""

OTHER = (TinyEpisode("ep_m", "train", 0, 9),)


def drop_here(build: Path, episode: str = "ep_d") -> Path:
    """Put the build without an episode in the build's place. The folder of the old one."""
    old = Path(shutil.move(build, build.parent / "old"))
    drop(DropConfig(build=old, out=build, episode=episode, link=False))
    (build / "croissant.json").unlink()  # would reveal any change of build.json
    return old


def _merge(build: Path, episodes: tuple[TinyEpisode, ...] = OTHER) -> None:
    old = Path(shutil.move(build, build.parent / "old"))
    other = write_build(build.parent / "other", replace(WORLD, episodes=episodes))
    merge(MergeConfig(builds=(old, other), out=build, link=False))
    (build / "croissant.json").unlink()


def _reseal(build: Path, edit: Callable[[dict[str, Any]], object], tree: bool = True) -> None:
    """Edit the settings, and correct the build's own fingerprint wherever it is written."""
    tasks = (build / "tasks.jsonl").read_bytes()
    settings = json.loads((build / "build.json").read_bytes())["settings"]
    edit(settings)
    if tree:
        settings["tasks_tree"] = tree_of(tasks)
    own = {"settings": settings, "fingerprint": fingerprint_of(settings, tasks)}
    edit_json(build, "plan.json", lambda plan: plan.update(own), repair=False)
    edit_json(build, "build.json", lambda document: document.update(own), repair=False)
    for shard in json.loads((build / "build.json").read_bytes())["shards"]:
        if "origin" not in shard:
            _stamp(build, shard["targets"]["file"], fingerprint=own["fingerprint"])
    rehash(build)


def _stamp(build: Path, file: str, **metadata: str) -> None:
    """Change the metadata of an Arrow file."""
    columns, before = read_targets(build / file)
    write_targets(build / file, columns, {**before, **metadata})


def _edit_origin(build: Path, **changes: Any) -> None:
    """Change the origin of train shard 1, and the metadata of its file with it."""

    def edit(document: Any) -> None:
        shard = next(s for s in document["shards"] if (s["split"], s["index"]) == ("train", 1))
        shard["origin"].update(changes)
        index = shard["origin"]["index"]
        name = f"train/targets-{index:06d}.arrow"
        _stamp(build, shard["targets"]["file"], fingerprint=shard["origin"]["fingerprint"], shard=name)

    edit_json(build, "build.json", edit)


def _edit_tasks(build: Path, edit: Callable[[list[Any]], object]) -> None:
    tasks = [json.loads(line) for line in (build / "tasks.jsonl").read_bytes().splitlines()]
    edit(tasks)
    (build / "tasks.jsonl").write_bytes(b"".join(compact(task) + b"\n" for task in tasks))


def tar_members_of_a_dropped_episode_left(build: Path) -> None:
    old = drop_here(build)
    shutil.copyfile(old / TAR, build / TAR)
    refit_inputs(build)


def row_of_a_dropped_episode_left_in_the_targets(build: Path) -> None:
    old, metadata = drop_here(build), read_targets(build / ARROW)[1]
    write_targets(build / ARROW, read_targets(old / ARROW)[0], metadata)
    rehash(build)


def dropped_episode_with_all_its_samples(build: Path) -> None:
    old, metadata = drop_here(build), read_targets(build / ARROW)[1]
    shutil.copyfile(old / TAR, build / TAR)
    write_targets(build / ARROW, read_targets(old / ARROW)[0], metadata)
    for file in ("samples.parquet", "stats.json"):
        shutil.copyfile(old / file, build / file)

    def edit(document: Any) -> None:
        document["counts"] = json.loads((old / "build.json").read_bytes())["counts"]
        document["shards"][0]["samples"] = len(read_targets(old / ARROW)[0]["key"])

    edit_json(build, "build.json", edit)


def shard_from_before_the_drop(build: Path) -> None:
    """The old shard in place of the one written anew, with an origin that fits it."""
    old = drop_here(build)
    parent = json.loads((old / "build.json").read_bytes())["fingerprint"]
    for file in (TAR, ARROW):
        shutil.copyfile(old / file, build / file)
    origin = {"fingerprint": parent, "index": 0}
    edit_json(build, "build.json", lambda document: document["shards"][0].update(origin=origin))


def statistics_with_the_dropped_episode(build: Path) -> None:
    old = drop_here(build)
    stats = json.loads((old / "stats.json").read_bytes())
    now = json.loads((build / "stats.json").read_bytes())
    for group in ("state", "action"):
        stats[group]["count"] = now[group]["count"]
    (build / "stats.json").write_bytes(pretty({**stats, "samples": now["samples"]}))
    rehash(build)


def drop_that_the_ledger_does_not_tell(build: Path) -> None:
    drop_here(build)
    lines = (build / "ledger.jsonl").read_bytes().splitlines()
    kept = [{**json.loads(line), "stage": "targets", "reason": "undecodable"} for line in lines]
    (build / "ledger.jsonl").write_bytes(b"".join(compact(line) + b"\n" for line in kept))
    rehash(build)


def dropped_episode_still_in_the_plan(build: Path) -> None:
    old = drop_here(build)
    shutil.copyfile(old / "tasks.jsonl", build / "tasks.jsonl")
    _reseal(build, lambda settings: None)


def drop_of_which_the_settings_do_not_tell(build: Path) -> None:
    drop_here(build)
    _reseal(build, lambda settings: settings["derived"].update(episodes=["ep_c"]))


def origin_of_a_foreign_build(build: Path) -> None:
    drop_here(build)
    _edit_origin(build, fingerprint="f" * 64)


def origin_of_another_task(build: Path) -> None:
    _merge(build)
    _edit_origin(build, index=0)


def shard_of_the_parent_without_an_origin(build: Path) -> None:
    drop_here(build)
    edit_json(build, "build.json", lambda document: document["shards"][1].pop("origin"))


def edited_task_of_a_parent(build: Path) -> None:
    """Everything of the derived build's own fits again; the parents' task list does not."""
    _merge(build)
    _edit_tasks(build, lambda tasks: tasks[1]["episodes"][0].update(files=[["elsewhere.mp4", 1000]]))
    _reseal(build, lambda settings: None)


def tasks_of_one_parent_moved_to_the_other(build: Path) -> None:
    _merge(build)

    def edit(settings: dict[str, Any]) -> None:
        first, second = settings["derived"]["tasks"]
        first["train"], second["train"] = first["train"] - 1, second["train"] + 1

    _reseal(build, edit)


def other_settings_than_the_parents(build: Path) -> None:
    _merge(build)
    _reseal(build, lambda settings: settings["source"].update(path="elsewhere"))


def forged_settings_of_a_parent(build: Path) -> None:
    drop_here(build)

    def edit(document: Any) -> None:
        for entry in document["ancestors"].values():
            entry["settings"]["source"]["path"] = "elsewhere"

    edit_json(build, "build.json", edit)


def ancestor_that_is_none(build: Path) -> None:
    drop_here(build)
    entry = {"settings": {"note": "x"}, "tasks": "0" * 64}
    edit_json(build, "build.json", lambda document: document["ancestors"].update({"f" * 64: entry}))


def history_that_the_settings_do_not_tell(build: Path) -> None:
    drop_here(build)
    _reseal(build, lambda settings: settings.pop("derived"))


def parent_that_is_its_own_parent(build: Path) -> None:
    drop_here(build)

    def edit(document: Any) -> None:
        fingerprint, entry = next(iter(document["ancestors"].items()))
        derived = {"kind": "drop", "parents": [fingerprint], "episodes": ["ep_d"], "reason": ""}
        entry["settings"]["derived"] = derived

    edit_json(build, "build.json", edit)


def merged_parts_that_share_an_episode_across_splits(build: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipeline.derived.plan._shared", lambda parents: iter(()))
        _merge(build, (TinyEpisode("ep_a", "val", 0, 13),))


def wrong_tree_of_the_task_list(build: Path) -> None:
    _reseal(build, lambda settings: settings.update(tasks_tree="0" * 64), tree=False)


def sample_moved_into_another_parents_shard(build: Path) -> None:
    """Rows of a shard of the first parent claim to be of the second one's episode."""
    _merge(build)
    rows: list[Row] = read_rows(build)
    for row in rows:
        if row["episode"] == "ep_m":
            row.update(episode="ep_b", key=row["key"].replace("ep_m", "ep_b"))
    write_manifest(build, rows, WORLD)
    rehash(build)


def _mutant(apply: Callable[[Path], object], level: str, message: str, rule: str = "L7") -> Mutant:
    return Mutant(apply, rule, level, message, WORLD)


MUTANTS = (
    _mutant(tar_members_of_a_dropped_episode_left, "shards", "member ep_d-000000.front.jpg is unknown", "L10"),
    _mutant(row_of_a_dropped_episode_left_in_the_targets, "shards", "has 17 rows, the manifest 9"),
    _mutant(dropped_episode_with_all_its_samples, "manifest", "ep_d was left out (dropped), yet it has samples", "L9"),
    _mutant(shard_from_before_the_drop, "manifest", "its origin is older than the drop of episode ep_d"),
    _mutant(statistics_with_the_dropped_episode, "shards", "state: mean is", "L6"),
    _mutant(drop_that_the_ledger_does_not_tell, "manifest", "ep_d is dropped by tasks.jsonl or by the ledger"),
    _mutant(dropped_episode_still_in_the_plan, "manifest", "ep_d is dropped only by settings.derived"),
    _mutant(drop_of_which_the_settings_do_not_tell, "manifest", "ep_d is dropped only by tasks.jsonl"),
    _mutant(origin_of_a_foreign_build, "manifest", "ffffffffffffffff is no ancestor"),
    _mutant(origin_of_another_task, "manifest", "task 0 is not the task of this shard"),
    _mutant(shard_of_the_parent_without_an_origin, "shards", "schema metadata fingerprint is"),
    _mutant(edited_task_of_a_parent, "manifest", "the task list is not that of its ancestor"),
    _mutant(tasks_of_one_parent_moved_to_the_other, "manifest", "the task list is not that of its ancestor"),
    _mutant(other_settings_than_the_parents, "manifest", "settings.source is not that of"),
    _mutant(forged_settings_of_a_parent, "manifest", "the settings and tasks of ancestor"),
    _mutant(ancestor_that_is_none, "manifest", "ffffffffffffffff, from which the build was not made", "L10"),
    _mutant(history_that_the_settings_do_not_tell, "manifest", "settings.derived does not name"),
    _mutant(parent_that_is_its_own_parent, "manifest", "twice"),
    _mutant(merged_parts_that_share_an_episode_across_splits, "manifest", "planned 2 times, in ['train', 'val']", "L6"),
    _mutant(wrong_tree_of_the_task_list, "manifest", "the task list is not that of the build"),
    _mutant(sample_moved_into_another_parents_shard, "manifest", "ep_b was planned for train/1", "L6"),
)
