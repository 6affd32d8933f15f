"""Latents stored as int8 with a scale for each token: no hidden data in the scales, and the claimed error.

The scale of a token is max|z| / 127 over its D channels, so its largest int8 value is 127 or -127; a token of zeros has
scale 0. Any other scale could carry hidden data (rule L10), as could -128, which is never used.

V views, K steps, N tokens, D width.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.audit.build import ClaimedBuild
from pipeline.audit.files import BUILD
from pipeline.audit.finding import Report, RowChecks

LEVELS = 127

ERROR_TOLERANCE = 0.25
"""A claimed relative error may differ by this share of itself from what the audit finds on its random share."""


def check(build: ClaimedBuild, report: Report) -> None:
    """`latents` of build.json: the type that the settings name, and errors that the format can have and that follow
    from the sums of the shards."""
    report.check("L7")
    claim, dtype = build.latents, build.latent_dtype
    if not isinstance(claim, dict) or set(claim) != {"dtype", "relative_error"} or claim["dtype"] != dtype:
        report.found("L7", BUILD, f"latents must hold dtype '{dtype}', as the settings do, and relative_error")
        return
    errors = claim["relative_error"]
    if dtype == "float16":
        if errors is not None or any(shard.latents_error is not None for shard in build.shards):
            rule = "latents.relative_error must be null, no shard may have a latents_error"
            report.found("L7", BUILD, f"float16 latents have no error: {rule}")
    elif _possible(errors, build):
        _check_sums(build, errors, report)
    else:
        numbers = f"{build.sizes.steps + 1} numbers from 0 to {_largest_error(build.sizes.width):.3g}"
        limit = f"{numbers}, which no rounding to a scale exceeds"
        report.found("L7", BUILD, f"latents.relative_error must be {limit}; found {errors!r:.80}")


def _check_sums(build: ClaimedBuild, errors: list[float], report: Report) -> None:
    """The relative errors must be what the shards' sums give, to the digit: totals have 9 digits, their roots 6."""
    shape = (len(build.shards), build.sizes.steps + 1, 2)
    try:
        sums = np.array([shard.latents_error for shard in build.shards], np.float64)
    except (TypeError, ValueError, OverflowError):
        sums = np.empty(0)
    if sums.shape != shape or not (np.isfinite(sums) & (sums >= 0)).all():
        report.found("L7", BUILD, f"latents_error of a shard must be {shape[1]} pairs of numbers from 0 on")
        return
    totals = [[float(f"{math.fsum(part):.9g}") for part in step.T.tolist()] for step in sums.transpose(1, 0, 2)]
    wanted = [float(f"{math.sqrt(error / square):.6g}") if square else 0.0 for error, square in totals]
    if errors != wanted:
        report.found("L7", BUILD, f"latents.relative_error is {errors}, the shards' latents_error give {wanted}")


def quantise(latents: NDArray[np.float16]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """What latents float16 [..., D] are stored as: int8 [..., D] and scales float32 [...]; see docs/formats.md."""
    values = latents.astype(np.float32)
    scale = np.abs(values).max(axis=-1) / np.float32(LEVELS)
    return np.rint(values / np.where(scale > 0, scale, np.float32(1))[..., None]).astype(np.int8), scale


def check_tokens(name: str, values: NDArray[Any], scale: NDArray[np.float32], checks: RowChecks) -> None:
    """int8 [B, ..., D] and its scales float32 [B, ...]: nothing in them but what quantising gives."""
    lowest, highest = values.min(axis=-1).astype(np.int16), values.max(axis=-1).astype(np.int16)
    largest = np.maximum(highest, -lowest)
    with np.errstate(invalid="ignore", over="ignore"):
        latent = (scale * np.float32(LEVELS)).astype(np.float16)  # the token's largest; every scale is made of one
        odd = scale != latent.astype(np.float32) / np.float32(LEVELS)
    no_scale, unused = ~np.isfinite(scale) | np.signbit(scale), lowest < -LEVELS
    other = (largest != np.where(scale > 0, LEVELS, 0)) & ~unused
    limit = f"the token's largest value must be {LEVELS}, or 0 with scale 0"
    for rule, bad, problem in (
        ("L7", no_scale, f"a scale of the {name} is negative, NaN or infinite"),
        ("L10", unused, f"the {name} hold -128, which no latent is stored as"),
        ("L10", other, f"a scale of the {name} is not that of its token: {limit}"),
        ("L10", odd & ~no_scale, f"a scale of the {name} is not the 127th part of a float16"),
    ):
        checks.rows(rule, bad, problem)


class ErrorClaim:
    """The relative error that build.json claims for each step, against quantising the audit's own latents."""

    def __init__(self, build: ClaimedBuild) -> None:
        self._build = build
        self.sums = np.zeros((build.sizes.steps + 1, 2))
        self.applies = build.latent_dtype == "int8"

    def add(self, step: int, latents: NDArray[np.float16]) -> None:
        """Add latents that the audit has encoded itself, float16 [N, D], and the error of quantising them."""
        if self.applies:
            values = latents.astype(np.float64)
            scale = np.abs(values).max(axis=1, keepdims=True) / LEVELS
            gap = values - scale * np.round(values / np.where(scale > 0, scale, 1.0))
            self.sums[step] += np.square(gap).sum(), np.square(values).sum()

    def merge(self, sums: NDArray[np.float64]) -> None:
        """Add the sums of other latents: those of the errors, and of the squares, of each step, float64 [K+1, 2]."""
        self.sums += sums

    def check(self, report: Report) -> None:
        """Compare each step of which the share held a latent. A claim of another shape is reported by `check`."""
        claim = self._build.latents
        errors: Any = claim.get("relative_error") if isinstance(claim, dict) else None
        if not self.applies or not _possible(errors, self._build):
            return
        for step, (error, square) in enumerate(self.sums):
            if square == 0:
                continue
            report.check("L7")
            found = math.sqrt(error / square)
            if abs(found - errors[step]) > ERROR_TOLERANCE * max(found, errors[step]):
                claimed = f"latents.relative_error claims {errors[step]:.3g} for step {step}"
                measured = f"quantising the latents of the random share gives {found:.3g}"
                allowed = f"{ERROR_TOLERANCE:.0%} of difference are allowed"
                report.found("L7", BUILD, f"{claimed}; {measured}, {allowed}")


def _possible(errors: Any, build: ClaimedBuild) -> bool:
    if not isinstance(errors, list) or len(errors) != build.sizes.steps + 1:
        return False
    most = _largest_error(build.sizes.width)
    return all(isinstance(e, int | float) and not isinstance(e, bool) and 0 <= e <= most for e in errors)


def _largest_error(width: int) -> float:
    """Every channel of a token off by half a scale, max|z| / 254, while the token holds at least max|z|^2; and the
    rounding to float16, 2^-11."""
    return math.sqrt(width) / (2 * LEVELS) + 2**-11
