"""build.json read with suspicion: whatever reads a build gets values of the types and ranges that it relies on.

The audit asks for more; this is what no reader may trip over, or follow out of the build's folder.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from pipeline.errors import BuildError, RunError
from pipeline.format.build_settings import BuildSettings
from pipeline.format.enums import EncoderMode
from pipeline.format.file_names import META_FILES, inputs_file, latents_file, targets_file
from pipeline.format.json.strict_json import member, parse
from pipeline.format.schema import SCHEMA_VERSION, SPLITS, Sizes
from pipeline.format.text.printable import printable, reason

NAME = re.compile(r"[A-Za-z0-9_-]+")
_LARGEST = 2**53
_SHARD_PATHS = {"inputs": inputs_file, "targets": targets_file, "latents": latents_file}


def read_manifest(data: bytes, where: object) -> dict[str, Any]:
    """The content of build.json.

    Args:
        where: the build, for messages.

    Raises:
        BuildError: it is of another schema version, or not as its format says; one line that names the key.
    """
    place = f"{where}/build.json"
    try:
        value = parse(data)
    except ValueError as error:
        raise BuildError(f"{place} cannot be read: {printable(error)}; copy the build again") from error
    if not isinstance(value, dict):
        raise BuildError(f"{place} cannot be read: it holds no JSON object; copy the build again")
    version = member(value, "schema_version", int, place)
    if version != SCHEMA_VERSION:
        raise BuildError(f"{where} has schema version {version}, this program reads {SCHEMA_VERSION}; build it again")
    _check_identity(value, place)
    _check_counts(value, place)
    files = member(value, "files", dict, place)
    if set(files) != set(META_FILES):
        raise _wrong(place, f"files must list exactly {', '.join(META_FILES)}, found {', '.join(map(repr, files))}")
    for name in files:
        _check_file(files, name, f"{place}: files", name, listed=False)
    return value


def read_sizes(manifest: Mapping[str, Any], place: str) -> Sizes:
    """The sizes of a build."""
    sizes = member(dict(manifest), "sizes", dict, place)
    names = [field.name for field in fields(Sizes)]
    if sorted(sizes) != sorted(names):
        raise _wrong(place, f"sizes must be exactly {', '.join(names)}, found {', '.join(map(repr, sizes))}")
    for name in names:
        least = 0 if name in ("state", "chunk", "action") else 1
        _count(sizes, name, f"{place}: sizes", least)
    return Sizes(**sizes)


def _check_identity(value: dict[str, Any], place: str) -> None:
    if not re.fullmatch(r"[0-9a-f]{64}", member(value, "fingerprint", str, place)):
        raise _wrong(place, f"fingerprint must be 64 hexadecimal digits, found {value['fingerprint']!r:.80}")
    if not NAME.fullmatch(member(value, "name", str, place)):
        raise _wrong(place, f"name must consist of letters, digits, _ and -, found {value['name']!r:.80}")
    member(value, "leaky", bool, place)
    sizes, views = read_sizes(value, place), member(value, "views", list, place)
    if not all(isinstance(view, str) and NAME.fullmatch(view) for view in views) or len(set(views)) != sizes.views:
        raise _wrong(place, f"views must be {sizes.views} different names, as sizes.views says, found {views!r:.200}")
    fps = value.get("fps")
    if fps is not None and (type(fps) not in (int, float) or not math.isfinite(fps) or fps <= 0):
        raise _wrong(place, f"fps must be a number above 0 or null, found {fps!r:.80}")
    settings = member(value, "settings", dict, place)
    try:
        BuildSettings.read(settings)
    except (ValueError, RunError) as error:
        raise _wrong(place, f"settings are not those of a build: {reason(error)}") from error


def _check_counts(value: dict[str, Any], place: str) -> None:
    """`counts` and `shards`, which must agree."""
    counts, found = member(value, "counts", dict, place), dict.fromkeys(SPLITS, 0)
    shares = value["settings"]["encoder"]["mode"] == EncoderMode.TUBELET
    seen: set[tuple[str, int]] = set()
    for shard in member(value, "shards", list, place):
        if not isinstance(shard, dict):
            raise _wrong(place, "an entry of shards must be an object")
        split, index = member(shard, "split", str, f"{place}: shards"), _count(shard, "index", f"{place}: shards", 0)
        inside = f"{place}: shard {split}/{index}"
        if split not in SPLITS or (split, index) in seen:
            raise _wrong(printable(inside), f"its split must be one of {', '.join(SPLITS)}, and it may be listed once")
        seen.add((split, index))
        found[split] += _count(shard, "samples", inside, 1)
        for kind in ("inputs", "targets", *(("latents",) if shares else ())):
            _check_file(shard, kind, inside, _SHARD_PATHS[kind](split, index), listed=True)
    for split in counts:
        if split not in SPLITS:
            raise _wrong(place, f"counts: a split must be one of {', '.join(SPLITS)}, found {split!r:.80}")
        entry = member(counts, split, dict, f"{place}: counts")
        for name in ("samples", "episodes", "shards"):
            _count(entry, name, f"{place}: counts.{split}", 0)
    if found != {split: counts.get(split, {"samples": 0})["samples"] for split in SPLITS}:
        raise _wrong(place, f"counts and shards disagree: the shards hold {found} samples")


def _check_file(parent: dict[str, Any], key: str, place: str, path: str, listed: bool) -> None:
    """An entry with size and hash. listed: it names its path, which has to be the one of the format."""
    entry = member(parent, key, dict, place)
    if listed and member(entry, "file", str, f"{place}.{key}") != path:
        raise _wrong(f"{place}.{key}", f"file must be {path}, found {entry['file']!r:.80}")
    _count(entry, "bytes", f"{place}.{key}", 0)
    if not re.fullmatch(r"[0-9a-f]{64}", member(entry, "sha256", str, f"{place}.{key}")):
        raise _wrong(f"{place}.{key}", f"sha256 must be 64 hexadecimal digits, found {entry['sha256']!r:.80}")


def _count(parent: dict[str, Any], key: str, place: str, least: int) -> int:
    value = member(parent, key, int, place)
    if not least <= value < _LARGEST:
        raise _wrong(place, f"{key} must be {least} or more and below 2**53, found {str(value)[:40]}")
    return value


def _wrong(place: str, what: str) -> BuildError:
    return BuildError(f"{place}: {printable(what)}. It was not written by this version, or is damaged: copy it again")
