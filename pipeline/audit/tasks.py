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
    task: NDArray[np.int64]
    num_frames: NDArray[np.int64]
    dropped: NDArray[np.bool_]
    ids: pa.Array
    ref_split: pa.Array
    instruction: pa.Array
    hashes: pa.Array

    def episodes(self, line: int) -> slice:
        """The rows of the episodes of a line."""
        first, last = np.searchsorted(self.task, [line, line + 1])
        return slice(int(first), int(last))


def read_tasks(data: bytes, where: str) -> TaskTable:
    """Parse tasks.jsonl. Raises BuildError that names `where` and the line when it is malformed."""
    tasks: list[tuple[str, int]] = []
    heads: list[dict[str, Any]] = []
    rows: list[tuple[Any, ...]] = []
    for number, line in enumerate(data.splitlines(), start=1):
        place = f"{where}:{number}"
        value = parse_object(line, place)
        rows += [(len(tasks), *_row(ref, place)) for ref in member(value, "episodes", list, place)]
        heads.append({key: item for key, item in value.items() if key != "episodes"})
        tasks.append((member(value, "split", str, place), member(value, "index", int, place)))
    task, num_frames, dropped, *texts = zip(*rows, strict=True) if rows else ((),) * 7
    return TaskTable(
        hashlib.sha256(data).hexdigest(),
        tuple(tasks),
        tuple(heads),
        np.array(task, np.int64),
        np.array(num_frames, np.int64),
        np.array(dropped, bool),
        *(pa.array(column, pa.string()) for column in texts),
    )


def _row(ref: Any, place: str) -> tuple[int, bool, str, str, str | None, str]:
    """Frames, whether it is dropped, id, split, instruction and hash: an episode's values in the columns."""
    if not isinstance(ref, dict):
        raise BuildError(f"{place}: an episode must be an object, found {type(ref).__name__}")
    name, split, data = (
        member(ref, "id", str, place),
        member(ref, "split", str, place),
        member(ref, "data", dict, place),
    )
    num_frames = -1 if ref.get("num_frames") is None else member(ref, "num_frames", int, place)
    instruction = None if data.get("instruction") is None else member(data, "instruction", str, place)
    kept: dict[str, Any] = {"id": name, "split": split, "data": data, "files": [], "num_frames": None}
    dropped = ref == kept and set(data) == {"dropped"} and isinstance(data["dropped"], str)
    digest = data["dropped"] if dropped else hashlib.sha256(canonical(ref).encode()).hexdigest()
    return num_frames, dropped, name, split, instruction, digest
