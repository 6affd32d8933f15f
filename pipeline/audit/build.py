"""A build as its `build.json` describes it. Reading it is the only step that may refuse: what cannot be read cannot
be audited (BuildError); whatever else is wrong is a finding."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import stat
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.audit.tasks import TaskTable, read_tasks
from pipeline.errors import BuildError
from pipeline.format.enums import LatentDtype
from pipeline.format.file_names import META_FILES, inputs_file, latents_file, targets_file
from pipeline.format.schema import SCHEMA_VERSION, SPLITS, Sizes
from pipeline.format.strict_json import member, parse_object

if TYPE_CHECKING:
    from pipeline.audit.elsewhere import ShardFetcher


TUBELET = "tubelet"
"""The encoder mode whose latents lie in files of their own."""

_CHUNK = 1 << 22


@dataclass(frozen=True)
class FileEntry:
    """A file as build.json lists it; `path` is relative to the build."""

    path: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Origin:
    """Under which build, and as which shard of the same split, the files of a shard were written."""

    fingerprint: str
    index: int


@dataclass(frozen=True)
class ShardEntry:
    """A shard as build.json lists it. latents_error is as read; None where the entry says nothing of it. origin: None
    where the files were written for this build. latents: there in encoder mode `tubelet` alone."""

    split: str
    index: int
    samples: int
    inputs: FileEntry
    targets: FileEntry
    latents_error: Any
    origin: Origin | None = None
    latents: FileEntry | None = None

    @property
    def files(self) -> tuple[FileEntry, ...]:
        """Every file of the shard."""
        values = (getattr(self, field.name) for field in fields(self))
        return tuple(value for value in values if isinstance(value, FileEntry))


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

    sha256 is that of build.json. settings is kept as read: its bytes are part of the fingerprint. latents is as read
    too, None where build.json says nothing of it; latent_dtype is what the settings name. ancestors: the builds that it
    was made from and theirs, by fingerprint, as read. elsewhere fetches the shards
    when root holds the small files alone.
    """

    root: Path
    sha256: str
    fingerprint: str
    name: str
    leaky: bool
    settings: dict[str, Any]
    sizes: Sizes
    window: WindowSettings
    views: tuple[str, ...]
    counts: dict[str, SplitCounts]
    shards: tuple[ShardEntry, ...]
    files: tuple[FileEntry, ...]
    tasks: TaskTable
    latent_dtype: LatentDtype
    latents: Any
    ancestors: dict[str, Any]
    elsewhere: ShardFetcher | None = None

    @property
    def mode(self) -> Any:
        """Encoder mode, as read."""
        return _mode(self.settings)

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
        """Around every look into a shard: its files lie in `root` then, if there are any."""
        return contextlib.nullcontext() if self.elsewhere is None else self.elsewhere.present(shard)


def open_build(root: Path, elsewhere: ShardFetcher | None = None) -> ClaimedBuild:
    """Read build.json and tasks.jsonl.

    Args:
        elsewhere: fetches the shards of a build that `root` holds the small files of.

    Raises:
        BuildError: one of them is missing, malformed, or of an unknown schema version.
    """
    where = str(root / "build.json")
    raw = read_regular(root / "build.json")
    document = parse_object(raw, where)
    version = document.get("schema_version")
    if version != SCHEMA_VERSION or isinstance(version, bool):
        raise BuildError(f"{where}: schema_version is {version!r}, this audit knows {SCHEMA_VERSION}; use its version")
    settings = member(document, "settings", dict, where)
    return ClaimedBuild(
        root=root,
        sha256=hashlib.sha256(raw).hexdigest(),
        fingerprint=member(document, "fingerprint", str, where),
        name=member(document, "name", str, where),
        leaky=member(document, "leaky", bool, where),
        settings=settings,
        sizes=_sizes(member(document, "sizes", dict, where), f"{where}: sizes"),
        window=_window(member(settings, "window", dict, f"{where}: settings"), f"{where}: settings.window"),
        views=_views(member(document, "views", list, where), where),
        counts=_counts(member(document, "counts", dict, where), f"{where}: counts"),
        shards=tuple(_shard(s, where, _mode(settings) == TUBELET) for s in member(document, "shards", list, where)),
        files=_files(member(document, "files", dict, where), f"{where}: files"),
        tasks=read_tasks(read_regular(root / "tasks.jsonl"), str(root / "tasks.jsonl")),
        latent_dtype=_latent_dtype(settings, where),
        latents=document.get("latents"),
        ancestors=member(document, "ancestors", dict, where) if "ancestors" in document else {},
        elsewhere=elsewhere,
    )


def read_regular(path: Path) -> bytes:
    """All bytes of a regular file. Raises BuildError when it is missing or something else (link, pipe, folder)."""
    if not is_regular(path):
        raise BuildError(f"{path} is missing or not a regular file; an unfinished build cannot be audited")
    return path.read_bytes()


def is_regular(path: Path) -> bool:
    """True for a regular file; links are not followed."""
    try:
        return stat.S_ISREG(os.lstat(path).st_mode)
    except OSError:
        return False


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, read in chunks."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _sizes(value: dict[str, Any], where: str) -> Sizes:
    sizes = Sizes(**{field.name: member(value, field.name, int, where) for field in fields(Sizes)})
    for name in ("views", "image_size", "steps", "tokens", "width"):
        if getattr(sizes, name) < 1:
            raise BuildError(f"{where}: {name} must be at least 1, found {getattr(sizes, name)}")
    for name in ("state", "chunk", "action"):
        if getattr(sizes, name) < 0:
            raise BuildError(f"{where}: {name} must be at least 0, found {getattr(sizes, name)}")
    return sizes


def _latent_dtype(settings: dict[str, Any], where: str) -> LatentDtype:
    """Element type of the stored latents."""
    dtype = member(member(settings, "latents", dict, f"{where}: settings"), "dtype", str, f"{where}: settings.latents")
    if dtype not in list(LatentDtype):
        raise BuildError(f"{where}: settings.latents.dtype must be one of {', '.join(LatentDtype)}, found {dtype!r}")
    return LatentDtype(dtype)


def _window(value: dict[str, Any], where: str) -> WindowSettings:
    window = WindowSettings(
        steps=member(value, "steps", int, where),
        interval=member(value, "interval", int, where),
        chunk=member(value, "chunk", int, where),
        end=member(value, "end", str, where),
    )
    if min(window.steps, window.interval, window.chunk) < 1:
        raise BuildError(f"{where}: steps, interval and chunk must be at least 1, found {window}")
    if window.end not in ("drop", "pad"):
        raise BuildError(f"{where}: end must be one of drop, pad, found {window.end!r}")
    return window


def _views(value: list[Any], where: str) -> tuple[str, ...]:
    for name in value:
        if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9_-]+", name):
            raise BuildError(f"{where}: view names consist of letters, digits, _ and -; found {name!r}")
    return tuple(value)


def _counts(value: dict[str, Any], where: str) -> dict[str, SplitCounts]:
    result = {}
    for split in value:
        entry = member(value, split, dict, where)
        inside = f"{where}.{split}"
        result[split] = SplitCounts(
            member(entry, "samples", int, inside), member(entry, "episodes", int, inside),
            member(entry, "shards", int, inside),
        )  # fmt: skip
    return result


def _mode(settings: dict[str, Any]) -> Any:
    encoder = settings.get("encoder")
    return encoder.get("mode") if isinstance(encoder, dict) else None


def _shard(value: Any, where: str, shares_latents: bool) -> ShardEntry:
    if not isinstance(value, dict):
        raise BuildError(f"{where}: an entry of shards must be an object, found {type(value).__name__}")
    split = member(value, "split", str, f"{where}: shards")
    index = member(value, "index", int, f"{where}: shards")
    inside = f"{where}: shard {split}/{index}"
    if split not in SPLITS or index < 0:
        raise BuildError(f"{inside}: split must be one of {', '.join(SPLITS)} and the index at least 0")
    return ShardEntry(
        split=split,
        index=index,
        samples=member(value, "samples", int, inside),
        inputs=_shard_file(member(value, "inputs", dict, inside), inputs_file(split, index), inside),
        targets=_shard_file(member(value, "targets", dict, inside), targets_file(split, index), inside),
        latents_error=value.get("latents_error"),
        origin=_origin(member(value, "origin", dict, inside), inside) if "origin" in value else None,
        latents=_shard_file(member(value, "latents", dict, inside), latents_file(split, index), inside)
        if shares_latents
        else None,
    )


def _origin(value: dict[str, Any], where: str) -> Origin:
    if set(value) != {"fingerprint", "index"}:
        raise BuildError(f"{where}: origin must hold fingerprint and index, found {', '.join(sorted(value))}")
    return Origin(member(value, "fingerprint", str, where), member(value, "index", int, where))


def _shard_file(value: dict[str, Any], expected: str, where: str) -> FileEntry:
    path = member(value, "file", str, where)
    if path != expected:  # also keeps the audit from following a path out of the build
        raise BuildError(f"{where}: expected the file {expected}, found {path!r}")
    return FileEntry(path, member(value, "bytes", int, where), member(value, "sha256", str, where))


def _files(value: dict[str, Any], where: str) -> tuple[FileEntry, ...]:
    if sorted(value) != sorted(META_FILES):
        raise BuildError(f"{where} must list exactly {', '.join(META_FILES)}; found {', '.join(sorted(value))}")
    entries = []
    for path in META_FILES:
        entry = member(value, path, dict, where)
        inside = f"{where}.{path}"
        entries.append(FileEntry(path, member(entry, "bytes", int, inside), member(entry, "sha256", str, inside)))
    return tuple(entries)
