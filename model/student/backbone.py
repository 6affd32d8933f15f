"""The student: a Qwen3-VL that reads the present images and the instruction, and nothing else (rule L3).

Its latent actions and embodied tokens are hidden states at special tokens of the prompt, taken after the last decoder
layer and before the final norm (LeRobot found that the released checkpoints were trained that way).

Shapes: B batch, V views, H, W image, K future steps, E width.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from model.attention.quickest import PackedShape
from model.attention.recompute import recomputed
from model.attention.transformers_attention import use_attention
from model.settings import BackboneSettings, PromptSettings
from model.student.images import image_patches, image_token_count
from model.student.loading import load_backbone
from model.student.patch_projection import project_patches_as_matrices
from model.student.prompt import PackedPrompts, PromptBuilder, PromptRequest, Readout
from model.student.vision import image_tokens
from pipeline.format.schema import Observation

INSTRUCTION = "pick up the bottle and put it on the plate"
"""Of the shapes that attention is measured on."""


@dataclass(frozen=True)
class StudentOutput:
    """Hidden states of the last decoder layer.

    latent_actions  float32 [B, K * action_tokens_per_step, E], step by step
    embodied        float32 [B, embodied_tokens, E]; None for human video
    """

    latent_actions: Tensor
    embodied: Tensor | None


@dataclass(frozen=True)
class StudentInput:
    """Prompts and image patches (see `model.student.images`) of some observations, on the device."""

    prompts: PackedPrompts
    patches: Tensor
    images: int


class Student(nn.Module):
    """Prompt, image patches, Qwen3-VL, readout.

    Args:
        settings: which model.
        prompt: how many of which special tokens.
        steps: K.
        backend: of attention, see `model.attention`.
        weights: False: they are neither read nor drawn; a checkpoint fills them.

    Raises:
        SettingsError: the weights cannot be found or are no Qwen3-VL.
    """

    def __init__(
        self,
        settings: BackboneSettings,
        prompt: PromptSettings,
        steps: int,
        backend: str = "auto",
        weights: bool = True,
    ) -> None:
        super().__init__()
        self.image_size, self.recompute = settings.image_size, settings.gradient_checkpointing
        tokenizer, self.model = load_backbone(settings, prompt, weights)
        project_patches_as_matrices(self.model)
        use_attention(self.model, backend)
        # Nothing reads the final norm; frozen, it cannot stall a data-parallel reduction waiting for its gradient.
        self.model.language_model.norm.requires_grad_(False)
        self.prompts = PromptBuilder(tokenizer, prompt, steps, image_token_count(settings.image_size))

    @property
    def width(self) -> int:
        """E."""
        return int(self.model.config.text_config.hidden_size)

    def forward(self, *observations: Observation[Tensor]) -> tuple[StudentOutput, ...]:
        """Read observations in one pass, those of robots and of human video together.

        One with a state (of any width) gets the robot prompt, one without the video prompt.

        Raises:
            ValueError: images are not [B, V, H, W, 3] with B the number of instructions.
        """
        return self.read(self.prepare(*observations))

    def prepare(self, *observations: Observation[Tensor], padded_to: int = 1) -> StudentInput:
        """The work of the host, and nothing that waits for the device.

        Args:
            observations: see `forward`.
            padded_to: the prompts' tokens become a multiple of it; 1: no padding.
        """
        for observation in observations:
            _check(observation)
        requests = [PromptRequest(o.instruction, o.images.shape[1], o.state is not None) for o in observations]
        prompts = self.prompts.pack(requests)
        if padded_to > 1:
            prompts = prompts.padded(padded_to, self.prompts.pad_id)
        images = [o.images.flatten(0, 1) for o in observations]
        patches = torch.cat([image_patches(each, self.image_size) for each in images])
        return StudentInput(prompts.to(patches.device), patches, sum(map(len, images)))

    def packed_shapes(self, samples: int, views: int, robot: bool) -> list[PackedShape]:
        """What attention is asked for by so many samples with a short instruction."""
        vision, text = self.model.config.vision_config, self.model.config.text_config
        patches = (self.image_size // vision.patch_size) ** 2
        width = vision.hidden_size // vision.num_heads
        tokens = len(self.prompts.tokens(INSTRUCTION, views, robot))
        heads, shared = text.num_attention_heads, text.num_key_value_heads
        return [
            PackedShape("images", samples * views, patches, vision.num_heads, vision.num_heads, width, False),
            PackedShape("prompts", samples, tokens, heads, shared, text.head_dim, True),
        ]

    def read(self, inputs: StudentInput) -> tuple[StudentOutput, ...]:
        """Hidden states of the action tokens of each observation that was prepared."""
        hidden = self._last_layer(inputs.prompts, inputs.patches, inputs.images)
        return tuple(_read_out(hidden, readout) for readout in inputs.prompts.readouts)

    def _last_layer(self, prompts: PackedPrompts, patches: Tensor, images: int) -> Tensor:
        """Output of the last decoder layer, before the final norm: [T, E].

        As `Qwen3VLModel.forward` has it, which finds the image tokens by a mask, and so waits for the device.
        """
        decoder, recompute = self.model.language_model, self.recompute
        tokens, features = image_tokens(self.model.visual, patches, images, recompute)
        x = decoder.embed_tokens(prompts.input_ids)
        x = x.index_copy(0, prompts.image_rows, tokens.to(x.dtype))[None]
        rotary = decoder.rotary_emb(x, prompts.positions[:, None])
        for i, layer in enumerate(decoder.layers):
            x = recomputed(layer, recompute, x, position_embeddings=rotary, attention_mask=None, packed=prompts.packed)
            if i < len(features):
                x = x.index_add(1, prompts.image_rows, features[i].to(x.dtype)[None])
        return x[0]


def _check(observation: Observation[Tensor]) -> None:
    images, count = observation.images, len(observation.instruction)
    if images.ndim != 5 or images.shape[-1] != 3 or len(images) != count:
        raise ValueError(f"images must be [B, V, H, W, 3] for {count} instructions, got {tuple(images.shape)}")


def _read_out(hidden: Tensor, readout: Readout) -> StudentOutput:
    # The gradient of a selection of distinct rows is written row by row; that of an index is sorted first.
    actions = hidden.index_select(0, readout.actions.flatten()).unflatten(0, readout.actions.shape)
    embodied = readout.embodied
    if embodied is None:
        return StudentOutput(actions.float(), None)
    return StudentOutput(
        actions.float(), hidden.index_select(0, embodied.flatten()).unflatten(0, embodied.shape).float()
    )
