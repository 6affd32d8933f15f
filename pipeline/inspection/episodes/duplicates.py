"""Episodes that are in the set twice: the same numbers to the bit, or pictures that are the same.

K pictures of C x C cells an episode. (The audit searches whole films, changed copies too, at level source.)
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.inspection.flag import Flag

ALIKE = 1.5
"""Largest mean difference of a pair of pictures, grey levels."""

LENGTH = 0.02
"""Relative difference in length of two copies."""

MOVES = 4.0
"""Grey levels by which the pictures of an episode must differ among each other to tell it from another still one."""

NEIGHBOURS = 64
"""Episodes of nearly the same brightness that each is compared with."""


@dataclass(frozen=True)
class Signature:
    """numbers: SHA-256 of state and actions, "" without; keys: uint8 [K, C, C] of the first view."""

    episode: str
    frames: int
    numbers: str
    keys: NDArray[np.uint8]


def numbers_of(*parts: NDArray[np.float64] | None) -> str:
    """SHA-256 of some arrays; "" where there are none, or nothing in them changes."""
    given = [part for part in parts if part is not None and part.size and np.ptp(part, axis=0).any()]
    if not given:
        return ""
    digest = hashlib.sha256()
    for part in given:
        digest.update(f"{part.shape}".encode() + part.astype(np.float64).tobytes())
    return digest.hexdigest()


def duplicates(found: list[Signature]) -> Iterator[Flag]:
    """The later of each pair, in the order given."""
    first: dict[str, str] = {}
    named: set[str] = set()
    for own in found:
        if own.numbers and first.setdefault(own.numbers, own.episode) != own.episode:
            named.add(own.episode)
            detail = f"state and actions are those of {first[own.numbers]}, to the bit"
            yield Flag("duplicate", detail, 2.0, episode=own.episode, leave_out=True)
    yield from (flag for flag in _pictures(found) if flag.episode not in named)


def _pictures(found: list[Signature]) -> Iterator[Flag]:
    if len(found) < 2:
        return
    keys = np.stack([own.keys for own in found]).reshape(len(found), -1)  # bytes: 2 kB an episode
    frames = np.array([own.frames for own in found])
    lively = np.array([np.abs(own.keys.astype(np.float32) - own.keys[:1]).mean(axis=(1, 2)).max() for own in found])
    level = keys.mean(axis=1, dtype=np.float32)
    order = np.argsort(level, kind="stable")
    seen: dict[int, tuple[int, float]] = {}
    for place, at in enumerate(order.tolist()):
        near = order[place + 1 : place + 1 + NEIGHBOURS]
        near = near[level[near] - level[at] <= ALIKE]
        near = near[np.abs(frames[near] / frames[at] - 1) <= LENGTH] if len(near) else near
        if not len(near) or lively[at] < MOVES:
            continue
        differences = np.abs(keys[near].astype(np.float32) - keys[at]).reshape(len(near), len(found[at].keys), -1)
        apart = differences.mean(axis=2).max(axis=1)
        for other, value in zip(near[apart <= ALIKE].tolist(), apart[apart <= ALIKE].tolist(), strict=True):
            later, before = max(at, other), min(at, other)
            if later not in seen or before < seen[later][0]:
                seen[later] = before, value
    for later, (before, value) in sorted(seen.items()):
        detail = f"pictures are those of {found[before].episode}: {value:.2f} grey levels apart (bound: {ALIKE})"
        yield Flag("duplicate", detail, ALIKE / max(value, 0.1), episode=found[later].episode, leave_out=True)
