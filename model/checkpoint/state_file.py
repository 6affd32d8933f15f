"""state.json of a checkpoint: the step, what the run decided, and the SHA-256 of every file, itself included."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from pipeline.errors import CorruptError
from pipeline.format.json.strict_json import parse
from pipeline.format.text.printable import reason, shown

STATE = "state.json"
PREFIX = "step-"
_NAME = re.compile(rf"{PREFIX}(\d{{8,}})")
_FILES, _OWN = "files", "sha256"
_THREADS = 8
LARGEST = 2**26
"""Bytes of state.json. A file with a hole takes no room on the disk, but as much in memory."""


def step_in_name(name: str) -> int | None:
    """The step that the name of a folder says it is a checkpoint of; None for another name, as of a copy."""
    found = _NAME.fullmatch(name)
    return None if found is None else int(found[1])


def write_state(checkpoint: Path, state: Mapping[str, Any]) -> None:
    """Write state.json for a folder that holds everything else, and set the modes of all files as `umask` says."""
    content = {**state, _FILES: _digests(checkpoint, _data_files(checkpoint))}
    (checkpoint / STATE).write_bytes(_with_digest(content))
    mode = (checkpoint / STATE).stat().st_mode & 0o777
    for name in _data_files(checkpoint):  # safetensors writes files that their owner alone can read
        (checkpoint / name).chmod(mode)


def read_state(checkpoint: Path) -> dict[str, Any]:
    """The step and what the run decided.

    Raises:
        CorruptError: the file cannot be read, or was changed since it was written.
    """
    return {key: value for key, value in _read(checkpoint).items() if key not in (_FILES, _OWN)}


def listed_files(checkpoint: Path) -> dict[str, str]:
    """The SHA-256 of every other file, by its path in the checkpoint.

    Raises:
        CorruptError: as `read_state`; or a listed path leads elsewhere.
    """
    listed: dict[str, Any] = _read(checkpoint)[_FILES]
    there = set(_data_files(checkpoint))
    for name, digest in listed.items():
        if name not in there or not isinstance(digest, str):
            raise CorruptError(f"{checkpoint} is damaged: {shown(name)} is missing")
    return listed


def checkpoint_sha256(checkpoint: Path) -> str:
    """SHA-256 of state.json, which lists that of every other file: two checkpoints with the same one are the same.

    Raises:
        CorruptError: as `read_state`.
    """
    _read(checkpoint)
    return _file_digest(checkpoint / STATE)


def verify_checkpoint(checkpoint: Path) -> None:
    """Hash every file.

    Raises:
        CorruptError: a file is missing, extra or another than was written; the message names it.
    """
    content = _read(checkpoint)
    listed, named = content[_FILES], step_in_name(checkpoint.name)
    if named is not None and content.get("step") != named:
        raise CorruptError(f"{checkpoint} is damaged: it holds step {content.get('step')!r:.80}, its name says {named}")
    there = set(_data_files(checkpoint))
    if listed.keys() != there:
        odd = sorted(listed.keys() ^ there)[0]
        what = "is missing" if odd in listed else "does not belong to it"
        raise CorruptError(f"{checkpoint} is damaged: {odd} {what}")
    found = _digests(checkpoint, sorted(there))
    for name, digest in listed.items():
        if found[name] != digest:
            raise CorruptError(
                f"{checkpoint} is damaged: {name} has SHA-256 {found[name]}, {shown(digest)} was written"
            )


def _read(checkpoint: Path) -> dict[str, Any]:
    path = checkpoint / STATE
    try:
        if path.stat().st_size > LARGEST:
            raise ValueError(f"it has {path.stat().st_size:,} bytes, at most {LARGEST:,} are read")
        data = path.read_bytes()
        content: dict[str, Any] = parse(data)
        del content[_OWN]
        if not isinstance(content[_FILES], dict):
            raise TypeError(f"{_FILES} must be an object")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CorruptError(f"{path} cannot be read: {reason(error)}") from error
    if data != _with_digest(content):
        raise CorruptError(f"{checkpoint} is damaged: {STATE} was changed since it was written")
    return content


def _data_files(checkpoint: Path) -> list[str]:
    """Raises CorruptError for a link, which may lead to other weights than were hashed, and for what is no file."""
    found = []
    for path in checkpoint.rglob("*"):
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise CorruptError(
                f"{checkpoint} is damaged: {path.name} is no regular file; copy the checkpoint without links"
            )
        if path.is_file() and path != checkpoint / STATE:
            found.append(path.relative_to(checkpoint).as_posix())
    return sorted(found)


def _digests(checkpoint: Path, names: list[str]) -> dict[str, str]:
    with ThreadPoolExecutor(_THREADS) as pool:
        return dict(zip(names, pool.map(lambda name: _file_digest(checkpoint / name), names), strict=True))


def _file_digest(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _with_digest(content: Mapping[str, Any]) -> bytes:
    """The file of a content: the only one, so that no other bytes pass for it."""
    own = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    return (json.dumps({**content, _OWN: own}, indent=2) + "\n").encode()
