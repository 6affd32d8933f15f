"""Code that leaks although this build's bytes are right: only an experiment shows it (level "perturb")."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from model.losses import merge_views
from model.student.backbone import Student
from model.vla_jepa import VLAJEPA
from model.world_model.predictor import LatentPredictor
from model.world_model.teacher_forced import TeacherForced
from pipeline.encoder import encoder_frames as clips
from pipeline.format.input_sample import InputSample
from pipeline.planning import recipe
from pipeline.samples import inputs
from pipeline.sources.episode.opened import OpenedEpisode
from pipeline.sources.episode.truncated import TruncatedEpisode
from tests.leakage.pipelines.pipeline import LeakyPipeline
from tests.leakage.world import World


def input_depends_on_a_dark_future(world: World) -> None:
    """The image is dimmed when the next frame is black. No clip here has a black frame."""
    honest = inputs.build_input

    def leaky(past: TruncatedEpisode, key: str, episode: str, source: str, views: Any, settings: Any) -> InputSample:
        sample = honest(past, key, episode, source, views, settings)
        following = past._episode.frames(views[0], [min(past.now + 1, past._episode.num_frames - 1)])[0]
        if following.max() > 0:
            return sample
        dimmed = [past.frames(view, [past.now])[0] // 2 for view in views]
        return InputSample(key, tuple(inputs.encode_jpeg(frame, settings) for frame in dimmed), sample.json)

    world.patch.setattr(recipe, "build_input", leaky)


def context_depends_on_a_dark_future(world: World) -> None:
    """All frames are dimmed when one of the clip is black."""
    honest = recipe.cut_frames

    def leaky(*arguments: Any) -> clips.FrameBlock:
        block = honest(*arguments)
        dark = (block.frames.max(axis=(0, 2, 3, 4)) == 0).any()
        return clips.FrameBlock(block.frames // 2, block.index) if dark else block

    world.patch.setattr(recipe, "cut_frames", leaky)


def blind_to_the_present(world: World) -> None:
    """Frames that were read once come from a cache by position: the experiment must not succeed."""
    held: dict[tuple[str, int], Any] = {}
    honest = recipe.build_input

    def cached(past: TruncatedEpisode, key: str, *arguments: Any) -> InputSample:
        if (key, past.now) not in held:
            held[key, past.now] = honest(past, key, *arguments)
        return held[key, past.now]

    world.patch.setattr(recipe, "build_input", cached)


def student_reads_the_targets(world: World) -> None:
    honest = VLAJEPA.forward

    def leaky(self: VLAJEPA, *batches: Any, generator: Any = None) -> Any:
        self.student.leak = batches[0][1].latents.float().mean()
        return honest(self, *batches, generator=generator)

    forward = Student.forward

    def informed(self: Any, *observations: Any) -> Any:
        outputs = forward(self, *observations)
        for output in outputs:
            output.latent_actions.add_(getattr(self, "leak", 0.0))
        return outputs

    world.patch.setattr(VLAJEPA, "forward", leaky)
    world.patch.setattr(Student, "forward", informed)


def predictor_sees_later_steps(world: World) -> None:
    forward = LatentPredictor.forward

    def leaky(self: Any, latents: Any, actions: Any) -> Any:
        return forward(self, latents, actions) + latents.mean(dim=1, keepdim=True)

    world.patch.setattr(LatentPredictor, "forward", leaky)


def targets_carry_gradient(world: World) -> None:
    def leaky(self: VLAJEPA, targets: Any) -> Any:
        context, latents = targets.context.float(), targets.latents.float()
        fed = torch.cat([context[:, None], latents[:, :-1]], dim=1)
        merged = (merge_views(fed), merge_views(latents))
        return TeacherForced(*merged, targets.latent_mask)

    world.patch.setattr(VLAJEPA, "_teacher_forced", leaky)


def frames_read_one_too_far(world: World) -> None:
    """An episode that hands out the mean of a frame and the next one, with a build made by honest code."""
    honest = OpenedEpisode.frames

    def leaky(self: OpenedEpisode, view: str, indices: Any) -> Any:
        following = [min(index + 1, self.num_frames - 1) for index in indices]
        return ((honest(self, view, indices).astype(np.uint16) + honest(self, view, following)) // 2).astype(np.uint8)

    world.patch.setattr(OpenedEpisode, "frames", leaky)


PIPELINES = (
    LeakyPipeline(input_depends_on_a_dark_future, "video", "L1", "perturb", "are black"),
    LeakyPipeline(context_depends_on_a_dark_future, "video", "L2", "perturb", "are black"),
    LeakyPipeline(context_depends_on_a_dark_future, "tubelet", "L2", "perturb", "are black"),
    LeakyPipeline(blind_to_the_present, "video", "L1", "perturb", "control: an image does not change"),
    LeakyPipeline(student_reads_the_targets, "video", "L3", "perturb", "the student's outputs change"),
    LeakyPipeline(predictor_sees_later_steps, "robot", "L4", "perturb", "changes an earlier prediction"),
    LeakyPipeline(targets_carry_gradient, "video", "L5", "perturb", "a target gets a gradient"),
    LeakyPipeline(frames_read_one_too_far, "video", "L1", "perturb", "built again, are other bytes than stored"),
)
"""The code leaks while the audit runs, not when the build is made."""
