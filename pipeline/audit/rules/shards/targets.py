"""The targets shard: schema, keys in the tar's order, finite values, zeros where masked, masks as in the manifest.

Rules L7 (join, corruption), L8 (masks) and L10 (what the format does not know).
"""

from __future__ import annotations

import hashlib

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.audit.finding import Report, RowChecks
from pipeline.audit.parsers.shard import Shard, ShardRule, TargetRows
from pipeline.audit.rules.shards.int8 import check_tokens
from pipeline.audit.samples import UNREADABLE, supports
from pipeline.format.file_names import json_member


class TargetValues(ShardRule[None]):
    """Every row of the Arrow file, against the manifest's row of the same position."""

    def check(self, shard: Shard, report: Report) -> None:
        file = shard.entry.targets.path
        reader, problems = shard.opened
        report.check("L7")
        report.problems(problems, file)
        if reader is None:
            return
        keys: list[str] = []
        try:
            for rows in shard.targets():
                keys += rows.keys
                _check_rows(shard, rows, report)
        except UNREADABLE as error:
            report.found("L7", file, f"cannot be read to its end: {error}")
            return
        _check_join(shard, keys, report)


def _check_join(shard: Shard, keys: list[str], report: Report) -> None:
    """One and the same list of keys in manifest, Arrow file and tar."""
    file = shard.entry.targets.path
    if len(keys) != len(shard.keys):
        report.found("L7", file, f"has {len(keys)} rows, the manifest {len(shard.keys)}")
    names = [json_member(key) for key in keys]
    known = set(names)
    if shard.inputs is not None and [m.name for m in shard.tar.members if m.name in known] != names:
        report.found("L7", file, f"its keys are not those of {shard.entry.inputs.path} in the same order")


def _check_rows(shard: Shard, rows: TargetRows, report: Report) -> None:
    part = shard.manifest(rows)
    if part is None:
        return  # the row count is reported by the join
    checks = RowChecks(report, shard.entry.targets.path, pa.array(rows.keys, pa.string()))
    wants, digests = part.column("key").to_pylist(), part.column("targets_sha256").to_pylist()
    other = np.array([a != b for a, b in zip(rows.keys, wants, strict=True)], bool)
    checks.rows("L7", other, lambda i: f"row {rows.start + i} must be {wants[i]}")
    changed = np.array([row_digest(rows, i) != digest for i, digest in enumerate(digests)], bool)
    detail = "the row is not the one whose digest the manifest holds (targets_sha256)"
    checks.rows("L7", changed, detail, altered=True)
    _check_values(rows, checks)
    _check_masks(rows, part, checks)


def row_digest(rows: TargetRows, i: int) -> bytes:
    """SHA-256 of one row as docs/formats.md defines `targets_sha256`."""
    digest = hashlib.sha256()
    for values, scale in ((rows.context, rows.context_scale), (rows.latents, rows.latents_scale)):
        if scale is None:
            digest.update(np.ascontiguousarray(values[i], "<f2").data)
        else:
            digest.update(np.ascontiguousarray(values[i]).data)
            digest.update(np.ascontiguousarray(scale[i], "<f4").data)
    digest.update(rows.latent_mask[i].astype(np.uint8).tobytes())
    if rows.actions is not None and rows.action_mask is not None:
        digest.update(np.ascontiguousarray(rows.actions[i], "<f4").data)
        digest.update(rows.action_mask[i].astype(np.uint8).tobytes())
    return digest.digest()


def _check_values(rows: TargetRows, checks: RowChecks) -> None:
    for name, values, scale in (
        ("context", rows.context, rows.context_scale),
        ("latents", rows.latents, rows.latents_scale),
        ("actions", rows.actions, None),
    ):
        if values is None:
            continue
        if scale is not None:
            check_tokens(name, values, scale, checks)
        else:
            bad = np.array([not _all_finite(row) for row in values], bool)
            checks.rows("L7", bad, f"{name} holds NaN or infinity")
            signed = np.array([_has_negative_zero(row) for row in values], bool)
            checks.rows("L10", signed, f"{name} holds -0.0; a zero is stored without a sign")
    for values, mask, problem in (
        (rows.latents, rows.latent_mask, "a masked step's latents are not zero"),
        (rows.latents_scale, rows.latent_mask, "a masked step's scales are not zero"),
        (rows.actions, rows.action_mask, "a masked action is not zero"),
    ):
        if values is not None and mask is not None:
            checks.rows("L8", _invented(values, mask), problem)


def _all_finite(values: NDArray) -> bool:
    """NumPy converts float16 value by value. Its bits are faster: an exponent of ones is NaN or infinity."""
    if values.dtype != np.float16:
        return bool(np.isfinite(values).all())
    bits = np.ascontiguousarray(values).view(np.uint16)
    return bits.size == 0 or bool((bits & 0x7FFF).max() < 0x7C00)


def _has_negative_zero(values: NDArray) -> bool:
    """Its bits are those of the smallest integer of that width."""
    kind = np.int16 if values.dtype == np.float16 else np.int32
    bits = np.ascontiguousarray(values).view(kind)
    return bits.size > 0 and bool(bits.min() == np.iinfo(kind).min)


def _invented(values: NDArray, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Rows with any bit set (a negative zero counts) where the mask is False; bool [B]."""
    bad = np.zeros(len(values), bool)
    for i, j in zip(*np.nonzero(~mask), strict=True):
        bad[i] |= any(values[i, j].tobytes())
    return bad


def _check_masks(rows: TargetRows, part: pa.RecordBatch, checks: RowChecks) -> None:
    mask, steps = rows.latent_mask, (supports(part).lengths > 0)[:, 1:]
    text = "latent_mask is {}, the manifest's supports give {}"
    checks.rows("L8", mask != steps, text, mask.tolist(), steps.tolist())
    if rows.action_mask is not None:
        mask, count = rows.action_mask, part.column("action_count").to_numpy()
        wrong = mask != (np.arange(mask.shape[1]) < count[:, None])
        text = "action_mask marks {} actions, the manifest's action_count is {}"
        checks.rows("L8", wrong, text, mask.sum(axis=1), count)
