"""Leaky targets shards. See mutants.py."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from tests.leakage.mutants.mutant import Mutant
from tests.leakage.tools import ARROW, edit_bytes, edit_targets
from tests.pipeline.audit.tiny_build import ROBOT, rehash, write_build
from tests.pipeline.audit.tiny_targets import read_targets, write_targets


def flipped_bit_in_targets(build: Path) -> None:
    edit_bytes(build, ARROW, lambda data: data.__setitem__(len(data) // 2, data[len(data) // 2] ^ 1), repair=False)


def flipped_value_with_repaired_hash(build: Path) -> None:
    """The file's hash fits, the row's digest does not."""

    def edit(columns: dict[str, Any]) -> None:
        columns["context"].view(np.uint16)[2, 0, 0, 0] ^= 1

    edit_targets(build, edit, repair=False)
    rehash(build)


def nan_row(build: Path) -> None:
    edit_targets(build, lambda c: c["latents"].__setitem__((3, 0), np.nan))


def infinite_action(build: Path) -> None:
    edit_targets(build, lambda c: c["actions"].__setitem__((3, 0), np.inf))


def swapped_rows(build: Path) -> None:
    """Values of two rows exchanged, keys left: a silent shift."""

    def edit(columns: dict[str, Any]) -> None:
        for name in ("context", "latents"):
            columns[name][[0, 1]] = columns[name][[1, 0]]

    edit_targets(build, edit, repair=False)
    rehash(build)


def swapped_target_keys(build: Path) -> None:
    def edit(columns: dict[str, Any]) -> None:
        columns["key"][0], columns["key"][1] = columns["key"][1], columns["key"][0]

    edit_targets(build, edit)


def missing_targets_row(build: Path) -> None:
    def edit(columns: dict[str, Any]) -> None:
        columns.update({name: values[:-1] for name, values in columns.items()})

    edit_targets(build, edit)


def extra_targets_row(build: Path) -> None:
    def edit(columns: dict[str, Any]) -> None:
        columns.update({n: v + v[:1] if n == "key" else np.concatenate([v, v[:1]]) for n, v in columns.items()})

    edit_targets(build, edit)


def masked_latents_not_zero(build: Path) -> None:
    """Row 6 (now=6) has its second step masked."""
    edit_targets(build, lambda c: c["latents"].__setitem__((6, 1, 0, 0, 0), np.float16(-0.0)))


def masked_actions_not_zero(build: Path) -> None:
    """Row 8 (now=8) has five actions: the last is repeated past the end, as the reference does."""
    edit_targets(build, lambda c: c["actions"].__setitem__((8, 5), c["actions"][8, 4]))


def action_mask_too_long(build: Path) -> None:
    edit_targets(build, lambda c: c["action_mask"].__setitem__((8, 5), True))


def latent_mask_lifted(build: Path) -> None:
    edit_targets(build, lambda c: c["latent_mask"].__setitem__((6, 1), True))


def extra_column(build: Path) -> None:
    edit_targets(build, lambda c: c.update(future=np.ones((len(c["key"]), 2), np.float32)))


def extra_schema_metadata(build: Path) -> None:
    columns, metadata = read_targets(build / ARROW)
    write_targets(build / ARROW, columns, {**metadata, "hint": "left"})
    rehash(build)


def data_beside_the_columns(build: Path) -> None:
    """The first record batch's keys are followed by bytes that no column refers to."""

    def edit(data: bytearray) -> None:
        at = data.find(b"ep_a-000000") + 3 * len(b"ep_a-000000")
        assert data[at] == 0
        data[at] = 1

    edit_bytes(build, ARROW, edit)


def record_batch_hidden_from_the_footer(build: Path) -> None:
    """One more record batch follows those of the footer; readers of the file never see it, its bytes are there."""
    data = (build / ARROW).read_bytes()
    end = data.rfind(b"\xff\xff\xff\xff\0\0\0\0")
    start = data.find(b"\xff\xff\xff\xff", 12)  # the first record batch, after the schema message
    second = data.find(b"\xff\xff\xff\xff", start + 4)
    (build / ARROW).write_bytes(data[:end] + data[start:second] + data[end:])
    rehash(build)


def batch_metadata(build: Path) -> None:
    with pa.ipc.open_file(str(build / ARROW)) as reader:
        batches = [reader.get_batch(i) for i in range(reader.num_record_batches)]
        schema = reader.schema
    with pa.ipc.new_file(str(build / ARROW), schema) as writer:
        for batch in batches:
            writer.write_batch(batch, custom_metadata={"hint": "left"})
    rehash(build)


def other_shape(build: Path) -> None:
    edit_targets(build, lambda c: c.update(context=c["context"][..., :2]))


def garbage_targets(build: Path) -> None:
    edit_bytes(build, ARROW, lambda data: data.__setitem__(slice(8, None), bytes(len(data) - 8)))


def shard_of_another_build(build: Path) -> None:
    """A whole targets shard of a build with other settings, with hashes and digests made to fit."""
    other = write_build(build.parent / "other", replace(ROBOT, seed=1))
    os.replace(other / ARROW, build / ARROW)
    edit_targets(build, lambda columns: None)


def shard_under_another_name(build: Path) -> None:
    columns, metadata = read_targets(build / ARROW)
    write_targets(build / ARROW, columns, {**metadata, "shard": "train/targets-000001.arrow"})
    rehash(build)


MUTANTS = (
    Mutant(flipped_bit_in_targets, "L7", "shards", "targets-000000.arrow has SHA-256"),
    Mutant(flipped_value_with_repaired_hash, "L7", "shards", "targets_sha256"),
    Mutant(nan_row, "L7", "shards", "latents holds NaN"),
    Mutant(infinite_action, "L7", "shards", "actions holds NaN or infinity"),
    Mutant(swapped_rows, "L7", "shards", "targets_sha256"),
    Mutant(swapped_target_keys, "L7", "shards", "row 0 must be ep_a-000000"),
    Mutant(missing_targets_row, "L7", "shards", "has 8 rows, the manifest 9"),
    Mutant(extra_targets_row, "L7", "shards", "has 10 rows, the manifest 9"),
    Mutant(masked_latents_not_zero, "L8", "shards", "a masked step's latents are not zero"),
    Mutant(masked_actions_not_zero, "L8", "shards", "a masked action is not zero"),
    Mutant(action_mask_too_long, "L8", "shards", "action_mask marks 6 actions"),
    Mutant(latent_mask_lifted, "L8", "shards", "latent_mask is [True, True]"),
    Mutant(extra_column, "L10", "shards", "the format does not know: future"),
    Mutant(extra_schema_metadata, "L10", "shards", "unknown metadata b'hint'"),
    Mutant(batch_metadata, "L10", "shards", "targets-000000.arrow byte"),
    Mutant(data_beside_the_columns, "L10", "shards", "is not as its content is written"),
    Mutant(record_batch_hidden_from_the_footer, "L10", "shards", "is not as its content is written"),
    Mutant(other_shape, "L7", "shards", "column context must be"),
    Mutant(garbage_targets, "L7", "shards", "no readable Arrow file"),
    Mutant(shard_of_another_build, "L7", "shards", "schema metadata fingerprint"),
    Mutant(shard_under_another_name, "L7", "shards", "schema metadata shard"),
)
