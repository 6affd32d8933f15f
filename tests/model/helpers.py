"""Small models and batches for tests of the model. Sizes differ from each other so that a mixed-up axis fails."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from model.normalize import BuildStats, ChannelRange
from model.settings import ModelSettings, PromptSettings, tiny_settings
from model.vla_jepa import VLAJEPA, build_model
from pipeline.format.schema import Observation, Sizes, Targets

SIZES = Sizes(views=2, image_size=64, steps=3, tokens=4, width=10, state=6, chunk=5, action=7)
VIDEO_SIZES = replace(SIZES, views=1, state=0, chunk=0, action=0)
STATS = BuildStats(ChannelRange((-2.0,) * 6, (2.0,) * 6), ChannelRange((0.0,) * 7, (4.0,) * 7))
INSTRUCTIONS = ("pick up the bottle", "open", "push the red block to the left", "close the drawer")


def small_settings(seed: int = 0) -> ModelSettings:
    """The tiny model with few special tokens."""
    settings = tiny_settings(seed)
    prompt = PromptSettings(action_tokens_per_step=2, action_token_groups=5, embodied_tokens=3)
    return replace(settings, prompt=prompt, predictor=replace(settings.predictor, dim=24, heads=2, init="reference"))


def small_model(seed: int = 0) -> VLAJEPA:
    """A robot model in eval mode."""
    return build_model(small_settings(seed), SIZES, STATS).eval()


def robot_observation(count: int = 4, seed: int = 0) -> Observation[Tensor]:
    """Random images and states, instructions of different lengths."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (count, SIZES.views, 64, 64, 3), dtype=torch.uint8, generator=generator)
    return Observation(images, INSTRUCTIONS[:count], torch.randn(count, SIZES.state, generator=generator))


def video_observation(count: int = 4, seed: int = 0) -> Observation[Tensor]:
    """As human video: one view, no state."""
    robot = robot_observation(count, seed)
    return Observation(robot.images[:, :1].contiguous(), robot.instruction, None)


def robot_targets(count: int = 4, seed: int = 0) -> Targets[Tensor]:
    """Random float16 latents and actions; everything inside the episode."""
    generator = torch.Generator().manual_seed(seed)
    shape = (SIZES.views, SIZES.tokens, SIZES.width)
    return Targets(
        context=torch.randn(count, *shape, generator=generator).half(),
        latents=torch.randn(count, SIZES.steps, *shape, generator=generator).half(),
        latent_mask=torch.ones(count, SIZES.steps, dtype=torch.bool),
        actions=4 * torch.rand(count, SIZES.chunk, SIZES.action, generator=generator),
        action_mask=torch.ones(count, SIZES.chunk, dtype=torch.bool),
    )


def video_targets(count: int = 4, seed: int = 0) -> Targets[Tensor]:
    """The latents of `robot_targets`, without actions."""
    return replace(robot_targets(count, seed), actions=None, action_mask=None)


def rows(observation: Observation[Tensor], index: list[int]) -> Observation[Tensor]:
    """Some samples of an observation, in the order given."""
    state = None if observation.state is None else observation.state[index]
    return Observation(observation.images[index], tuple(observation.instruction[i] for i in index), state)
