"""What the builds of a run have in common: sizes of samples, and statistics of actions and state."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from jobs.common.policy.chosen_cameras import chosen_cameras
from jobs.datasets.contract.build_ranges import build_ranges
from model.normalize import BuildStats, merge_stats
from model.settings import ModelSettings
from pipeline.errors import SettingsError
from pipeline.format.build import Build
from pipeline.format.schema import Sizes
from pipeline.format.text.differences import first_difference


def common_sizes(builds: Sequence[Build], model: ModelSettings) -> tuple[Sizes, BuildStats | None]:
    """Sizes and ranges of the model: those of the robot builds together, or sizes alone if none has actions.

    Raises:
        SettingsError: builds differ in encoder, steps or latent sizes, two robot builds differ in state or action, or
            one lacks a camera that the model is to see.
    """
    first = builds[0]
    names = [build.name for build in builds]
    if len(set(names)) < len(names):
        raise SettingsError(f"two builds have the same name ({', '.join(names)}); give source.name when building")
    for other in builds[1:]:
        for key in ("steps", "tokens", "width", "image_size"):
            _require_equal(f"sizes.{key}", first, other, getattr(first.sizes, key), getattr(other.sizes, key))
        difference = first_difference(_encoder(first), _encoder(other))
        if difference:
            raise SettingsError(f"{first.path} and {other.path} have targets of different encoders: {difference}")
    robots = [build for build in builds if build.has_actions]
    if not robots:
        return replace(first.sizes, state=0, chunk=0, action=0), None
    for other in robots[1:]:
        for key in ("state", "chunk", "action"):
            _require_equal(f"sizes.{key}", robots[0], other, getattr(robots[0].sizes, key), getattr(other.sizes, key))
    views = max(len(chosen_cameras(build, model).images) for build in builds)
    return replace(robots[0].sizes, views=views), merge_stats([build_ranges(robot, model.scaling) for robot in robots])


def _encoder(build: Build) -> dict[str, Any]:
    """What two builds' encoders must have in common: all but how the work was cut up, and the kernels of a device."""
    encoder: dict[str, Any] = build.manifest["settings"]["encoder"]
    apart = ("batch", "cpu_threads", "device", "compile", "forward")
    return {key: value for key, value in encoder.items() if key not in apart}


def _require_equal(name: str, first: Build, other: Build, a: int, b: int) -> None:
    if a != b:
        raise SettingsError(f"{name} is {a} in {first.path} and {b} in {other.path}; build them with the same settings")
