"""Names of the files of a build, and of the members of an inputs shard."""

from __future__ import annotations

from collections.abc import Sequence

SHARD_FILES = ("inputs", "targets", "latents")
"""Files of a shard, by their key in build.json; the last is there in encoder mode `tubelet` alone."""


def image_member(key: str, view: str) -> str:
    """Name of the tar member with the current frame of one view."""
    return f"{key}.{view}.jpg"


def json_member(key: str) -> str:
    """Name of the tar member with instruction, state and provenance."""
    return f"{key}.json"


def member_names(key: str, views: Sequence[str]) -> list[str]:
    """All members of a sample, in the order of the tar."""
    return [image_member(key, view) for view in views] + [json_member(key)]


def inputs_file(split: str, index: int) -> str:
    """Path of an inputs shard inside a build."""
    return f"{split}/inputs-{index:06d}.tar"


def latents_file(split: str, index: int) -> str:
    """Path of a latents shard inside a build of encoder mode `tubelet`."""
    return f"{split}/latents-{index:06d}.arrow"


def targets_file(split: str, index: int) -> str:
    """Path of a targets shard inside a build."""
    return f"{split}/targets-{index:06d}.arrow"


CROISSANT = "croissant.json"


VERDICT = "audit/verdict.json"


SIGNED_VERDICT = "audit/verdict.dsse.json"


MANIFEST_VERDICT = "audit/verdict-manifest.json"


REPORT = "audit/report.html"
"""The page of the verdict that stands."""

HISTORY = "audit/history"
"""Folder of every verdict that was made on a build, with its date and signature."""


SAMPLES = "samples.parquet"


PLAN_FILE = "plan.json"


TASKS_FILE = "tasks.jsonl"


WORK_FOLDER = "work"


LOCK_FOLDER = "lock"
"""Holds the lock of the driver that makes a build (`jobs/common/driver_lock.py`); no part of a finished build."""


META_FILES = (SAMPLES, "stats.json", "ledger.jsonl", PLAN_FILE, TASKS_FILE)
"""Files that build.json lists besides those of the shards."""
