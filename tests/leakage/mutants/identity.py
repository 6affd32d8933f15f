"""Leaky plans, splits, ledgers and statistics; builds that are not what they claim; foreign files. See mutants.py."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

from tests.leakage.mutants.mutant import Mutant, set_column
from tests.leakage.tools import ARROW, edit_json, edit_rows, edit_tasks, read_rows, refingerprint
from tests.pipeline.audit.tiny_build import Row, compact, pretty, rehash, statistics


def episode_in_two_splits(build: Path) -> None:
    def edit(tasks: list[Any]) -> None:
        tasks[2]["episodes"].append({**tasks[0]["episodes"][0], "split": "val"})

    edit_tasks(build, edit)


def test_episode_in_tasks(build: Path) -> None:
    edit_tasks(build, lambda tasks: tasks[0]["episodes"][1].update(split="test"))


def test_task(build: Path) -> None:
    def edit(tasks: list[Any]) -> None:
        tasks[2]["split"] = "test"
        tasks[2]["episodes"][0]["split"] = "test"

    edit_tasks(build, edit)


def val_episode_trained_on(build: Path) -> None:
    """The samples of a train shard claim to be of the val split's episode."""

    def edit(rows: list[Row]) -> None:
        for row in rows:
            if row["episode"] == "ep_b":
                row.update(episode="ep_c", key=row["key"].replace("ep_b", "ep_c"), num_frames=11)

    edit_rows(build, edit)


def train_rows_in_a_val_shard(build: Path) -> None:
    """The samples of the val shard claim to be of a train split's episode."""

    def edit(rows: list[Row]) -> None:
        for row in rows:
            if row["episode"] == "ep_c":
                row.update(episode="ep_a", key=row["key"].replace("ep_c", "ep_a"), num_frames=13)

    edit_rows(build, edit)


def unplanned_episode(build: Path) -> None:
    edit_tasks(build, lambda tasks: tasks[1]["episodes"][0].update(id="ep_z"))


def ledgered_episode_with_samples(build: Path) -> None:
    line = {
        "episode": "ep_b",
        "split": "train",
        "stage": "inputs",
        "reason": "no-instruction",
        "detail": "",
        "windows": 5,
    }
    (build / "ledger.jsonl").write_bytes(compact(line) + b"\n" + (build / "ledger.jsonl").read_bytes())
    rehash(build)


def silently_dropped_episode(build: Path) -> None:
    (build / "ledger.jsonl").write_bytes(b"")
    rehash(build)


def statistics_over_all_splits(build: Path) -> None:
    (build / "stats.json").write_bytes(pretty(statistics(build, read_rows(build), "train", "val")))
    rehash(build)


def statistics_over_all_splits_with_train_counts(build: Path) -> None:
    clean = statistics(build, read_rows(build), "train")
    leaky = statistics(build, read_rows(build), "train", "val")
    for group in ("state", "action"):
        leaky[group]["count"] = clean[group]["count"]
    (build / "stats.json").write_bytes(pretty({**leaky, "samples": clean["samples"]}))
    rehash(build)


def one_quantile_moved(build: Path) -> None:
    def edit(stats: Any) -> None:
        stats["action"]["q99"][1] += 1e-4

    edit_json(build, "stats.json", edit)


def val_statistics(build: Path) -> None:
    edit_json(build, "stats.json", lambda stats: stats.update(split="val"))


def leaky_stamp(build: Path) -> None:
    edit_json(build, "build.json", lambda d: d.update(leaky=True))


def clip_mode_without_a_stamp(build: Path) -> None:
    edit_json(build, "build.json", lambda d: d["settings"]["encoder"].update(mode="clip"))
    refingerprint(build)


def edited_settings(build: Path) -> None:
    edit_json(build, "build.json", lambda d: d["settings"]["inputs"].update(jpeg_quality=1))


def wrong_fingerprint(build: Path) -> None:
    edit_json(build, "build.json", lambda d: d.update(fingerprint=hashlib.sha256(b"").hexdigest()))


def edited_tasks(build: Path) -> None:
    """With hashes repaired, but not the fingerprint."""
    edit_tasks(build, lambda tasks: tasks[0]["episodes"][0]["data"].update(note="x"), repair=False)
    rehash(build)


def edited_manifest_without_repair(build: Path) -> None:
    edit_rows(build, set_column("targets_sha256", bytes(32)), repair=False)


def edited_manifest_with_repaired_hash(build: Path) -> None:
    edit_rows(build, set_column("targets_sha256", bytes(32)))


def unlisted_file(build: Path) -> None:
    (build / "train" / "future-000000.npy").write_bytes(b"x")


def unlisted_folder(build: Path) -> None:
    (build / "test").mkdir()


def symlink_in_place_of_a_shard(build: Path) -> None:
    os.replace(build / ARROW, build.parent / "elsewhere.arrow")
    (build / ARROW).symlink_to(build.parent / "elsewhere.arrow")


def missing_shard(build: Path) -> None:
    (build / ARROW).unlink()


MUTANTS = (
    Mutant(episode_in_two_splits, "L6", "manifest", "ep_a is planned 2 times, in ['train', 'val']"),
    Mutant(test_episode_in_tasks, "L6", "manifest", "ep_x is marked test"),
    Mutant(test_task, "L6", "manifest", "task test/0"),
    Mutant(val_episode_trained_on, "L6", "manifest", "ep_c was planned for val/0"),
    Mutant(train_rows_in_a_val_shard, "L6", "manifest", "ep_a was planned for train/0"),
    Mutant(unplanned_episode, "L6", "manifest", "ep_b is in no task"),
    Mutant(ledgered_episode_with_samples, "L9", "manifest", "ep_b was left out (no-instruction)"),
    Mutant(silently_dropped_episode, "L7", "manifest", "ep_x was planned, but has neither"),
    Mutant(statistics_over_all_splits, "L6", "manifest", "counts 21 samples, the train split has 14"),
    Mutant(statistics_over_all_splits_with_train_counts, "L6", "shards", "state: mean is"),
    Mutant(one_quantile_moved, "L6", "shards", "action: q99"),
    Mutant(val_statistics, "L6", "manifest", "split must be 'train'"),
    Mutant(leaky_stamp, "L2", "manifest", "stamped leaky"),
    Mutant(clip_mode_without_a_stamp, "L2", "manifest", "found 'clip'"),
    Mutant(edited_settings, "L7", "manifest", "not those of build.json"),
    Mutant(edited_settings, "L7", "manifest", "fingerprint is"),
    Mutant(wrong_fingerprint, "L7", "manifest", "fingerprint is"),
    Mutant(edited_tasks, "L7", "manifest", "fingerprint is"),
    Mutant(edited_manifest_without_repair, "L7", "manifest", "samples.parquet has SHA-256"),
    Mutant(edited_manifest_with_repaired_hash, "L7", "shards", "targets_sha256"),
    Mutant(unlisted_file, "L10", "shards", "future-000000.npy is not listed"),
    Mutant(unlisted_folder, "L10", "shards", "test is a folder"),
    Mutant(symlink_in_place_of_a_shard, "L10", "shards", "symbolic link"),
    Mutant(missing_shard, "L7", "shards", "missing or not a regular file"),
)
