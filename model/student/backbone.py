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

from torch import Tensor, nn

from model.attention.attention import Packed
from model.attention.transformers_attention import use_attention
from model.loading import load_backbone
from model.settings import BackboneSettings, PromptSettings
from model.student.images import image_patches, image_token_count
from model.student.patch_projection import project_patches_as_matrices
from model.student.prompt import PromptBuilder
from model.student.sequences import Sequences, lay_out
from pipeline.format.schema import Observation


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
        backend: of attention, see `model.attention`.

    Raises:
        SettingsError: the weights cannot be found or are no Qwen3-VL.
    """

    def __init__(self, settings: BackboneSettings, prompt: PromptSettings, steps: int, backend: str = "auto") -> None:
        super().__init__()
        self.image_size, self.packed = settings.image_size, settings.packed
        tokenizer, self.model = load_backbone(settings, prompt)
        project_patches_as_matrices(self.model)
        if settings.packed:
            use_attention(self.model, backend)
        # Nothing reads the final norm; frozen, it cannot stall a data-parallel reduction waiting for its gradient.
        self.model.language_model.norm.requires_grad_(False)
        if settings.gradient_checkpointing:
            self.model.activation_checkpointing_enable({"use_reentrant": False})
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
        prompts = self.prompts.batch(observation.instruction, images.shape[1], observation.state is not None)
        pixels, grid = image_patches(images.flatten(0, 1), self.image_size)
        # On the CPU, since it walks over the prompts token by token.
        positions, _ = self.model.get_rope_index(
            prompts.input_ids, prompts.image_mask, grid, None, prompts.attention_mask
        )
        sequences = lay_out(prompts, positions, self.packed).to(images.device)
        hidden = self._last_layer(sequences, pixels, grid.to(images.device, non_blocking=True)).flatten(0, 1)
        embodied = sequences.embodied_index
        return StudentOutput(
            latent_actions=hidden[sequences.action_index].float(),
            embodied=None if embodied is None else hidden[embodied].float(),
        )

    def _last_layer(self, sequences: Sequences, pixels: Tensor, grid: Tensor) -> Tensor:
        """Output of the last decoder layer, before the final norm: [rows, tokens a row, E]."""
        per_image = len(pixels) // len(grid)
        images = self._masked(Packed((per_image,) * len(grid)))
        # Apart from the text's call, whose keywords it would be given as well.
        features = self.model.get_image_features(pixels, grid, return_dict=True, max_seqlen=per_image, **images)
        with _input_of(self.model.language_model.norm) as seen:
            self.model(
                input_ids=sequences.input_ids,
                attention_mask=sequences.attention_mask,
                position_ids=sequences.position_ids,
                mm_encoder_outputs={"image": features},
                use_cache=False,
                **self._masked(sequences.packed),
            )
        return seen[-1]

    def _masked(self, packed: Packed | None) -> dict[str, Packed | None]:
        """The keyword that reaches `model.attention.transformers_attention`; PyTorch's own attention has none."""
        return {"packed": packed} if self.packed else {}


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
