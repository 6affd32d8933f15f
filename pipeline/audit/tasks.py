"""tasks.jsonl as columns: which episode belongs to which shard, and its metadata by the source."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.audit.canonical.shape import misfit
from pipeline.audit.canonical.spelling import difference
from pipeline.audit.canonical.spelling import line as spelled
from pipeline.audit.files import leads_out
from pipeline.audit.finding import MAX_FINDINGS
from pipeline.errors import BuildError
from pipeline.format.json.documents import TaskContent
from pipeline.format.json.episode_data import EPISODE_DATA, DroppedData
from pipeline.format.json.strict_json import canonical, member, parse_object


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
    problems     lines that do not fit their closed type or spelling, up to MAX_FINDINGS
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
    problems: tuple[str, ...] = ()

    def episodes(self, line: int) -> slice:
        """The rows of the episodes of a line."""
        first, last = np.searchsorted(self.task, [line, line + 1])
        return slice(int(first), int(last))


def read_tasks(data: bytes, where: str, source: object = None, hashed: object = False) -> TaskTable:
    """Parse tasks.jsonl.

    Args:
        source: `settings.source`, whose type decides what is known of an episode.
        hashed: `settings.hash_raw`, whether the raw files' hashes are known.

    Raises:
        BuildError: it names `where` and the line that is malformed.
    """
    tasks: list[tuple[str, int]] = []
    heads: list[dict[str, Any]] = []
    rows: list[tuple[Any, ...]] = []
    problems: list[str] = []
    data_type = EPISODE_DATA.get(str(source.get("type") if isinstance(source, dict) else None), Any)
    for number, line in enumerate(data.splitlines(keepends=True), start=1):
        place = f"{where}:{number}"
        value = parse_object(line, place)
        rows += [(len(tasks), *_row(ref, place)) for ref in member(value, "episodes", list, place)]
        heads.append({key: item for key, item in value.items() if key != "episodes"})
        tasks.append((member(value, "split", str, place), member(value, "index", int, place)))
        if len(problems) < MAX_FINDINGS:
            problem = _misfit(value, data_type, bool(hashed)) or difference(line, spelled(value))
            problems += [f"line {number}: {problem.removeprefix('.').strip()}"] if problem else []
    task, num_frames, dropped, *texts = zip(*rows, strict=True) if rows else ((),) * 7
    ids, ref_split, instruction, hashes = (pa.array(column, pa.string()) for column in texts)
    return TaskTable(
        hashlib.sha256(data).hexdigest(),
        tuple(tasks),
        tuple(heads),
        np.array(task, np.int64),
        np.array(num_frames, np.int64),
        np.array(dropped, bool),
        ids,
        ref_split,
        instruction,
        hashes,
        tuple(problems),
    )


def _misfit(task: dict[str, Any], data_type: Any, hashed: bool) -> str:
    """What keeps a task from its type, with the groups and what the settings say about its episodes; "" if nothing."""
    if problem := misfit(task, TaskContent):
        return problem
    if sum(task["groups"]) != len(task["episodes"]) or min(task["groups"], default=1) < 1:
        return f"groups are {task['groups']!r:.80}, there are {len(task['episodes'])} episodes"
    for ref in task["episodes"]:
        gone = "dropped" in ref["data"]
        if problem := misfit(ref["data"], DroppedData if gone else data_type):
            return f"episode {ref['id']:.80}: data{problem}"
        if len(ref.get("sha256", ())) != (len(ref["files"]) if hashed and not gone else 0) or ref.get("sha256") == []:
            return f"episode {ref['id']:.80}: sha256 must be there for each file if settings.hash_raw, else absent"
    return ""


def _paths(ref: dict[str, Any], data: dict[str, Any]) -> Iterator[str]:
    """Every path of raw data that an episode names."""
    listed = ref.get("files")
    places = [file[0] for file in listed if isinstance(file, list) and file] if isinstance(listed, list) else []
    videos = data.get("videos")
    for place in (
        *places,
        data.get("table"),
        data.get("tasks_file"),
        *(videos.values() if isinstance(videos, dict) else ()),
    ):
        path = place[0] if isinstance(place, list) and place else place
        if isinstance(path, str):
            yield path


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
    if not -1 <= num_frames < 2**31:
        raise BuildError(f"{place}: num_frames of {name:.80} must be below 2^31, found {num_frames:.3g}")
    for path in _paths(ref, data):
        if leads_out(path):
            raise BuildError(f"{place}: {path:.200} leads out of the raw data's folder; paths must lie below it")
    instruction = None if data.get("instruction") is None else member(data, "instruction", str, place)
    kept: dict[str, Any] = {"id": name, "split": split, "data": data, "files": [], "num_frames": None}
    dropped = ref == kept and set(data) == {"dropped"} and isinstance(data["dropped"], str)
    digest = data["dropped"] if dropped else hashlib.sha256(canonical(ref).encode()).hexdigest()
    return num_frames, dropped, name, split, instruction, digest
