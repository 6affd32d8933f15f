"""A build as its `build.json` describes it. A file that cannot be read stops the audit (BuildError); whatever else is
wrong is a finding."""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.audit.entries import FileEntry, ShardEntry, read_fields, read_files, read_shard
from pipeline.audit.fetcher import ShardFetcher
from pipeline.audit.files import BUILD, TASKS, read_regular
from pipeline.audit.tasks import TaskTable, read_tasks
from pipeline.errors import BuildError
from pipeline.format.enums import LatentDtype, WindowEnd
from pipeline.format.json.strict_json import member, parse_object
from pipeline.format.schema import SCHEMA_VERSION, Sizes

TUBELET = "tubelet"
"""The encoder mode that stores latents in files of their own."""


LARGEST = {"views": 64, "image_size": 4096, "steps": 1024} | dict.fromkeys(
    ("tokens", "width", "state", "chunk", "action"), 1 << 16
)
"""Sizes beyond which no build is audited: arrays of them would fill the machine."""


@dataclass(frozen=True)
class WindowSettings:
    """The part of `settings.window` that frame arithmetic needs: K, s, T and what happens at an episode's end."""

    steps: int
    interval: int
    chunk: int
    end: str


@dataclass(frozen=True)
class SplitCounts:
    """One entry of `counts`."""

    samples: int
    episodes: int
    shards: int


@dataclass(frozen=True)
class ClaimedBuild:
    """What build.json and tasks.jsonl claim. Nothing here has been verified yet.

    raw, sha256   the bytes of build.json and their hash
    settings      as read: their bytes are part of the fingerprint
    fps, mode     nominal rate, and the encoder's mode, as read
    latents       as read; None where build.json has none
    latent_dtype  as the settings name it
    group_samples most rows of a record batch of targets, as the settings have it
    ancestors     as read: the builds that it was made from and their ancestors, by fingerprint
    fetcher       fetches the shards when `root` holds only the small files
    """

    root: Path
    raw: bytes
    sha256: str
    fingerprint: str
    name: str
    leaky: bool
    settings: dict[str, Any]
    sizes: Sizes
    window: WindowSettings
    views: tuple[str, ...]
    fps: Any
    counts: dict[str, SplitCounts]
    shards: tuple[ShardEntry, ...]
    files: tuple[FileEntry, ...]
    tasks: TaskTable
    mode: Any
    latent_dtype: LatentDtype
    group_samples: int
    latents: Any
    ancestors: dict[str, Any]
    fetcher: ShardFetcher | None = None

    @property
    def shares_latents(self) -> bool:
        """Whether each tubelet's latent is stored once, for all windows that it belongs to."""
        return bool(self.mode == TUBELET)

    def listed(self) -> Iterator[FileEntry]:
        """Every file that build.json vouches for."""
        yield from self.files
        for shard in self.shards:
            yield from shard.files

    def present(self, shard: ShardEntry) -> AbstractContextManager[None]:
        """Open this around every read of a shard: its files are then in `root`, if they exist."""
        return contextlib.nullcontext() if self.fetcher is None else self.fetcher.present(shard)


def open_build(root: Path, fetcher: ShardFetcher | None = None) -> ClaimedBuild:
    """Read build.json and tasks.jsonl.

    Raises:
        BuildError: one of them is missing, malformed, or of an unknown schema version.
    """
    where, raw = str(root / BUILD), read_regular(root / BUILD)
    document = parse_object(raw, where)
    version = document.get("schema_version")
    if version != SCHEMA_VERSION or isinstance(version, bool):
        raise BuildError(f"{where}: schema_version is {version!r}, this audit reads {SCHEMA_VERSION}; use its version")
    settings, inside = member(document, "settings", dict, where), f"{where}: settings"
    encoder = settings.get("encoder")
    mode = encoder.get("mode") if isinstance(encoder, dict) else None
    shards, counts = member(document, "shards", list, where), member(document, "counts", dict, where)
    tasks = read_regular(root / TASKS)
    return ClaimedBuild(
        root=root,
        raw=raw,
        sha256=hashlib.sha256(raw).hexdigest(),
        fingerprint=member(document, "fingerprint", str, where),
        name=member(document, "name", str, where),
        leaky=member(document, "leaky", bool, where),
        settings=settings,
        sizes=_sizes(member(document, "sizes", dict, where), f"{where}: sizes"),
        window=_window(member(settings, "window", dict, inside), f"{inside}.window"),
        fps=document.get("fps"),
        views=_views(member(document, "views", list, where), where),
        counts={
            split: read_fields(SplitCounts, member(counts, split, dict, f"{where}: counts"), f"{where}: counts.{split}")
            for split in counts
        },
        shards=tuple(read_shard(shard, where, mode == TUBELET) for shard in shards),
        files=read_files(member(document, "files", dict, where), f"{where}: files"),
        tasks=read_tasks(tasks, str(root / TASKS), settings.get("source"), settings.get("hash_raw")),
        mode=mode,
        latent_dtype=_latent_dtype(settings, inside),
        group_samples=_group_samples(settings, inside),
        latents=document.get("latents"),
        ancestors=member(document, "ancestors", dict, where) if "ancestors" in document else {},
        fetcher=fetcher,
    )


def _sizes(value: dict[str, Any], where: str) -> Sizes:
    sizes = read_fields(Sizes, value, where)
    for name, size in vars(sizes).items():
        least = 0 if name in ("state", "chunk", "action") else 1
        if not least <= size <= LARGEST[name]:
            raise BuildError(f"{where}: {name} must be at least {least} and at most {LARGEST[name]}, found {size}")
    return sizes


def _latent_dtype(settings: dict[str, Any], where: str) -> LatentDtype:
    """Element type of the stored latents."""
    dtype = member(member(settings, "latents", dict, where), "dtype", str, f"{where}.latents")
    if dtype not in list(LatentDtype):
        raise BuildError(f"{where}.latents.dtype must be one of {', '.join(LatentDtype)}, found {dtype!r}")
    return LatentDtype(dtype)


def _group_samples(settings: dict[str, Any], where: str) -> int:
    most = member(member(settings, "shards", dict, where), "group_samples", int, f"{where}.shards")
    if most < 1:
        raise BuildError(f"{where}.shards.group_samples must be at least 1, found {most}")
    return most


def _window(value: dict[str, Any], where: str) -> WindowSettings:
    window = read_fields(WindowSettings, value, where)
    if min(window.steps, window.interval, window.chunk) < 1:
        raise BuildError(f"{where}: steps, interval and chunk must be at least 1, found {window}")
    if window.end not in list(WindowEnd):
        raise BuildError(f"{where}: end must be one of {', '.join(WindowEnd)}, found {window.end!r}")
    return window


def _views(value: list[Any], where: str) -> tuple[str, ...]:
    for name in value:
        if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9_-]+", name):
            raise BuildError(f"{where}: view names consist of letters, digits, _ and -; found {name!r}")
    return tuple(value)
