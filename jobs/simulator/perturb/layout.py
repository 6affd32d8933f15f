"""Things moved on the table, without overlaps. Distances are ours, see `axes.SHIFT`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .axes import SHIFT

MARGIN = 0.01
"""Metres between the boxes about two things, unless they were nearer from the start."""

WIDER = 0.05
"""Metres that things may go beyond the rectangle about all starts, which keeps them on the table and in reach."""

ATTEMPTS = 200

RELATION = re.compile(r"\b(?:between|next to|left|right|center|centre|front|back|near|from)\b")
"""If the instruction names an object by its place among others, all move alike, so that it stays true."""


def move_things(env: Any, instruction: str, level: int, rng: np.random.Generator) -> None:
    """Move the objects on the table or the floor, each with the objects on it.

    Fixtures and objects in or on a fixture stay. So does an object without a free place.

    Args:
        env: robosuite's environment, in its start state.
        level: largest distance in units of `SHIFT`.
    """
    groups = movable(env.parsed_problem["initial_state"], list(env.objects_dict), list(env.fixtures_dict))
    members = {name for group in groups for name in group}
    still = [name for name in [*env.objects_dict, *env.fixtures_dict] if name not in members]
    boxes = [_box(env, group) for group in groups]
    if not boxes:
        return
    shifts = arranged(
        np.array(boxes),
        np.array([_box(env, [name]) for name in still]).reshape(-1, 4),
        SHIFT * level,
        RELATION.search(instruction) is not None,
        rng,
    )
    for group, shift in zip(groups, shifts, strict=True):
        for name in group:
            for joint in env.objects_dict[name].joints:
                first, _ = env.sim.model.get_joint_qpos_addr(joint)
                env.sim.data.qpos[first : first + 2] += shift
    env.sim.forward()


def movable(state: Sequence[Sequence[str]], things: Sequence[str], fixtures: Sequence[str]) -> list[list[str]]:
    """Things that are free to move, each with those that are on or in it.

    Args:
        state: predicates such as ["on", "bowl_1", "main_table_bowl_region"], the start of the task's file.
    """
    names = sorted([*things, *fixtures], key=len, reverse=True)
    under: dict[str, str | None] = {}
    for predicate in state:
        if len(predicate) == 3 and predicate[1] in things:
            under[predicate[1]] = next((name for name in names if predicate[2].startswith(name)), None)
    groups: dict[str, list[str]] = {}
    for thing in things:
        root = thing
        while under.get(root) is not None and root not in fixtures:
            root = str(under[root])
        if root not in fixtures and root in under:
            groups.setdefault(root, []).append(thing)
    return list(groups.values())


def arranged(
    boxes: np.ndarray, still: np.ndarray, reach: float, together: bool, rng: np.random.Generator
) -> np.ndarray:
    """How far each box moves: float64 [G, 2], from half of `reach` to all of it, or nothing where there is no place;
    boxes float64 [G, 4] and still [S, 4]: x and y from, x and y to, metres; together: all move alike."""
    everything = np.concatenate([boxes, still])
    room = np.concatenate([everything[:, :2].min(0) - WIDER, everything[:, 2:].max(0) + WIDER])
    start, shifts = boxes.copy(), np.zeros((len(boxes), 2))
    for group in [list(range(len(boxes)))] if together else [[i] for i in rng.permutation(len(boxes))]:
        others = [i for i in range(len(boxes)) if i not in group]
        before = np.concatenate([start[others], still])
        now = np.concatenate([(start + np.tile(shifts, 2))[others], still])
        for _ in range(ATTEMPTS):
            way = rng.uniform(0, 2 * np.pi)
            shift = reach * rng.uniform(0.5, 1) * np.array([np.cos(way), np.sin(way)])
            moved = start[group] + np.tile(shift, 2)
            inside = (moved[:, :2] >= room[:2]).all() and (moved[:, 2:] <= room[2:]).all()
            if inside and _free(moved, now, start[group], before):
                shifts[group] = shift
                break
    return shifts


def _free(moved: np.ndarray, now: np.ndarray, start: np.ndarray, before: np.ndarray) -> bool:
    """Whether every moved box has its margin to the others, or as much as it had at the start."""
    kept = [_gap(m, now) >= np.minimum(MARGIN, _gap(s, before)) for m, s in zip(moved, start, strict=True)]
    return bool(np.all(kept))


def _gap(box: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Between a box [4] and others [N, 4]: metres [N], negative where they overlap."""
    return np.maximum(box[:2] - others[:, 2:], others[:, :2] - box[2:]).max(1, initial=-np.inf)


def _box(env: Any, names: Sequence[str]) -> np.ndarray:
    """Around all geometry of some things, seen from above: x and y from, x and y to."""
    model, data = env.sim.model, env.sim.data
    roots = {int(env.obj_body_id[name]) for name in names}
    corners = []
    for geom in range(model.ngeom):
        if not _below(model.body_parentid, int(model.geom_bodyid[geom]), roots):
            continue
        turn, box = np.asarray(data.geom_xmat[geom]).reshape(3, 3), np.asarray(model.geom_aabb[geom])
        middle = np.asarray(data.geom_xpos[geom]) + turn @ box[:3]
        half = np.abs(turn) @ box[3:]
        corners.append([*(middle - half)[:2], *(middle + half)[:2]])
    found = np.array(corners)
    return np.concatenate([found[:, :2].min(0), found[:, 2:].max(0)])


def _below(parents: Mapping[int, int] | np.ndarray, body: int, roots: set[int]) -> bool:
    while body > 0 and body not in roots:
        body = int(parents[body])
    return body in roots
