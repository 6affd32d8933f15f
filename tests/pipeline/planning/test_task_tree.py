"""The tree of hashes over a task list: what changes it, and what leaves it as it is."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest

from pipeline.planning.task_tree import DROPPED, TaskHashes, episode_sha256, is_dropped
from pipeline.planning.tasks import read_task
from tests.pipeline.audit.tiny_build import compact, tree_of


def episode(name: str, **changes: Any) -> dict[str, Any]:
    content = {"id": name, "split": "train", "files": [[f"{name}.mp4", 9]], "num_frames": 5, "data": {"note": "dé"}}
    return content | changes


def tasks() -> list[dict[str, Any]]:
    return [
        {"split": "train", "index": 0, "groups": [1, 1], "episodes": [episode("a"), episode("b")]},
        {"split": "train", "index": 1, "groups": [1], "episodes": [episode("c", sha256=["00"])]},
    ]


def hashes(content: list[dict[str, Any]]) -> TaskHashes:
    return TaskHashes.of(read_task(compact(task) + b"\n") for task in content)


def tasks_tree(content: list[dict[str, Any]]) -> str:
    return hashes(content).tree


def erased(content: dict[str, Any]) -> dict[str, Any]:
    return content | {"files": [], "num_frames": None, "data": {DROPPED: episode_sha256(content)}}


def test_a_second_reading_of_the_format_gives_the_same_tree() -> None:
    lines = b"".join(compact(task) + b"\n" for task in tasks())
    assert hashes(tasks()) == TaskHashes(tree_of(lines), hashlib.sha256(lines).hexdigest())
    assert tasks_tree(tasks()) == tasks_tree(json.loads(json.dumps(tasks())))


def test_an_erased_episode_leaves_the_tree_as_it_was() -> None:
    found = tasks()
    found[0]["episodes"][1] = erased(found[0]["episodes"][1])
    assert is_dropped(found[0]["episodes"][1])
    assert tasks_tree(found) == tasks_tree(tasks())


@pytest.mark.parametrize(
    "change", [{"files": [["b.mp4", 8]]}, {"num_frames": 6}, {"data": {"note": "de"}}, {"split": "val"}, {"id": "d"}]
)
def test_any_change_of_an_episode_changes_the_tree(change: dict[str, Any]) -> None:
    found = tasks()
    found[0]["episodes"][1] |= change
    assert tasks_tree(found) != tasks_tree(tasks())


def test_order_and_packing_are_part_of_the_tree() -> None:
    swapped, repacked = tasks(), tasks()
    swapped[0]["episodes"].reverse()
    repacked[0]["groups"] = [2]
    assert len({tasks_tree(tasks()), tasks_tree(swapped), tasks_tree(repacked)}) == 3


def test_an_episode_with_files_is_not_dropped_whatever_its_data_say() -> None:
    assert not is_dropped(episode("a", data={DROPPED: "00"}))
    assert not is_dropped(episode("a", files=[], num_frames=None))
