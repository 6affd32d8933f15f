"""Which episodes two builds have in common, by their raw files."""

from __future__ import annotations

import json

import pytest

from pipeline.audit.overlap import overlaps, read_marks
from pipeline.errors import BuildError

Files = dict[str, str]
"""Path -> SHA-256, "" where the plan has none."""

FRONT, WRIST = "videos/front/7.mp4", "videos/wrist/7.mp4"


def _tasks(*episodes: tuple[str, str, Files, dict[str, int]]) -> bytes:
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


def test_a_malformed_list_is_refused() -> None:
    line = json.dumps({"episodes": [{"id": "x", "split": "train", "files": [], "data": {}, "sha256": "f"}]})
    with pytest.raises(BuildError, match=r"build: tasks\.jsonl:1: sha256 must be a list of texts"):
        read_marks("build", line.encode())
