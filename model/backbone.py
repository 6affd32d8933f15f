"""The student: a Qwen3-VL that reads the present images and the instruction, and nothing else (rule L3).

Its latent actions and embodied tokens are hidden states at special tokens of the prompt, taken after the last decoder
layer and before the final norm (LeRobot found that the released checkpoints were trained that way).

Shapes: B batch, V views, H, W image, K future steps, E width.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from model.images import image_patches, image_token_count
from model.loading import load_backbone
from model.prompt import PromptBuilder
from model.settings import BackboneSettings, PromptSettings
from pipeline.schema import Observation


@dataclass(frozen=True)
class StudentOutput:
    """Hidden states of the last decoder layer.

    latent_actions  float32 [B, K * action_tokens_per_step, E], step by step
    embodied        float32 [B, embodied_tokens, E]; None for human video
    """

    latent_actions: Tensor
    embodied: Tensor | None


class Student(nn.Module):
    """Prompt, image patches, Qwen3-VL, readout.

    Args:
        settings: which model.
        prompt: how many of which special tokens.
        steps: K.

    Raises:
        SettingsError: the weights cannot be found or are no Qwen3-VL.
    """

    def __init__(self, settings: BackboneSettings, prompt: PromptSettings, steps: int) -> None:
        super().__init__()
        self.image_size = settings.image_size
        tokenizer, self.model = load_backbone(settings, prompt)
        # Nothing reads the final norm; frozen, it cannot stall a data-parallel reduction waiting for its gradient.
        self.model.language_model.norm.requires_grad_(False)
        if settings.gradient_checkpointing:
            self.model.gradient_checkpointing_enable({"use_reentrant": False})
        self.prompts = PromptBuilder(tokenizer, prompt, steps, image_token_count(settings.image_size))

    @property
    def width(self) -> int:
        """E."""
        return int(self.model.config.text_config.hidden_size)

    def forward(self, observation: Observation[Tensor]) -> StudentOutput:
        """Read an observation. One with a state (of any width) gets the robot prompt, one without the video prompt.

        Raises:
            ValueError: the images are not [B, V, H, W, 3] with B the number of instructions.
        """
        images = observation.images
        if images.ndim != 5 or images.shape[-1] != 3 or len(images) != len(observation.instruction):
            raise ValueError(
                f"images must be [B, V, H, W, 3] for {len(observation.instruction)} instructions, "
                f"got {tuple(images.shape)}"
            )
        batch = self.prompts.batch(observation.instruction, images.shape[1], observation.state is not None)
        pixels, grid = image_patches(images.flatten(0, 1), self.image_size)
        # On the CPU, since it walks over the prompts token by token.
        positions, _ = self.model.get_rope_index(batch.input_ids, batch.image_mask, grid, None, batch.attention_mask)
        hidden = self._last_layer(
            input_ids=batch.input_ids.to(images.device, non_blocking=True),
            attention_mask=batch.attention_mask.to(images.device, non_blocking=True),
            position_ids=positions.to(images.device, non_blocking=True),
            pixel_values=pixels,
            image_grid_thw=grid.to(images.device, non_blocking=True),
        )
        embodied = batch.embodied_positions
        return StudentOutput(
            latent_actions=_at(hidden, batch.action_positions),
            embodied=None if embodied is None else _at(hidden, embodied),
        )

    def _last_layer(self, **inputs: Tensor) -> Tensor:
        """Output of the last decoder layer, before the final norm: [B, L, E]."""
        with _input_of(self.model.language_model.norm) as seen:
            self.model(**inputs, use_cache=False)
        return seen[-1]


@contextmanager
def _input_of(module: nn.Module) -> Iterator[list[Tensor]]:
    """Collects what a module is called with while the context is open."""
    seen: list[Tensor] = []

    def remember(_: nn.Module, arguments: tuple[Any, ...]) -> None:
        seen.append(arguments[0])

    handle = module.register_forward_pre_hook(remember)
    try:
        yield seen
    finally:
        handle.remove()


def _at(hidden: Tensor, positions: Tensor) -> Tensor:
    """Rows of hidden [B, L, E] at positions [B, M] -> float32 [B, M, E]."""
    index = positions.to(hidden.device, non_blocking=True)[..., None].expand(-1, -1, hidden.shape[-1])
    return hidden.gather(1, index).float()
