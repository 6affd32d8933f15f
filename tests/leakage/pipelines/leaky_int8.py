"""Pipelines that leak, or that say too little, where latents are stored as int8."""

from __future__ import annotations

from typing import Any

import numpy as np

from pipeline.building import rebuild
from pipeline.building import shard_jobs as tasks
from pipeline.shards import int8 as quantise
from tests.leakage.pipelines.pipeline import LeakyPipeline
from tests.leakage.world import World


def coarse_values(world: World) -> None:
    """The largest value of each token is honest, the others are rounded to sixteenths; the error claimed is honest."""
    honest = tasks.quantise_windows

    def coarse(latents: Any) -> Any:
        values, scale, sums = honest(latents)
        rounded = (np.round(values / 16) * 16).clip(-112, 112).astype(np.int8)
        return np.where(np.abs(values.astype(int)) == 127, values, rounded), scale, sums

    world.patch.setattr(tasks, "quantise_windows", coarse)


def claims_a_tenth_of_its_error(world: World) -> None:
    honest = tasks.add_errors
    world.patch.setattr(
        tasks, "add_errors", lambda parts: tuple((float(f"{e / 100:.9g}"), s) for e, s in honest(parts))
    )


def scale_shared_by_all_steps(world: World) -> None:
    """One scale for all steps of a place: the context's values then reveal the size of the future's. On disk the audit
    would see that a scale is not its token's; here code does it that a build was not made with."""
    honest = quantise.quantise

    def shared(latents: Any) -> Any:
        most = np.broadcast_to(np.abs(latents).max(axis=(0, -1)), latents.shape[:-1])[..., None]
        values, scale = honest(np.concatenate([latents, most], axis=-1))
        return values[..., :-1], scale

    def windows(latents: Any) -> Any:
        made = [shared(window) for window in latents]
        return np.stack([values for values, _ in made]), np.stack([scale for _, scale in made]), ()

    world.patch.setattr(rebuild, "quantise_windows", windows)


PIPELINES = (
    LeakyPipeline(coarse_values, "int8", "L2", "source", "the context is not what the encoder makes"),
    LeakyPipeline(claims_a_tenth_of_its_error, "int8", "L7", "source", "latents.relative_error claims"),
)

CODE = (LeakyPipeline(scale_shared_by_all_steps, "int8", "L2", "perturb", "the context changes when all frames after"),)
