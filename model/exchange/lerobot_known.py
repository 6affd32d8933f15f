"""What each key of LeRobot's `vla_jepa` configuration means for a model of ours: compared, or without effect.

The keys are those of LeRobot's policy and of the class that it inherits from, as they were in 2026, old and new ones.
An unknown key may change what is computed, so it is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from model.exchange.lerobot_config import ACTION, STATE, policy_config
from model.student.prompt import ROBOT_PROMPT
from model.student.tokenizer import EMBODIED_TOKEN, action_token
from model.vla_jepa import VLAJEPA
from pipeline.format.text.printable import shown

OF_WEIGHTS = {
    "num_action_tokens_per_timestep": "model.prompt.action_tokens_per_step",
    "num_embodied_action_tokens_per_instruction": "model.prompt.embodied_tokens",
    "predictor_depth": "model.predictor.depth",
    "predictor_num_heads": "model.predictor.heads",
    "predictor_mlp_ratio": "model.predictor.mlp_ratio",
    "world_model_num_views": "model.predictor.views",
    "action_hidden_size": "model.action_head.hidden_size",
    "action_num_layers": "model.action_head.layers",
    "action_num_heads": "model.action_head.heads",
    "action_attention_head_dim": "model.action_head.head_width",
    "action_num_timestep_buckets": "model.action_head.time_buckets",
    "action_model_type": "this model's",
    "prompt_template": "this model's",
    "special_action_token": "this model's",
    "embodied_action_token": "this model's",
    "n_obs_steps": "this model's",
    "use_peft": "of a whole model",
}
"""Keys that decide what is computed with the tensors, which may fit all the same, and where ours stands."""

OF_A_POLICY = {
    "chunk_size": "sizes.chunk",
    "action_dim": "sizes.action",
    "state_dim": "the model's width of the state",
    "num_video_frames": "2 x (sizes.steps + 1)",
    "jepa_tubelet_size": "the encoder's",
    "num_inference_timesteps": "model.action_head.inference_steps",
    "action_max_seq_len": "model.action_head.max_positions",
    "resize_images_to": "model.backbone.image_size",
    "use_relative_actions": "this model's",
}
"""Compared where a policy is taken over whole; a run may start from its weights with others."""

_TRAINING = "of LeRobot's training"
_STORAGE = "of LeRobot's files and devices"
_TENSORS = "the tensors say it"
_AFTER = "what LeRobot does with the actions afterwards"
WITHOUT_EFFECT = {
    "type": "names the policy",
    "n_action_steps": "how much of a chunk is carried out: execute= of vlajepa evaluate",
    "normalization_mapping": "the processors' own is used",
    "qwen_model_name": _TENSORS,
    "num_target_vision_tokens": _TENSORS,
    "tokenizer_padding_side": "no prompt is padded",
    "torch_dtype": "weights are kept as float32",
    **dict.fromkeys(("clip_normalized_actions", "pre_snap_gripper_action", "binarize_gripper_action"), _AFTER),
    **dict.fromkeys(("gripper_dim", "gripper_threshold", "policy_action_contract", "action_feature_names"), _AFTER),
    "gripper_joint_names": _AFTER,
    "relative_exclude_joints": "use_relative_actions is false",
    **dict.fromkeys(("jepa_encoder_name", "freeze_qwen", "enable_world_model", "reinit_modules"), _TRAINING),
    **dict.fromkeys(("action_dropout", "predictor_dropout", "world_model_loss_weight"), _TRAINING),
    **dict.fromkeys(("repeated_diffusion_steps", "causal_world_model_context", "action_noise_s"), _TRAINING),
    **dict.fromkeys(("action_noise_beta_alpha", "action_noise_beta_beta"), _TRAINING),
    **dict.fromkeys(("optimizer_lr", "optimizer_betas", "optimizer_eps", "optimizer_weight_decay"), _TRAINING),
    **dict.fromkeys(("optimizer_grad_clip_norm", "scheduler_warmup_steps", "scheduler_decay_steps"), _TRAINING),
    "scheduler_decay_lr": _TRAINING,
    **dict.fromkeys(("device", "use_amp", "push_to_hub", "repo_id", "private", "tags", "license"), _STORAGE),
    **dict.fromkeys(("pretrained_path", "pretrained_revision"), _STORAGE),
}
"""Keys that change neither weights nor ranges, and why."""

FEATURES = ("input_features", "output_features")
STEPS = {
    "normalizer_processor": "",
    "unnormalizer_processor": "",
    **dict.fromkeys(("rename_observations_processor", "to_batch_processor", "device_processor"), ""),
    "vla_jepa_image_prep": "",
    **dict.fromkeys(("vla_jepa_clip_actions", "vla_jepa_pre_snap_gripper", "vla_jepa_binarize_gripper"), _AFTER),
    **dict.fromkeys(("relative_actions_processor", "delta_actions_processor", "absolute_actions_processor"), ""),
}
"""Steps of the processors that are known, and what the reader is told of those that are not taken over."""
_SWITCHED = ("relative_actions_processor", "delta_actions_processor", "absolute_actions_processor")


def config_differences(theirs: Any, model: VLAJEPA, whole: bool) -> tuple[list[str], list[str]]:
    """What a config.json says that this model is not, and what of it is not taken over, a text each.

    Args:
        theirs: its content; null is a key's default, and not compared.
        whole: the policy is taken over, with its ranges, rather than its weights alone.
    """
    if not isinstance(theirs, dict):
        return [f"it must hold an object, found {shown(theirs)}"], []
    ours, compared = _ours(model), OF_WEIGHTS | (OF_A_POLICY if whole else {})
    known = {*OF_WEIGHTS, *OF_A_POLICY, *WITHOUT_EFFECT, *FEATURES}
    problems = [f"{shown(key)} is a key that is not known here" for key in theirs if key not in known]
    problems += [
        f"{key} is {shown(theirs[key])}, {where} is {ours[key]!r}"
        for key, where in compared.items()
        if theirs.get(key) is not None and not _same(theirs[key], ours[key])
    ]
    problems += _feature_differences(theirs, model) if whole else []
    left = [key for key, why in WITHOUT_EFFECT.items() if why == _AFTER and theirs.get(key) is True]
    return problems, [f"not taken over, {_AFTER}: {', '.join(left)}"] if left and whole else []


def step_differences(content: Any) -> tuple[list[str], list[str]]:
    """The steps of a processor's file that are not known, and what of the others is not taken over, a text each."""
    steps = content.get("steps") if isinstance(content, dict) else None
    if not isinstance(steps, list) or not all(isinstance(step, dict) for step in steps):
        return ["steps must be a list of objects"], []
    problems, notes = [], []
    for step in steps:
        name, config = step.get("registry_name"), step.get("config")
        if not isinstance(name, str) or name not in STEPS:
            problems.append(f"{shown(name)} is a step that is not known here")
        elif name in _SWITCHED and isinstance(config, dict) and config.get("enabled"):
            problems.append(f"{name} makes actions relative to the state, which this model's are not")
        elif STEPS[name]:
            notes.append(f"not taken over, {STEPS[name]}: the step {name}")
        elif isinstance(config, dict) and config.get("rename_map"):
            notes.append(f"not taken over, no observation has a name here: rename_map {shown(config['rename_map'])}")
    return problems, notes


def _ours(model: VLAJEPA) -> Mapping[str, Any]:
    """Values of the keys that are compared."""
    instruction, actions, end = ROBOT_PROMPT
    return policy_config(model, (), "") | {
        "world_model_num_views": model.settings.predictor.views,
        "prompt_template": f"{instruction}{{actions}}{actions}{{e_actions}}{end}",
        "special_action_token": action_token(0).replace("0", "{}"),
        "embodied_action_token": EMBODIED_TOKEN,
        "jepa_tubelet_size": 2,
        "use_peft": False,
        "use_relative_actions": False,
    }


def _same(one: Any, other: Any) -> bool:
    """True is no 1 here."""
    return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)


def _feature_differences(theirs: Mapping[str, Any], model: VLAJEPA) -> list[str]:
    """Of the shapes of state and action, and the number of cameras, as far as the file has them."""
    features: dict[str, Any] = {}
    for key in FEATURES:
        if not isinstance(theirs.get(key) or {}, dict):
            return [f"{key} must be an object, found {shown(theirs[key])}"]
        features |= theirs.get(key) or {}
    wanted = {STATE: [model.state_width], ACTION: [model.sizes.action]}
    shapes = {name: entry.get("shape") if isinstance(entry, dict) else None for name, entry in features.items()}
    problems = [
        f"{name} has the shape {shown(shapes[name])}, the model's is {shape}"
        for name, shape in wanted.items()
        if name in shapes and shapes[name] != shape
    ]
    cameras = sum(isinstance(entry, dict) and entry.get("type") == "VISUAL" for entry in features.values())
    if cameras and cameras != model.sizes.views:
        problems.append(f"input_features has {cameras} cameras, sizes.views is {model.sizes.views}")
    return problems
