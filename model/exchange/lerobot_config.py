"""config.json of LeRobot's `vla_jepa` policy, as it says what a model of ours is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from model.settings import ActionHeadSettings
from model.vla_jepa import VLAJEPA

STATE, ACTION = "observation.state", "action"
PORT_VIEWS = 2
HEAD_TYPE = "DiT-B"


def policy_config(model: VLAJEPA, cameras: Sequence[str], encoder: str) -> dict[str, Any]:
    """The content of config.json."""
    s, sizes = model.settings, model.sizes
    head, predictor = s.action_head, s.predictor
    return {
        "type": "vla_jepa",
        "n_obs_steps": 1,
        "input_features": input_features(model, cameras),
        "output_features": {ACTION: {"type": "ACTION", "shape": [sizes.action]}},
        "normalization_mapping": norm_map(),
        "chunk_size": sizes.chunk,
        "n_action_steps": sizes.chunk,
        "qwen_model_name": s.backbone.name_or_path or "Qwen/Qwen3-VL-2B-Instruct",
        "jepa_encoder_name": encoder,
        "action_dim": sizes.action,
        "state_dim": model.state_width,
        "num_action_tokens_per_timestep": s.prompt.action_tokens_per_step,
        "num_embodied_action_tokens_per_instruction": s.prompt.embodied_tokens,
        **_head_config(head),
        "action_noise_s": head.time_max,
        "action_max_seq_len": head.max_positions,
        "num_video_frames": 2 * (sizes.steps + 1),
        "predictor_depth": predictor.depth,
        "predictor_num_heads": predictor.heads,
        "predictor_mlp_ratio": predictor.mlp_ratio,
        "world_model_loss_weight": s.loss.world_model_on_robot,
        "repeated_diffusion_steps": head.repeats,
        "resize_images_to": [s.backbone.image_size] * 2,
        "clip_normalized_actions": False,
        "pre_snap_gripper_action": False,
        "binarize_gripper_action": False,
        "torch_dtype": s.backbone.dtype,
        # LeRobot 0.6.1 refuses a key it does not know, and has no other number of views than this.
        **({} if predictor.views == PORT_VIEWS else {"world_model_num_views": predictor.views}),
    }


def _head_config(head: ActionHeadSettings) -> dict[str, Any]:
    return {
        "num_inference_timesteps": head.inference_steps,
        "action_hidden_size": head.hidden_size,
        "action_model_type": HEAD_TYPE,
        "action_num_layers": head.layers,
        "action_num_heads": head.heads,
        "action_attention_head_dim": head.head_width,
        "action_dropout": head.dropout,
        "action_num_timestep_buckets": head.time_buckets,
        "action_noise_beta_alpha": head.beta_a,
        "action_noise_beta_beta": head.beta_b,
    }


def input_features(model: VLAJEPA, cameras: Sequence[str]) -> dict[str, Any]:
    side = model.settings.backbone.image_size
    features = {f"observation.images.{camera}": {"type": "VISUAL", "shape": [3, side, side]} for camera in cameras}
    if model.state_width:
        features[STATE] = {"type": "STATE", "shape": [model.state_width]}
    return features


def norm_map() -> dict[str, str]:
    return {"VISUAL": "IDENTITY", "STATE": "MIN_MAX", "ACTION": "MIN_MAX"}
