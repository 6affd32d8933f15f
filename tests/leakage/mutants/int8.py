"""Leaky targets shards of builds with int8 latents: what a scale for each token makes room for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from tests.leakage.mutants.mutant import Mutant
from tests.leakage.tools import edit_json, edit_targets
from tests.pipeline.audit.tiny_build import INT8


def data_in_scales_of_masked_tokens(build: Path) -> None:
    """Row 6 (now=6) has its second step masked; its values are zero, so a scale changes no latent."""
    edit_targets(build, lambda c: c["latents_scale"].__setitem__((6, 1, 0, 0), 0.5))


def values_of_masked_tokens(build: Path) -> None:
    edit_targets(build, lambda c: c["latents"].__setitem__((6, 1, 0, 0, 0), 127))


def negative_zero_scale_of_a_masked_token(build: Path) -> None:
    edit_targets(build, lambda c: c["latents_scale"].__setitem__((6, 1, 0, 0), -0.0))


def scale_of_another_token(build: Path) -> None:
    """A token stored under twice its scale: the same latent but for rounding, and one hidden bit."""

    def edit(columns: dict[str, Any]) -> None:
        columns["context"][2, 0, 0] = np.round(columns["context"][2, 0, 0] / 2)
        columns["context_scale"][2, 0, 0] *= 2

    edit_targets(build, edit)


def scale_without_values(build: Path) -> None:
    """A token of zeros with a scale: dequantised it is as it should be."""
    edit_targets(build, lambda c: c["context"].__setitem__((2, 0, 0), 0))


def lowest_value(build: Path) -> None:
    """-128 in the place of -127."""

    def edit(columns: dict[str, Any]) -> None:
        token = columns["latents"][3, 0, 0, 0]
        token[np.abs(token.astype(int)).argmax()] = -128

    edit_targets(build, edit)


def negative_scale(build: Path) -> None:
    def edit(columns: dict[str, Any]) -> None:
        columns["latents"][3, 0, 0, 0] *= -1
        columns["latents_scale"][3, 0, 0, 0] *= -1

    edit_targets(build, edit)


def infinite_scale(build: Path) -> None:
    edit_targets(build, lambda c: c["context_scale"].__setitem__((3, 0, 0), np.inf))


def scale_changed_in_its_last_bits(build: Path) -> None:
    """Digests that leave out the scales would fit."""

    def edit(columns: dict[str, Any]) -> None:
        columns["latents_scale"].view(np.uint32)[3, 0, 0, 0] ^= 1

    edit_targets(build, edit, repair=False)
    edit_json(build, "build.json", lambda d: None)


def float_latents_stamped_int8(build: Path) -> None:
    def edit(columns: dict[str, Any]) -> None:
        for name in ("context", "latents"):
            columns[name] = columns[name].astype(np.float16)

    edit_targets(build, edit)


def impossible_error(build: Path) -> None:
    _claim(build, [0.004, 0.004, 7.0])


def error_of_a_step_missing(build: Path) -> None:
    _claim(build, [0.004, 0.004])


def _claim(build: Path, errors: list[float]) -> None:
    assert json.loads((build / "build.json").read_bytes())["latents"]["dtype"] == "int8"
    edit_json(build, "build.json", lambda d: d["latents"].update(relative_error=errors))


def error_that_the_shards_do_not_give(build: Path) -> None:
    _claim(build, [0.004, 0.004, 0.003])


def sums_of_a_shard_missing(build: Path) -> None:
    edit_json(build, "build.json", lambda d: d["shards"][1].pop("latents_error"))


def stamped_float16(build: Path) -> None:
    edit_json(build, "build.json", lambda d: d.update(latents={"dtype": "float16", "relative_error": None}))


MUTANTS = tuple(
    Mutant(apply, rule, level, message, INT8)
    for apply, rule, level, message in (
        (data_in_scales_of_masked_tokens, "L8", "shards", "a masked step's scales are not zero"),
        (values_of_masked_tokens, "L8", "shards", "a masked step's latents are not zero"),
        (negative_zero_scale_of_a_masked_token, "L8", "shards", "a masked step's scales are not zero"),
        (scale_of_another_token, "L10", "shards", "a scale of the context is not that of its token"),
        (scale_without_values, "L10", "shards", "a scale of the context is not that of its token"),
        (lowest_value, "L10", "shards", "the latents hold -128"),
        (negative_scale, "L7", "shards", "a scale of the latents is negative"),
        (infinite_scale, "L7", "shards", "a scale of the context is negative, NaN or infinite"),
        (scale_changed_in_its_last_bits, "L7", "shards", "targets_sha256"),
        (float_latents_stamped_int8, "L7", "shards", "column context must be"),
        (impossible_error, "L7", "manifest", "latents.relative_error must be 3 numbers"),
        (error_of_a_step_missing, "L7", "manifest", "latents.relative_error must be 3 numbers"),
        (error_that_the_shards_do_not_give, "L7", "manifest", "the shards' latents_error give"),
        (sums_of_a_shard_missing, "L7", "manifest", "latents_error of a shard must be 3 pairs"),
        (stamped_float16, "L7", "manifest", "latents must hold dtype 'int8'"),
    )
)
