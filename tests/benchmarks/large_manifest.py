"""The manifest of a clean build of many samples, column by column, without its shards (level "manifest" opens none)."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.building.row_groups import RowGroups
from pipeline.format.build_settings import EncoderIdentity
from pipeline.format.columns import DIGEST, samples_schema
from pipeline.format.enums import LatentDtype
from pipeline.format.schema import Sizes
from pipeline.planning.cost import Counts, estimate_of
from tests.pipeline.audit.tiny_build import ENCODER, MACHINE, ROBOT, compact, part, pretty, tree_of

WINDOWS, SHARD_EPISODES, STEPS, INTERVAL, CHUNK, VIEWS = 40, 250, 3, 2, 7, 2
FRAMES = WINDOWS + 2 * STEPS * INTERVAL
SIZES = {"views": VIEWS, "image_size": 224, "steps": STEPS, "tokens": 256, "width": 1024, "state": 8, "chunk": CHUNK}
SIZES |= {"action": 7}


def write_manifest(folder: Path, samples: int) -> Path:
    """Write build.json and what it lists beside the shards; `samples` is rounded up to whole shards."""
    folder.mkdir(parents=True)
    shards = -(-samples // (WINDOWS * SHARD_EPISODES))
    ids = [f"robot-{number:06d}" for number in range(shards * SHARD_EPISODES)]
    tasks = b"".join(_task(index, ids) for index in range(shards))
    (folder / "tasks.jsonl").write_bytes(tasks)
    settings = _settings(tasks)
    fingerprint = hashlib.sha256(
        compact({"settings": settings, "tasks": hashlib.sha256(tasks).hexdigest()})
    ).hexdigest()
    _write_samples(folder / "samples.parquet", shards, ids)
    (folder / "plan.json").write_bytes(pretty(_plan(shards, settings, fingerprint)))
    (folder / "ledger.jsonl").write_bytes(b"")
    (folder / "stats.json").write_bytes(pretty(_stats(shards * SHARD_EPISODES * WINDOWS)))
    (folder / "build.json").write_bytes(pretty(_build(folder, shards, settings, fingerprint)))
    return folder


def _write_samples(path: Path, shards: int, ids: list[str]) -> None:
    schema = samples_schema(VIEWS, STEPS)
    rng = np.random.default_rng(0)
    with pq.ParquetWriter(path, schema) as writer:
        rows = RowGroups(writer)
        for index in range(shards):
            own = ids[index * SHARD_EPISODES : (index + 1) * SHARD_EPISODES]
            rows.add(sample_rows(index, own, rng).cast(schema))
        rows.finish()


def sample_rows(shard: int, ids: list[str], rng: np.random.Generator) -> pa.Table:
    """Rows of samples.parquet of one shard, `WINDOWS` of each episode."""
    count = len(ids) * WINDOWS
    now = np.tile(np.arange(WINDOWS, dtype=np.int32), len(ids))
    episode = pa.array(ids).take(pa.array(np.repeat(np.arange(len(ids)), WINDOWS)))
    key = pc.binary_join_element_wise(episode, pc.utf8_lpad(pc.cast(pa.array(now), pa.string()), 6, "0"), "-")
    last = now[:, None] + 2 * INTERVAL * np.arange(STEPS + 1, dtype=np.int32)
    support = np.stack([np.maximum(0, last - INTERVAL), last], axis=2).astype(np.int32)
    offsets = pa.array(np.arange(0, support.size + 1, 2, dtype=np.int32))
    inner = pa.ListArray.from_arrays(offsets, pa.array(support.reshape(-1)))
    sizes = np.full((count, VIEWS), 30_000, np.int64)
    constant = {"num_frames": FRAMES, "interval": INTERVAL, "action_count": CHUNK, "shard": shard, "json_size": 300}
    columns: dict[str, Any] = {name: pa.repeat(pa.scalar(value, pa.int32()), count) for name, value in constant.items()}
    columns |= {
        "key": key,
        "split": pa.repeat("train", count),
        "row": pa.array(np.arange(count, dtype=np.int32)),
        "source": pa.repeat("robot", count),
        "episode": episode,
        "now": pa.array(now),
        "state_frame": pa.array(now),
        "action_start": pa.array(now),
        "supports": pa.FixedSizeListArray.from_arrays(inner, STEPS + 1),
        "now_s": pa.array(np.round(now / 30, 6)),
        "support_end_s": pa.FixedSizeListArray.from_arrays(pa.array(np.round(last / 30, 6).reshape(-1)), STEPS + 1),
        "image_offset": pa.FixedSizeListArray.from_arrays(pa.array(np.cumsum(sizes).reshape(-1)), VIEWS),
        "image_size": pa.FixedSizeListArray.from_arrays(pa.array(sizes.astype(np.int32).reshape(-1)), VIEWS),
        "json_offset": pa.array(np.cumsum(sizes[:, 0])),
        "inputs_sha256": _digests(count, rng),
        "targets_sha256": _digests(count, rng),
    }
    return pa.table({name: columns[name] for name in samples_schema(VIEWS, STEPS).names})


def _digests(count: int, rng: np.random.Generator) -> pa.Array:
    """Random SHA-256: what Parquet cannot compress."""
    return pa.FixedSizeBinaryArray.from_buffers(DIGEST, count, [None, pa.py_buffer(rng.bytes(count * 32))])


def _task(index: int, ids: list[str]) -> bytes:
    own = ids[index * SHARD_EPISODES : (index + 1) * SHARD_EPISODES]
    episodes = [
        {
            "id": name,
            "split": "train",
            "files": [[f"data/{name}.hdf5", 100_000]],
            "num_frames": FRAMES,
            "data": {"demo": "demo_0", "instruction": "put it down", "upside_down": True},
        }
        for name in own
    ]
    return compact({"split": "train", "index": index, "groups": [len(own)], "episodes": episodes}) + b"\n"


def _settings(tasks: bytes) -> dict[str, Any]:
    vectors = {name: [part(name)] for name in ("state", "action")}
    return replace(ROBOT, name="robot", views=("front", "wrist"), end="drop", seed=0).settings() | {
        "source": ROBOT.source() | {"name": "robot", "fps": 30.0, **vectors},
        "window": {"steps": STEPS, "interval": INTERVAL, "chunk": CHUNK, "end": "drop"}
        | {"every": 1, "per_episode": 0, "skip_idle": 0, "idle_change": 0.001},
        "inputs": {"image_size": SIZES["image_size"], "jpeg_quality": 95},
        "encoder": ENCODER | {"tokens": SIZES["tokens"], "width": SIZES["width"], "mode": "prefix"},
        "views": ["front", "wrist"],
        "sizes": SIZES,
        "tasks_tree": tree_of(tasks),
    }


def _plan(shards: int, settings: dict[str, Any], fingerprint: str) -> dict[str, Any]:
    episodes = shards * SHARD_EPISODES
    ends = len({now + 2 * INTERVAL * k for now in range(WINDOWS) for k in range(STEPS + 1)})
    counts = Counts(episodes, episodes * WINDOWS, episodes * ends, shards, exact=True)
    encoder = EncoderIdentity.read(settings["encoder"])
    estimate = asdict(estimate_of(counts, Sizes(**SIZES), encoder, LatentDtype.FLOAT16))
    own = {"sizes": SIZES, "views": ["front", "wrist"], "fps": 30.0, "estimate": estimate, "left_out": []}
    return {"settings": settings, "fingerprint": fingerprint, **own}


def _stats(samples: int) -> dict[str, Any]:
    def group(width: int, count: int) -> dict[str, Any]:
        return {"count": count, **{name: [0.0] * width for name in ("min", "max", "mean", "std", "q01", "q99")}}

    return {"split": "train", "samples": samples, "state": group(8, samples), "action": group(7, samples * CHUNK)}


def _build(folder: Path, shards: int, settings: dict[str, Any], fingerprint: str) -> dict[str, Any]:
    per_shard = SHARD_EPISODES * WINDOWS
    names = ("samples.parquet", "stats.json", "ledger.jsonl", "plan.json", "tasks.jsonl")
    files = {name: {"bytes": (folder / name).stat().st_size, "sha256": _sha256(folder / name)} for name in names}
    entry = {"bytes": 1, "sha256": "0" * 64}
    return {
        "schema_version": 2,
        "fingerprint": fingerprint,
        "name": "robot",
        "leaky": False,
        "settings": settings,
        "latents": {"dtype": "float16", "relative_error": None},
        "sizes": SIZES,
        "views": ["front", "wrist"],
        "fps": 30.0,
        "counts": {"train": {"samples": shards * per_shard, "episodes": shards * SHARD_EPISODES, "shards": shards}},
        "shards": [
            {
                "split": "train",
                "index": index,
                "samples": per_shard,
                "inputs": {"file": f"train/inputs-{index:06d}.tar", **entry},
                "targets": {"file": f"train/targets-{index:06d}.arrow", **entry},
                "encoded_on": MACHINE,
            }
            for index in range(shards)
        ],
        "files": files,
    }


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
