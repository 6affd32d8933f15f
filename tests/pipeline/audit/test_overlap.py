"""Which episodes two builds have in common, by their raw files."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pipeline.audit.overlap import overlaps, read_marks
from pipeline.errors import BuildError

Files = dict[str, str]
"""Path -> SHA-256, "" where the plan has none."""

FRONT, WRIST = "videos/front/7.mp4", "videos/wrist/7.mp4"


def _tasks(*episodes: tuple[str, str, Files, dict[str, Any]]) -> bytes:
    """Id, split, files and data of each."""
    refs = []
    for name, split, files, data in episodes:
        ref = {"id": name, "split": split, "files": [[path, 100] for path in files], "data": data}
        refs.append(ref | ({"sha256": list(files.values())} if all(files.values()) else {}))
    return json.dumps({"episodes": refs}).encode()


def _overlaps(train: bytes, held_out: bytes) -> list[tuple[str, str]]:
    found = overlaps([read_marks("a", train), read_marks("b", held_out)])
    return [(one.episode, one.other) for one in found]


@pytest.mark.parametrize(
    ("files", "held_out"),
    [
        ({FRONT: ""}, {FRONT: ""}),
        ({FRONT: "", WRIST: ""}, {FRONT: ""}),  # a build of one camera beside one of both
        ({FRONT: "", "data/7.parquet": ""}, {"data/7.parquet": "", WRIST: ""}),  # other cameras, one table
        ({FRONT: "f", WRIST: "w"}, {"left.mp4": "w", "right.mp4": "f"}),  # renamed and exchanged
        ({FRONT: "f", WRIST: "w"}, {"left.mp4": "w"}),
        ({FRONT: "f"}, {FRONT: ""}),  # only one plan has hashes
    ],
)
def test_one_file_in_common_is_enough(files: Files, held_out: Files) -> None:
    train, other = _tasks(("x", "train", files, {})), _tasks(("y", "val", held_out, {}))
    assert _overlaps(train, other) == [("x", "y")]


@pytest.mark.parametrize(
    ("train", "held_out"),
    [
        (_tasks(("x", "train", {FRONT: "f"}, {})), _tasks(("y", "val", {FRONT: "g"}, {}))),  # of another dataset
        (_tasks(("x", "train", {FRONT: ""}, {"demo": 1})), _tasks(("y", "val", {FRONT: ""}, {"demo": 2}))),
        (_tasks(("x", "val", {FRONT: ""}, {})), _tasks(("y", "val", {FRONT: ""}, {}))),
        # a covered camera: the same film in every episode
        (
            _tasks(("x", "train", {FRONT: "f", WRIST: "0"}, {}), ("z", "train", {"front/8.mp4": "h", WRIST: "0"}, {})),
            _tasks(("y", "val", {FRONT: "g", WRIST: "0"}, {})),
        ),
    ],
)
def test_what_two_builds_may_have_in_common(train: bytes, held_out: bytes) -> None:
    assert _overlaps(train, held_out) == []


TASKS = "meta/tasks.jsonl"


def _lerobot(number: int, film: str, **more: Any) -> tuple[str, str, Files, dict[str, Any]]:
    """A LeRobot episode in files of its own, or as `more` says, of a dataset with one list of tasks."""
    path = f"videos/front/{number}.mp4"
    files = {f"data/{number}.parquet": f"table {number} of {film}", path: film, TASKS: "one task"}
    data = {"episode_index": number, "tasks_file": TASKS, "version": "v2.1", "videos": {"front": [path]}}
    return f"{number}", "train", files, data | more


def test_a_copy_under_other_numbers_is_known_by_its_films() -> None:
    train = _tasks(*(_lerobot(number, f"film {number + 1}") for number in range(9)))  # without the first episode
    held_out = _tasks(*((str(n), "val" if n > 7 else "train", *_lerobot(n, f"film {n}")[2:]) for n in range(10)))
    assert _overlaps(train, held_out) == [("7", "8"), ("8", "9")]


@pytest.mark.parametrize("hashed", [True, False])
def test_a_list_of_tasks_that_is_the_same_says_nothing(hashed: bool) -> None:
    def dataset(split: str, name: str) -> bytes:
        found = []
        for number in range(4):
            _, _, files, data = _lerobot(number, f"{name} {number}")
            kept = {
                path if path == TASKS else f"{name}/{path}": digest if hashed else "" for path, digest in files.items()
            }
            found.append((f"{name}-{number}", split, kept, data))
        return _tasks(*found)

    assert _overlaps(dataset("train", "a"), dataset("val", "b")) == []


@pytest.mark.parametrize(("seconds", "same"), [([4.0, 6.0], True), ([6.0, 8.0], False)])
def test_an_episode_of_a_shared_film_is_known_by_its_time_there(seconds: list[float], same: bool) -> None:
    def episode(number: int, start: float, end: float, rows: list[int], split: str) -> bytes:
        data = {"episode_index": number, "version": "v3.0", "tasks_file": TASKS, "rows": rows}
        data |= {"videos": {"front": ["front.mp4", start, end, 0, 99]}}
        return _tasks((split, split, {"table.parquet": f"rewritten {split}", "front.mp4": "f", TASKS: "t"}, data))

    found = _overlaps(episode(2, 4.0, 6.0, [20, 30], "train"), episode(0, *seconds, [0, 10], "val"))
    assert found == ([("train", "val")] if same else [])


@pytest.mark.parametrize("videos", [3, {"front": 1}, {"front": []}, {"front": [[1]]}])
def test_odd_places_of_films_are_no_error(videos: Any) -> None:
    read_marks("build", _tasks(("x", "train", {FRONT: "f"}, {"videos": videos, "tasks_file": [1]})))


def test_a_malformed_list_is_refused() -> None:
    line = json.dumps({"episodes": [{"id": "x", "split": "train", "files": [], "data": {}, "sha256": "f"}]})
    with pytest.raises(BuildError, match=r"build: tasks\.jsonl:1: sha256 must be a list of texts"):
        read_marks("build", line.encode())
