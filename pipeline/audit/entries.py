"""Files and shards as build.json lists them."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, TypeVar, get_type_hints

from pipeline.errors import BuildError
from pipeline.format.file_names import META_FILES, inputs_file, latents_file, targets_file
from pipeline.format.json.strict_json import member
from pipeline.format.machine import Machine
from pipeline.format.schema import SPLITS

T = TypeVar("T")


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
    """A shard as build.json lists it.

    latents_error  as read; None where the entry has none
    encoded_on     what its latents were computed on
    origin         None where the files were written for this build
    latents        None except in encoder mode `tubelet`
    """

    split: str
    index: int
    samples: int
    inputs: FileEntry
    targets: FileEntry
    latents_error: Any
    encoded_on: Machine
    origin: Origin | None = None
    latents: FileEntry | None = None

    @property
    def files(self) -> tuple[FileEntry, ...]:
        """Every file of the shard."""
        return tuple(file for file in (self.inputs, self.targets, self.latents) if file is not None)


def read_shard(value: Any, where: str, shares_latents: bool) -> ShardEntry:
    """An entry of `shards`. Raises BuildError that names `where` when it is malformed."""
    if not isinstance(value, dict):
        raise BuildError(f"{where}: an entry of shards must be an object, found {type(value).__name__}")
    split = member(value, "split", str, f"{where}: shards")
    index = member(value, "index", int, f"{where}: shards")
    inside = f"{where}: shard {split}/{index}"
    if split not in SPLITS or index < 0:
        raise BuildError(f"{inside}: split must be one of {', '.join(SPLITS)} and the index at least 0")

    def file(kind: str, expected: str) -> FileEntry:
        entry = member(value, kind, dict, inside)
        path = member(entry, "file", str, inside)
        if path != expected:  # also keeps the audit from following a path out of the build
            raise BuildError(f"{inside}: expected the file {expected}, found {path!r}")
        return _entry(path, entry, inside)

    return ShardEntry(
        split=split,
        index=index,
        samples=member(value, "samples", int, inside),
        inputs=file("inputs", inputs_file(split, index)),
        targets=file("targets", targets_file(split, index)),
        latents_error=value.get("latents_error"),
        encoded_on=_machine(member(value, "encoded_on", dict, inside), inside),
        origin=_origin(member(value, "origin", dict, inside), inside) if "origin" in value else None,
        latents=file("latents", latents_file(split, index)) if shares_latents else None,
    )


def read_files(value: dict[str, Any], where: str) -> tuple[FileEntry, ...]:
    """`files`: exactly those of the format. Raises BuildError naming `where` when it is malformed."""
    if sorted(value) != sorted(META_FILES):
        raise BuildError(f"{where} must list exactly {', '.join(META_FILES)}; found {', '.join(sorted(value))}")
    return tuple(_entry(path, member(value, path, dict, where), f"{where}.{path}") for path in META_FILES)


def _entry(path: str, value: dict[str, Any], where: str) -> FileEntry:
    return FileEntry(path, member(value, "bytes", int, where), member(value, "sha256", str, where))


def _origin(value: dict[str, Any], where: str) -> Origin:
    if set(value) != {"fingerprint", "index"}:
        raise BuildError(f"{where}: origin must hold fingerprint and index, found {', '.join(sorted(value))}")
    return read_fields(Origin, value, where)


def _machine(value: dict[str, Any], where: str) -> Machine:
    names = [field.name for field in fields(Machine)]
    if sorted(value) != sorted(names):
        raise BuildError(f"{where}: encoded_on must hold exactly {', '.join(names)}; found {', '.join(sorted(value))}")
    return read_fields(Machine, value, f"{where}: encoded_on")


def read_fields(kind: type[T], value: dict[str, Any], where: str) -> T:
    """A dataclass of plain values from the members of their names. Raises BuildError that names `where` and the key."""
    return kind(**{name: member(value, name, hint, where) for name, hint in get_type_hints(kind).items()})
