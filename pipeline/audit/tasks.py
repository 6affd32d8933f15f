"""tasks.jsonl as columns: which episode belongs to which shard, and its metadata by the source."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.errors import BuildError
from pipeline.format.strict_json import canonical, member, parse_object


@dataclass(frozen=True)
class TaskTable:
    """One row an episode, in the order of the file; E episodes.

    sha256       of the file
    tasks        (split, index) of every line
    heads        the object of every line without its episodes
    ids          string [E]
    task         int64 [E], position of the episode's line in `tasks`
    ref_split    string [E], the split the episode itself is marked with
    num_frames   int64 [E], -1 where it is unknown until the file is opened
    instruction  string [E], null where the source gives it by frame
    hashes       string [E], SHA-256 of the episode's object; of a dropped one the hash that is kept in its place
    dropped      bool [E], nothing is left of the episode but id, split and that hash
    """

    sha256: str
    tasks: tuple[tuple[str, int], ...]
    heads: tuple[dict[str, Any], ...]
    ids: pa.Array
    task: NDArray[np.int64]
    ref_split: pa.Array
    num_frames: NDArray[np.int64]
    instruction: pa.Array
    hashes: pa.Array
    dropped: NDArray[np.bool_]


def read_tasks(data: bytes, where: str) -> TaskTable:
    """Parse tasks.jsonl. Raises BuildError naming `where` and the line when it is malformed."""
    tasks: list[tuple[str, int]] = []
    heads: list[dict[str, Any]] = []
    rows: list[tuple[Any, ...]] = []
    for number, line in enumerate(data.splitlines(), start=1):
        place = f"{where}:{number}"
        value = parse_object(line, place)
        rows += [(len(tasks), *_row(ref, place)) for ref in member(value, "episodes", list, place)]
        heads.append({key: item for key, item in value.items() if key != "episodes"})
        tasks.append((member(value, "split", str, place), member(value, "index", int, place)))
    task, ids, splits, num_frames, instruction, hashes, dropped = zip(*rows, strict=True) if rows else ((),) * 7
    return TaskTable(
        sha256=hashlib.sha256(data).hexdigest(),
        tasks=tuple(tasks),
        heads=tuple(heads),
        ids=pa.array(ids, pa.string()),
        task=np.array(task, np.int64),
        ref_split=pa.array(splits, pa.string()),
        num_frames=np.array(num_frames, np.int64),
        instruction=pa.array(instruction, pa.string()),
        hashes=pa.array(hashes, pa.string()),
        dropped=np.array(dropped, bool),
    )


def _row(ref: Any, place: str) -> tuple[str, str, int, str | None, str, bool]:
    """Id, split, frames, instruction, hash and whether it is dropped: an episode's values in the columns."""
    if not isinstance(ref, dict):
        raise BuildError(f"{place}: an episode must be an object, found {type(ref).__name__}")
    names = (member(ref, "id", str, place), member(ref, "split", str, place))
    numbers = (_num_frames(ref, place), _instruction(ref, place))
    if _is_dropped(ref):
        return *names, *numbers, ref["data"]["dropped"], True
    return *names, *numbers, hashlib.sha256(canonical(ref).encode()).hexdigest(), False


def _is_dropped(ref: dict[str, Any]) -> bool:
    data = ref["data"]
    kept = {key: value for key, value in ref.items() if key not in ("id", "split", "data")}
    return set(data) == {"dropped"} and isinstance(data["dropped"], str) and kept == {"files": [], "num_frames": None}


def _num_frames(ref: dict[str, Any], place: str) -> int:
    return -1 if ref.get("num_frames") is None else member(ref, "num_frames", int, place)


def _instruction(ref: dict[str, Any], place: str) -> str | None:
    data = member(ref, "data", dict, place)
    return None if data.get("instruction") is None else member(data, "instruction", str, place)
