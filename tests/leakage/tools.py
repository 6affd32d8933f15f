"""What an attacker can do to a finished build: edit any file, then make every hash fit again."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from tests.pipeline.audit.tiny_build import (
    ROBOT,
    Row,
    compact,
    fingerprint_of,
    place,
    pretty,
    read_tar,
    rehash,
    tree_of,
    write_manifest,
    write_tar,
)
from tests.pipeline.audit.tiny_targets import (
    digest,
    gathered,
    latents_batches,
    read_batches,
    read_targets,
    write_targets,
)

TAR = "train/inputs-000000.tar"
ARROW = "train/targets-000000.arrow"
LATENTS = "train/latents-000000.arrow"

Members = list[tuple[str, bytes]]


def read_rows(build: Path) -> list[Row]:
    """The manifest as dicts."""
    return pq.read_table(build / "samples.parquet").to_pylist()


def edit_rows(build: Path, edit: Callable[[list[Row]], object], repair: bool = True) -> None:
    """Change the manifest in place; with `repair` its hash in build.json fits afterwards."""
    rows = read_rows(build)
    edit(rows)
    write_manifest(build, rows, ROBOT)
    if repair:
        rehash(build)


def edit_json(build: Path, file: str, edit: Callable[[Any], object], repair: bool = True) -> None:
    """Change a JSON file in place."""
    value = json.loads((build / file).read_bytes())
    edit(value)
    (build / file).write_bytes(pretty(value))
    if repair:
        rehash(build)


def edit_tasks(build: Path, edit: Callable[[list[Any]], object], repair: bool = True) -> None:
    """Change the lines of tasks.jsonl; with `repair` the whole chain of fingerprints fits afterwards."""
    tasks = [json.loads(line) for line in (build / "tasks.jsonl").read_bytes().splitlines()]
    edit(tasks)
    (build / "tasks.jsonl").write_bytes(b"".join(compact(task) + b"\n" for task in tasks))
    if repair:
        refingerprint(build)


def refingerprint(build: Path) -> None:
    """A new fingerprint from settings and tasks, written wherever there is one, and new hashes."""
    tasks = (build / "tasks.jsonl").read_bytes()
    settings = {**json.loads((build / "build.json").read_bytes())["settings"], "tasks_tree": tree_of(tasks)}
    fingerprint = fingerprint_of(settings, tasks)
    plan = {"fingerprint": fingerprint, "settings": settings}
    edit_json(build, "build.json", lambda d: d.update(plan), repair=False)
    edit_json(build, "plan.json", lambda d: d.update(plan), repair=False)
    for path in sorted(build.glob("*/*.arrow")):
        columns, metadata = read_targets(path)
        write_targets(path, columns, {**metadata, "fingerprint": fingerprint}, read_batches(path))
    rehash(build)


def edit_tar(build: Path, edit: Callable[[Members], Members], repair: bool = True) -> None:
    """Rewrite the first inputs shard; with `repair` offsets, digests and hashes fit afterwards."""
    write_tar(build / TAR, edit(read_tar(build / TAR)))
    if repair:
        refit_inputs(build)


def refit_inputs(build: Path) -> None:
    """Offsets, sizes and digests of the first inputs shard from the tar as it is, and new hashes."""
    edit_rows(
        build,
        lambda rows: place([r for r in rows if (r["split"], r["shard"]) == ("train", 0)], build / TAR, ROBOT.views),
    )


def edit_document(build: Path, edit: Callable[[dict[str, Any]], object], repair: bool = True) -> None:
    """Change the KEY.json of the first sample, spelled canonically."""

    def change(members: Members) -> Members:
        at = next(i for i, (name, _) in enumerate(members) if name.endswith(".json"))
        value = json.loads(members[at][1])
        edit(value)
        members[at] = (members[at][0], compact(value) + b"\n")
        return members

    edit_tar(build, change, repair)


def edit_image(build: Path, edit: Callable[[bytes], bytes], repair: bool = True) -> None:
    """Change the JPEG of the first view of the second sample (the first sets what the others are compared with)."""

    def change(members: Members) -> Members:
        members[3] = (members[3][0], edit(members[3][1]))
        return members

    edit_tar(build, change, repair)


def edit_targets(build: Path, edit: Callable[[dict[str, Any]], object], repair: bool = True) -> None:
    """Change columns of the first targets shard; with `repair` digests and hashes fit afterwards."""
    columns, metadata = read_targets(build / ARROW)
    edit(columns)
    write_targets(build / ARROW, columns, metadata)
    if repair:
        refit_targets(build)


def edit_latents(build: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    """Change columns of the first latents shard; digests and hashes fit afterwards."""
    columns, metadata = read_targets(build / LATENTS)
    edit(columns)
    batches = latents_batches(read_targets(build / ARROW)[0], len(columns["frame"]))
    write_targets(build / LATENTS, columns, metadata, batches)
    refit_targets(build)


def refit_targets(build: Path) -> None:
    """Digests of the first targets shard from the files as they are, and new hashes."""
    columns, _ = read_targets(build / ARROW)
    if (build / LATENTS).exists():
        columns = gathered(columns, read_targets(build / LATENTS)[0])

    def fit(rows: list[Row]) -> None:
        own = [row for row in rows if (row["split"], row["shard"]) == ("train", 0)]
        for i, row in enumerate(own[: len(columns["key"])]):
            row["targets_sha256"] = digest(columns, i)

    edit_rows(build, fit)


def edit_bytes(build: Path, file: str, edit: Callable[[bytearray], object], repair: bool = True) -> None:
    """Change raw bytes of a file."""
    data = bytearray((build / file).read_bytes())
    edit(data)
    (build / file).write_bytes(data)
    if repair:
        rehash(build)
