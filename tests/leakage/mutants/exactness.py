"""Bits that mean nothing by value: signs of zeros, and last bits of scales. All hashes are repaired."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.leakage.mutants.mutant import Mutant
from tests.leakage.tools import edit_document, edit_latents, edit_targets
from tests.pipeline.audit.tiny_build import INT8, ROBOT, TUBELET, TUBELET_INT8


def _negative_zero(column: str, *at: int) -> Callable[[dict[str, Any]], None]:
    return lambda columns: columns[column].__setitem__(at, -0.0)


def negative_zero_in_the_context(build: Path) -> None:
    edit_targets(build, _negative_zero("context", 2, 0, 1, 3))


def negative_zero_in_a_step(build: Path) -> None:
    edit_targets(build, _negative_zero("latents", 2, 1, 0, 1, 0))


def negative_zero_in_an_action(build: Path) -> None:
    """The first action of row 0 spells frame 0."""
    edit_targets(build, _negative_zero("actions", 0, 0, 0))


def negative_zero_in_a_tubelet(build: Path) -> None:
    edit_latents(build, _negative_zero("latent", 3, 0, 0, 0))


def negative_zero_in_the_state(build: Path) -> None:
    edit_document(build, lambda document: document["state"].__setitem__(0, -0.0))


def _bump(values: NDArray[np.float32], at: tuple[int, ...]) -> None:
    values.view(np.uint32)[at] ^= 1


def last_bit_of_a_scale(build: Path) -> None:
    edit_targets(build, lambda columns: _bump(columns["context_scale"], (2, 0, 1)))


def last_bit_of_a_scale_of_a_step(build: Path) -> None:
    edit_targets(build, lambda columns: _bump(columns["latents_scale"], (2, 1, 0, 1)))


def last_bit_of_a_scale_of_a_tubelet(build: Path) -> None:
    edit_latents(build, lambda columns: _bump(columns["scale"], (3, 1, 0)))


def scale_of_a_float32(build: Path) -> None:
    """A token's largest value that no float16 has: 13 bits are free."""

    def edit(columns: dict[str, Any]) -> None:
        columns["context_scale"][1, 0, 0] *= np.float32(1 + 2**-14)

    edit_targets(build, edit)


MUTANTS = tuple(
    Mutant(apply, "L10", "shards", message, world)
    for apply, message, world in (
        (negative_zero_in_the_context, "context holds -0.0", ROBOT),
        (negative_zero_in_a_step, "latents holds -0.0", ROBOT),
        (negative_zero_in_an_action, "actions holds -0.0", ROBOT),
        (negative_zero_in_a_tubelet, "context holds -0.0", TUBELET),
        (negative_zero_in_the_state, "a zero has no sign", ROBOT),
        (last_bit_of_a_scale, "a scale of the context is not the 127th part of a float16", INT8),
        (last_bit_of_a_scale_of_a_step, "a scale of the latents is not the 127th part of a float16", INT8),
        (last_bit_of_a_scale_of_a_tubelet, "is not the 127th part of a float16", TUBELET_INT8),
        (scale_of_a_float32, "a scale of the context is not the 127th part of a float16", INT8),
    )
)
