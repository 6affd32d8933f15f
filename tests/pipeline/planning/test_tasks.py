"""tasks.jsonl by lines: the bytes, what is read back, and what a task that was read costs."""

from __future__ import annotations

import contextlib
import gc
import hashlib
import json
import pickle
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.planning.tasks import ShardTask, StoredGroups, no_cycles, read_task, task_lines
from pipeline.sources.base import EpisodeRef

CLIP = EpisodeRef(
    "ssv2-1", "train", (("clips/1.webm", 100),), None, {"instruction": "räume „alles“ weg", "placeholders": ["a", "b"]}
)
ROBOT = EpisodeRef(
    "robot-7", "train", (("data/7.parquet", 5), ("meta/x.json", 9)), 40, {"widths": {"s": 2}, "fps": 1.0}
)
HASHED = EpisodeRef("robot-8", "train", ROBOT.files, 40, ROBOT.data).hashed(("0" * 64, "1" * 64))
TASK = ShardTask("train", 3, ((CLIP, ROBOT), (HASHED,)))

GOLDEN = "9a0d8a94b43442aa634c77da3bda4a229766c63f4adc432b1780777a1cb1513a"
"""SHA-256 of TASK's line. Changes when the format does: then every plan's fingerprint does, and schema_version must."""


def test_the_bytes_of_a_line() -> None:
    (line,) = task_lines([TASK])
    assert hashlib.sha256(line).hexdigest() == GOLDEN
    assert line.count(b"\n") == 1
    hashed = {"id": "robot-8", "split": "train", "files": ROBOT.files, "num_frames": 40, "data": ROBOT.data}
    episodes = [CLIP.content(), ROBOT.content(), hashed | {"sha256": ["0" * 64, "1" * 64]}]
    content = {"split": "train", "index": 3, "groups": [2, 1], "episodes": episodes}
    assert json.loads(line) == json.loads(json.dumps(content))
    assert b"".join(task_lines([TASK, TASK])) == line + line


def test_a_task_is_read_back_as_it_was() -> None:
    (line,) = task_lines([TASK])
    task = read_task(line)
    assert isinstance(task.groups, StoredGroups)
    assert task == TASK
    assert TASK.groups == task.groups  # a tuple on the left
    assert task == read_task(line)
    assert task.episodes == TASK.episodes
    assert (len(task.groups), task.groups[1], task.groups[:1]) == (2, (HASHED,), ((CLIP, ROBOT),))
    assert task.num_episodes == TASK.num_episodes == 3
    assert task.name == "train-000003"
    assert read_task(line) != replace(TASK, groups=TASK.groups[:1])
    assert read_task(line) != read_task(next(iter(task_lines([replace(TASK, groups=TASK.groups[:1])]))))


def test_a_stored_task_travels_and_is_numbered_anew() -> None:
    (line,) = task_lines([TASK])
    sent = pickle.loads(pickle.dumps(read_task(line)))
    assert sent == TASK
    assert list(task_lines([sent])) == [line]
    assert list(task_lines([replace(sent, index=4)])) == list(task_lines([replace(TASK, index=4)])) != [line]


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
_REFS = st.builds(
    EpisodeRef,
    st.text(min_size=1, max_size=8),
    st.sampled_from(["train", "val"]),
    st.lists(st.tuples(st.text(max_size=8), st.integers(0, 2**40)), max_size=3).map(tuple),
    st.none() | st.integers(1, 10**6),
    st.dictionaries(st.text(max_size=5), _VALUES, max_size=4),
)


@given(st.lists(st.lists(_REFS, min_size=1, max_size=3).map(tuple), max_size=3).map(tuple))
def test_any_task_gives_the_same_line_again(chunks: tuple[tuple[EpisodeRef, ...], ...]) -> None:
    (line,) = task_lines([ShardTask("val", 0, chunks)])
    assert list(task_lines([read_task(line)])) == [line]


@pytest.mark.parametrize(
    "change", [{"groups": [1]}, {"groups": [2, 2]}, {"groups": None}, {"episodes": 3}, {"split": None}, {"split": 1}]
)
def test_what_is_no_task_is_refused(change: dict[str, Any]) -> None:
    (line,) = task_lines([TASK])
    with pytest.raises((ValueError, KeyError, TypeError)):
        read_task(json.dumps({**json.loads(line), **change}).encode())
    with pytest.raises(ValueError, match="Expecting"):
        read_task(b"{")


def test_the_search_for_cycles_goes_on_afterwards() -> None:
    searching = []
    with contextlib.suppress(KeyError), no_cycles():
        searching.append(gc.isenabled())
        raise KeyError
    assert [*searching, gc.isenabled()] == [False, True]
    gc.disable()
    try:
        with no_cycles():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()
