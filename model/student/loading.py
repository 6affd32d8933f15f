"""Qwen3-VL and the tokenizer that goes with it: from a hub name, a local folder, or of random weights."""

from __future__ import annotations

import torch
from safetensors import SafetensorError
from torch import nn
from transformers import AutoTokenizer, PreTrainedTokenizerBase, Qwen3VLConfig, Qwen3VLModel
from transformers.models.qwen3_vl.configuration_qwen3_vl import Qwen3VLTextConfig, Qwen3VLVisionConfig

from model.settings import BackboneKind, BackboneSettings, PromptSettings
from model.student.images import MERGE, PATCH, TEMPORAL
from model.student.tokenizer import add_action_tokens, byte_tokenizer
from pipeline.errors import SettingsError


def load_backbone(
    settings: BackboneSettings, prompt: PromptSettings, weights: bool = True
) -> tuple[PreTrainedTokenizerBase, Qwen3VLModel]:
    """Tokenizer with the action tokens, and the model without its head over the vocabulary.

    Inside `torch.device("meta")`, and without `weights`, none are read or drawn: the configuration and the tokenizer
    suffice.

    Args:
        weights: False: parameters are memory as it was found, to be filled by a checkpoint.

    Raises:
        SettingsError: the weights cannot be found or are no Qwen3-VL.
    """
    if settings.kind == BackboneKind.PRETRAINED:
        return _load(settings, prompt, weights)
    tokenizer = byte_tokenizer()
    add_action_tokens(tokenizer, prompt.action_token_groups)
    dtype = getattr(torch, settings.dtype)
    if settings.kind == BackboneKind.RANDOM:
        return tokenizer, _random(qwen3vl_2b_config(tokenizer), dtype, weights)
    model = _random(tiny_config(settings, tokenizer), dtype, weights)
    if weights:
        _scale_to_width(model)
    return tokenizer, model


def _load(
    settings: BackboneSettings, prompt: PromptSettings, weights: bool
) -> tuple[PreTrainedTokenizerBase, Qwen3VLModel]:
    dtype = getattr(torch, settings.dtype)
    try:
        tokenizer = AutoTokenizer.from_pretrained(settings.name_or_path)
        if _inside_meta() or not weights:
            config = Qwen3VLConfig.from_pretrained(settings.name_or_path, attn_implementation="sdpa")
            model = _random(config, dtype, weights)
        else:
            model = Qwen3VLModel.from_pretrained(settings.name_or_path, dtype=dtype, attn_implementation="sdpa")
    except (OSError, ValueError, SafetensorError) as error:
        raise SettingsError(
            f"model.backbone.name_or_path={settings.name_or_path!r} gives no Qwen3-VL ({error}); give the name of a "
            "model on the hub or a folder with its weights and tokenizer"
        ) from error
    vision = model.config.vision_config
    if (vision.patch_size, vision.spatial_merge_size, vision.temporal_patch_size) != (PATCH, MERGE, TEMPORAL):
        raise SettingsError(f"{settings.name_or_path}: image patches must be {PATCH} px, {MERGE} x {MERGE} merged")
    add_action_tokens(tokenizer, prompt.action_token_groups)
    # Qwen's table has spare rows (151936 for 151669 tokens), which the added tokens use: it never shrinks.
    if len(tokenizer) > model.get_input_embeddings().num_embeddings:
        model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    return tokenizer, model


def _random(config: Qwen3VLConfig, dtype: torch.dtype, weights: bool = True) -> Qwen3VLModel:
    """Random weights, allocated once and in `dtype`; without any memory inside `torch.device("meta")`. Without
    `weights` they are not drawn, which takes a while for two billion."""
    inside_meta = _inside_meta()
    with torch.device("meta"):
        model = Qwen3VLModel(config).to(dtype)
    if inside_meta:
        return model
    model.to_empty(device="cpu")
    # `to_empty` leaves the parameters' and the rotary buffers' memory as it was found.
    if not weights:
        for parameter in model.parameters():
            parameter._is_hf_initialized = True  # by which transformers leaves alone what it has loaded
    model.init_weights()
    return model


@torch.no_grad()
def _scale_to_width(model: Qwen3VLModel) -> None:
    """Draw weights again so that every layer passes its input on at about its size.

    Qwen's standard deviation of 0.02 does that at its own width of 2,048. At a width of 128 a layer makes its input
    four times smaller: of the embodied tokens so little is the image's that 600 steps of training did not find it.
    """
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Conv3d):
            nn.init.normal_(module.weight, std=module.weight[0].numel() ** -0.5)
    nn.init.normal_(model.visual.pos_embed.weight)
    nn.init.normal_(model.get_input_embeddings().weight, std=model.config.text_config.hidden_size**-0.5)


def _inside_meta() -> bool:
    return torch.get_default_device().type == "meta"


def qwen3vl_2b_config(tokenizer: PreTrainedTokenizerBase) -> Qwen3VLConfig:
    """The architecture of Qwen3-VL-2B-Instruct (its published config.json), with the special tokens of a tokenizer."""
    text = Qwen3VLTextConfig(
        vocab_size=151936,
        hidden_size=2048,
        intermediate_size=6144,
        num_hidden_layers=28,
        num_attention_heads=16,
        num_key_value_heads=8,
        head_dim=128,
        max_position_embeddings=262144,
        rope_parameters={
            "rope_type": "default",
            "rope_theta": 5_000_000.0,
            "mrope_interleaved": True,
            "mrope_section": [24, 20, 20],
        },
    )
    vision = Qwen3VLVisionConfig(
        depth=24,
        hidden_size=1024,
        intermediate_size=4096,
        num_heads=16,
        out_hidden_size=2048,
        num_position_embeddings=2304,
        deepstack_visual_indexes=[5, 11, 17],
    )
    return _config(text, vision, tokenizer)


def tiny_config(settings: BackboneSettings, tokenizer: PreTrainedTokenizerBase) -> Qwen3VLConfig:
    """Qwen3-VL's shape in small: interleaved 3-axis rotary positions, one deepstack level, shared key-value heads."""
    tiny = settings.tiny
    half = tiny.width // tiny.heads // 2
    text = Qwen3VLTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=tiny.width,
        intermediate_size=2 * tiny.width,
        num_hidden_layers=tiny.layers,
        num_attention_heads=tiny.heads,
        num_key_value_heads=tiny.heads // 2,
        head_dim=tiny.width // tiny.heads,
        max_position_embeddings=4096,
        rope_parameters={
            "rope_type": "default",
            "rope_theta": 10000.0,
            "mrope_interleaved": True,
            "mrope_section": [half - 2 * (half // 3), half // 3, half // 3],
        },
    )
    vision = Qwen3VLVisionConfig(
        depth=tiny.vision_layers,
        hidden_size=tiny.vision_width,
        intermediate_size=2 * tiny.vision_width,
        num_heads=tiny.vision_heads,
        out_hidden_size=tiny.width,
        num_position_embeddings=(settings.image_size // PATCH) ** 2,
        deepstack_visual_indexes=[0],
    )
    return _config(text, vision, tokenizer)


def _config(text: Qwen3VLTextConfig, vision: Qwen3VLVisionConfig, tokenizer: PreTrainedTokenizerBase) -> Qwen3VLConfig:
    # One attention kernel for all sizes, whatever the installed packages make the default.
    return Qwen3VLConfig(
        text_config=text.to_dict(),
        vision_config=vision.to_dict(),
        image_token_id=tokenizer.convert_tokens_to_ids("<|image_pad|>"),
        vision_start_token_id=tokenizer.convert_tokens_to_ids("<|vision_start|>"),
        vision_end_token_id=tokenizer.convert_tokens_to_ids("<|vision_end|>"),
        attn_implementation="sdpa",
    )
