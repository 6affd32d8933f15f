"""A writer of tiny builds that follows docs/formats.md and shares no code with the pipeline.

It is the clean fixture of the audit's tests, and a second reading of the format: where the two disagree, one is wrong.
Pixels spell view and frame index; latents are random; an episode's state and actions spell frame indices.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image

from tests.pipeline.audit.tiny_targets import (
    digest,
    gathered,
    latents_batches,
    read_targets,
    share,
    stored,
    write_targets,
)

Row = dict[str, Any]


ENCODER = {
    "kind": "tiny",
    "seed": 0,
    "resize": "crop",
    "dtype": "float32",
    "attention": "sdpa",
    "batch": 16,
    "cpu_threads": 1,
    "class": "VJEPA2Model",
    "config_sha256": "c" * 64,
    "weights_sha256": "d" * 64,
    "device": "cpu",
    "mean": [0.485, 0.456, 0.406],
    "std": [0.229, 0.224, 0.225],
    "crop_size": 16,
    "layers": 1,
    "mlp_ratio": 4.0,
}
"""The identity of an encoder that is never run."""

HASHED = {"splits_from": "hash of the own id, val_share 0.05, split_seed 0"}

VERSIONS = {
    "av": "18.1.0",
    "decord": "0.6.0",
    "ffmpeg": "7.1",
    "libjpeg": "3.1",
    "numpy": np.__version__,
    "pillow": "13.0.0",
    "pyarrow": pa.__version__,
    "torch": "2.13.0+cpu",
    "transformers": "5.23.0",
}


MACHINE = {"device": "a processor (AVX2)", "cuda": "", "cudnn": "", "precision": "highest"}
"""What no encoder ran on."""


IDLE = {"skip_idle": 0, "idle_change": 0.001}
"""No window is left out."""


@dataclass(frozen=True)
class TinyEpisode:
    """An episode of the tiny world; an unusable one goes to the ledger."""

    id: str
    split: str
    shard: int
    num_frames: int
    usable: bool = True

    @property
    def instruction(self) -> str:
        return f"déplace « {self.id} »"


ROBOT_EPISODES = (
    TinyEpisode("ep_a", "train", 0, 13),
    TinyEpisode("ep_x", "train", 0, 12, usable=False),
    TinyEpisode("ep_b", "train", 1, 9),
    TinyEpisode("ep_c", "val", 0, 11),
)


@dataclass(frozen=True)
class TinyWorld:
    """Sizes and windows of a tiny build. state and action are 0 for human video."""

    name: str = "tiny"
    views: tuple[str, ...] = ("front", "wrist")
    steps: int = 2
    interval: int = 2
    chunk: int = 6
    end: str = "pad"
    state: int = 3
    action: int = 2
    image_size: int = 16
    tokens: int = 2
    width: int = 4
    seed: int = 0
    episodes: tuple[TinyEpisode, ...] = ROBOT_EPISODES
    latents: str = "float16"
    mode: str = "prefix"

    def sizes(self) -> dict[str, int]:
        names = ("image_size", "steps", "tokens", "width", "state", "action")
        chunk = self.chunk if self.action else 0
        return {"views": len(self.views), "chunk": chunk} | {name: getattr(self, name) for name in names}

    def settings(self) -> dict[str, Any]:
        window = {"steps": self.steps, "interval": self.interval, "chunk": self.chunk, "end": self.end}
        splits = sorted({episode.split for episode in self.episodes})
        sizes = {"tokens": self.tokens, "width": self.width}
        return {
            "schema_version": 2,
            "source": self.source(),
            "description": {
                "type": "libero",
                "tasks": 1,
                "episodes": {"train": 3},
                "splits_from": "hash of the own id, val_share 0.05, split_seed 0",
            },
            "dataset": None,
            "leave_out": None,
            "window": {**window, "every": 1, "per_episode": 0, **IDLE},
            "inputs": {"image_size": self.image_size, "jpeg_quality": 90},
            "encoder": {**ENCODER, **sizes, "mode": self.mode, "seed": self.seed},
            "latents": {"dtype": self.latents},
            "shards": {"samples": 8, "group_samples": 3},
            "splits": splits,
            "limit": None,
            "hash_raw": False,
            "versions": VERSIONS,
            "views": list(self.views),
            "sizes": self.sizes(),
        }

    def source(self) -> dict[str, Any]:
        """Demonstrations, with what state and action are made from."""
        state, action = part("pose"), part("pose", convert="pose_reached")
        vectors = {"state": [state], "action": [action, part("command")]}
        own = vectors if self.state else {key: [] for key in vectors}
        cameras = {"fps": 10.0, "cameras": list(self.views), "action_lag": 0}
        return {"type": "libero", "name": self.name, "val_share": 0.05, "split_seed": 0, **cameras, **own}

    def fitting(self, num_frames: int) -> int:
        """Frames 0..result-1 may be `now`."""
        if self.end == "pad":
            return max(0, num_frames - 2 * self.interval)
        by_actions = num_frames - self.chunk + 1 if self.action else num_frames
        return max(0, min(num_frames - 2 * self.steps * self.interval, by_actions))


def part(field: str, **how: Any) -> dict[str, Any]:
    """A part of a state or action, as settings.source has it."""
    return {**dict.fromkeys(("take", "base", "open", "closed")), "scale": 1.0, "convert": "none", "field": field, **how}


ROBOT = TinyWorld()
ROBOT_DROP = replace(ROBOT, end="drop")
INT8 = replace(ROBOT, latents="int8")
TUBELET = replace(ROBOT, mode="tubelet")
TUBELET_INT8 = replace(INT8, mode="tubelet")
VIDEO = replace(ROBOT, views=("video",), state=0, action=0)


def write_build(folder: Path, world: TinyWorld = ROBOT) -> Path:
    """Write a clean build and return its folder."""
    random = np.random.default_rng(world.seed)
    tasks = _tasks(world)
    settings = {**world.settings(), "tasks_tree": tree_of(tasks)}
    fingerprint = fingerprint_of(settings, tasks)
    folder.mkdir(parents=True)
    rows: list[Row] = []
    for split, index in sorted({(e.split, e.shard) for e in world.episodes}):
        rows += _write_shard(folder, world, fingerprint, split, index, random)
    write_manifest(folder, rows, world)
    (folder / "tasks.jsonl").write_bytes(tasks)
    (folder / "plan.json").write_bytes(pretty(_plan(world, settings, fingerprint)))
    (folder / "ledger.jsonl").write_bytes(b"".join(_ledger_line(e) for e in world.episodes if not e.usable))
    (folder / "stats.json").write_bytes(pretty(statistics(folder, rows, "train")))
    (folder / "build.json").write_bytes(pretty(_build_json(world, rows, settings, fingerprint)))
    rehash(folder)
    return folder


def fingerprint_of(settings: Mapping[str, Any], tasks: bytes) -> str:
    return hashlib.sha256(compact({"settings": settings, "tasks": hashlib.sha256(tasks).hexdigest()})).hexdigest()


def tree_of(tasks: bytes) -> str:
    """`tasks_tree`: SHA-256 of the lines with each episode as its own SHA-256 (a dropped one as the hash it left)."""
    digest = hashlib.sha256()
    for line in tasks.splitlines():
        task = json.loads(line)
        leaves = [e["data"].get("dropped") or hashlib.sha256(compact(e)).hexdigest() for e in task["episodes"]]
        digest.update(compact({**task, "episodes": leaves}) + b"\n")
    return digest.hexdigest()


def compact(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def pretty(value: Any) -> bytes:
    return (json.dumps(value, sort_keys=True, indent=2, ensure_ascii=False) + "\n").encode()


def rehash(folder: Path) -> None:
    """Make build.json's sizes and hashes fit the files on disk: nothing about them is secret."""
    build = json.loads((folder / "build.json").read_bytes())
    for path in build["files"]:
        build["files"][path] = _record(folder / path)
    for shard in build["shards"]:
        for kind in (kind for kind in ("inputs", "targets", "latents") if kind in shard):
            shard[kind] = {"file": shard[kind]["file"], **_record(folder / shard[kind]["file"])}
    (folder / "build.json").write_bytes(pretty(build))


def write_tar(path: Path, members: Sequence[tuple[str, bytes]]) -> None:
    """An inputs shard from (name, payload)."""
    path.parent.mkdir(exist_ok=True)
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for name, payload in members:
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(payload), 0o444
            tar.addfile(info, io.BytesIO(payload))


def read_tar(path: Path) -> list[tuple[str, bytes]]:
    """(name, payload) of every member."""
    with tarfile.open(path) as tar:
        return [(m.name, tar.extractfile(m).read()) for m in tar.getmembers()]  # type: ignore[union-attr]


def place(rows: Sequence[Row], path: Path, views: Sequence[str]) -> None:
    """Fill in offsets, sizes and digest of the rows of one shard from its tar."""
    with tarfile.open(path) as tar:
        members = {m.name: (m.offset_data, m.size, tar.extractfile(m).read()) for m in tar.getmembers()}  # type: ignore[union-attr]
    for row in rows:
        own = [members[f"{row['key']}.{view}.jpg"] for view in views] + [members[f"{row['key']}.json"]]
        row["image_offset"], row["image_size"] = [o for o, _, _ in own[:-1]], [s for _, s, _ in own[:-1]]
        row["json_offset"], row["json_size"] = own[-1][:2]
        row["inputs_sha256"] = hashlib.sha256(b"".join(data for _, _, data in own)).digest()


def write_manifest(folder: Path, rows: Sequence[Row], world: TinyWorld) -> None:
    """samples.parquet from rows."""
    views, steps = len(world.views), world.steps + 1
    i32, i64, f64 = pa.int32(), pa.int64(), pa.float64()
    types: dict[str, pa.DataType] = dict.fromkeys(("key", "split"), pa.string())
    types |= dict.fromkeys(("shard", "row"), i32) | dict.fromkeys(("source", "episode"), pa.string())
    types |= dict.fromkeys(("num_frames", "interval", "now", "state_frame", "action_start", "action_count"), i32)
    types |= {"supports": pa.list_(pa.list_(i32), steps), "now_s": f64, "support_end_s": pa.list_(f64, steps)}
    types |= {"image_offset": pa.list_(i64, views), "image_size": pa.list_(i32, views)}
    types |= {"json_offset": i64, "json_size": i32, "inputs_sha256": pa.binary(32), "targets_sha256": pa.binary(32)}
    table = pa.table({name: pa.array([row[name] for row in rows], kind) for name, kind in types.items()})
    pq.write_table(table, folder / "samples.parquet", row_group_size=1 << 14)


def statistics(folder: Path, rows: Sequence[Row], *splits: str) -> dict[str, Any]:
    """stats.json over the shards of some splits (a clean build: train alone)."""
    shards = sorted({(row["split"], row["shard"]) for row in rows if row["split"] in splits})
    states: list[list[float]] = []
    actions: list[NDArray[np.float32]] = []
    for split, index in shards:
        members = read_tar(folder / split / f"inputs-{index:06d}.tar")
        documents = [json.loads(payload) for name, payload in members if name.endswith(".json")]
        states += [d["state"] for d in documents if d["state"] is not None]
        columns, _ = read_targets(folder / split / f"targets-{index:06d}.arrow")
        if "actions" in columns:
            actions.append(columns["actions"][columns["action_mask"]])
    samples = sum(row["split"] in splits for row in rows)
    state = summary(np.array(states, np.float32)) if states else None
    action = summary(np.concatenate(actions)) if actions else None
    return {"split": "train", "samples": samples, "state": state, "action": action}


def jpeg(frame: int, view: int, size: int, **options: Any) -> bytes:
    """An image whose pixels spell its frame index and view. Options go to the encoder."""
    pixels = np.zeros((size, size, 3), np.uint8)
    pixels[: size // 2] = (10 * frame % 256, 60 * view, 128)
    pixels[size // 2 :] = np.arange(size, dtype=np.uint8)[None, :, None] * 7
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", **{"quality": 90, "subsampling": 0, **options})
    return buffer.getvalue()


def _tasks(world: TinyWorld) -> bytes:
    lines = []
    for split, index in sorted({(e.split, e.shard) for e in world.episodes}):
        refs = [_ref(e) for e in world.episodes if (e.split, e.shard) == (split, index)]
        lines.append(compact({"split": split, "index": index, "groups": [len(refs)], "episodes": refs}) + b"\n")
    return b"".join(lines)


def _ref(episode: TinyEpisode) -> dict[str, Any]:
    source = {"files": [[f"{episode.id}.hdf5", 1000]], "num_frames": episode.num_frames}
    data = {"instruction": episode.instruction, "demo": "demo_0", "upside_down": True}
    return {"id": episode.id, "split": episode.split, **source, "data": data}


def _ledger_line(episode: TinyEpisode) -> bytes:
    entry = {"episode": episode.id, "split": episode.split, "stage": "targets", "reason": "undecodable"}
    return compact({**entry, "detail": "frame 3", "windows": None}) + b"\n"


def _write_shard(
    folder: Path, world: TinyWorld, fingerprint: str, split: str, index: int, random: np.random.Generator
) -> list[Row]:
    episodes = [e for e in world.episodes if (e.split, e.shard) == (split, index) and e.usable]
    rows = [_row(world, e, now, split, index) for e in episodes for now in range(world.fitting(e.num_frames))]
    members: list[tuple[str, bytes]] = []
    texts = {e.id: e.instruction for e in episodes}
    for number, row in enumerate(rows):
        row["row"] = number
        members += _members(world, row, texts[row["episode"]])
    tar, arrow = f"{split}/inputs-{index:06d}.tar", f"{split}/targets-{index:06d}.arrow"
    write_tar(folder / tar, members)
    place(rows, folder / tar, world.views)
    columns = _targets(world, rows, random)
    metadata = {"fingerprint": fingerprint, "schema_version": "2", "shard": arrow}
    if world.mode == "tubelet":
        latents = f"{split}/latents-{index:06d}.arrow"
        shared, columns = share(columns, rows)
        batches = latents_batches(columns, len(shared["frame"]))
        write_targets(folder / latents, shared, {**metadata, "shard": latents}, batches)
        write_targets(folder / arrow, columns, metadata)
        columns = gathered(columns, shared)
    else:
        write_targets(folder / arrow, columns, metadata)
    for number, row in enumerate(rows):
        row["targets_sha256"] = digest(columns, number)
    return rows


def _row(world: TinyWorld, episode: TinyEpisode, now: int, split: str, index: int) -> Row:
    s, supports = world.interval, []
    for k in range(world.steps + 1):
        last = now + 2 * k * s
        supports.append([max(0, last - s), last] if last < episode.num_frames else [])
    return {
        "key": f"{episode.id}-{now:06d}",
        "split": split,
        "shard": index,
        "source": world.name,
        "episode": episode.id,
        "num_frames": episode.num_frames,
        "interval": s,
        "now": now,
        "state_frame": now if world.state else -1,
        "action_start": now if world.action else -1,
        "action_count": min(world.chunk, episode.num_frames - now) if world.action else 0,
        "supports": supports,
        "now_s": now / 10,
        "support_end_s": [support[-1] / 10 if support else float("nan") for support in supports],
    }


def _members(world: TinyWorld, row: Row, instruction: str) -> list[tuple[str, bytes]]:
    key, now = row["key"], row["now"]
    members = [(f"{key}.{v}.jpg", jpeg(now, i, world.image_size)) for i, v in enumerate(world.views)]
    state = [float(str(np.float32(now + channel / 7))) for channel in range(world.state)]
    document = {"episode": row["episode"], "instruction": instruction, "key": key, "now": now, "source": world.name}
    document |= {"state": state or None, "views": list(world.views)}
    return [*members, (f"{key}.json", compact(document) + b"\n")]


def _targets(world: TinyWorld, rows: Sequence[Row], random: np.random.Generator) -> dict[str, Any]:
    step = (len(world.views), world.tokens, world.width)
    mask = np.array([[bool(support) for support in row["supports"][1:]] for row in rows])
    latents = random.standard_normal((len(rows), world.steps, *step)).astype(np.float16)
    latents[~mask] = 0
    context = random.standard_normal((len(rows), *step)).astype(np.float16)
    columns: dict[str, Any] = {
        "key": [row["key"] for row in rows],
        **stored("context", context, world.latents),
        **stored("latents", latents, world.latents),
        "latent_mask": mask,
    }
    if world.action:
        valid = np.array([np.arange(world.chunk) < row["action_count"] for row in rows])
        frames = np.array([row["now"] for row in rows])[:, None, None] + np.arange(world.chunk)[None, :, None]
        actions = (frames + np.arange(world.action) / 3).astype(np.float32)
        actions[~valid] = 0
        columns |= {"actions": actions, "action_mask": valid}
    return columns


def summary(values: NDArray[np.float32]) -> dict[str, Any]:
    """A group of stats.json, of values [N, C]."""
    columns = [_channel([Fraction(value) for value in column]) for column in values.T.astype(float).tolist()]
    return {"count": len(values), **{name: [column[name] for column in columns] for name in columns[0]}}


def _channel(values: list[Fraction]) -> dict[str, float]:
    """The statistics of one channel by exact fractions, each rounded to float64 once (std: variance, then root)."""
    count, ordered = len(values), sorted(map(float, values))
    mean = sum(values, Fraction()) / count
    variance = sum((value * value for value in values), Fraction()) / count - mean * mean
    quantiles = {}
    for name, percent in (("q01", 1), ("q99", 99)):
        rank, rest = divmod((count - 1) * percent, 100)
        low, high = ordered[rank], ordered[min(rank + 1, count - 1)]
        quantiles[name] = low + (high - low) * (rest / 100)
    moments = {"min": ordered[0], "max": ordered[-1], "mean": float(mean), "std": math.sqrt(variance)}
    return {**moments, **quantiles}


def _plan(world: TinyWorld, settings: Mapping[str, Any], fingerprint: str) -> dict[str, Any]:
    plan = {"settings": settings, "fingerprint": fingerprint, "sizes": world.sizes(), "views": list(world.views)}
    return {**plan, "fps": 10.0, "estimate": _estimate(world), "left_out": []}


def _estimate(world: TinyWorld) -> dict[str, Any]:
    nows = [(e, now) for e in world.episodes for now in range(world.fitting(e.num_frames))]
    reached = {(e.id, now + 2 * k * world.interval) for e, now in nows for k in range(world.steps + 1)}
    lengths = {e.id: e.num_frames for e in world.episodes}
    windows, tubelets = len(nows), sum(end < lengths[name] for name, end in reached)
    shared, token = world.mode == "tubelet", 2 * world.width if world.latents == "float16" else world.width + 4
    vectors = (tubelets if shared else windows * (world.steps + 1)) * len(world.views) * world.tokens * token
    numbers = windows * (4 * (world.steps + 1) * shared + 4 * world.action * (world.chunk if world.action else 0))
    passes = [1] if shared else range(1, world.steps + 2)
    one = sum(_flops(steps * world.tokens, world.width) for steps in passes)
    return {
        "episodes": len(world.episodes),
        "windows": windows,
        "tubelets": tubelets,
        "shards": len({(e.split, e.shard) for e in world.episodes}),
        "exact": True,
        "input_bytes": windows * (len(world.views) * round(0.6 * world.image_size * world.image_size) + 2048),
        "target_bytes": vectors + numbers,
        "flops": (tubelets if shared else windows) * len(world.views) * one,
    }


def _flops(length: int, width: int) -> float:
    """Of one layer with mlp_ratio 4.0, and of the patch embedding."""
    return length * (2 * (4 + 2 * 4.0) * width**2 + 2 * width * 1536) + length**2 * 4 * width


def _build_json(world: TinyWorld, rows: Sequence[Row], settings: Mapping[str, Any], fingerprint: str) -> dict[str, Any]:
    places = sorted({(row["split"], row["shard"]) for row in rows})
    shards = [
        {
            "split": split,
            "index": index,
            "samples": sum((row["split"], row["shard"]) == (split, index) for row in rows),
            "inputs": {"file": f"{split}/inputs-{index:06d}.tar"},
            "targets": {"file": f"{split}/targets-{index:06d}.arrow"},
            **({"latents": {"file": f"{split}/latents-{index:06d}.arrow"}} if world.mode == "tubelet" else {}),
            "encoded_on": MACHINE,
            **({"latents_error": [[0.004**2, 1.0]] * 3} if world.latents == "int8" else {}),
        }
        for split, index in places
    ]
    counts = {
        split: {
            "samples": sum(row["split"] == split for row in rows),
            "episodes": len({row["episode"] for row in rows if row["split"] == split}),
            "shards": sum(s == split for s, _ in places),
        }
        for split in sorted({split for split, _ in places})
    }
    files = ("samples.parquet", "stats.json", "ledger.jsonl", "plan.json", "tasks.jsonl")
    return {
        "schema_version": 2,
        "fingerprint": fingerprint,
        "name": world.name,
        "leaky": False,
        "settings": settings,
        "sizes": world.sizes(),
        "views": list(world.views),
        "fps": 10.0,
        "latents": {"dtype": world.latents, "relative_error": [0.004] * 3 if world.latents == "int8" else None},
        "counts": counts,
        "shards": shards,
        "files": dict.fromkeys(files),
    }


def _record(path: Path) -> dict[str, Any]:
    return {"bytes": path.stat().st_size, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
