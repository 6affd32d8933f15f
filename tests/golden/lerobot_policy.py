"""Load an exported policy with LeRobot's own code and compare what it computes with ours.

    python -m tests.golden.lerobot_policy

Needs an environment of its own: LeRobot wants Python 3.12 and other pins. Tried with 0.6.1:

    pip install 'lerobot[vla-jepa]==0.6.1' pyarrow pytest hypothesis pydantic
    pip install transformers==5.23.0

The second line goes against LeRobot's pin (5.5.4 in 0.6.1), under which our student would not see its images.

The student is a Qwen3-VL of random weights, so no network is needed. Compared are tensors, prompts, image patches,
latent actions, predictions, actions through LeRobot's own pre- and post-processors, and the actions of a model of ours
that loads what LeRobot saves; exits 0 only if all agree.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import (
    Qwen2VLImageProcessor,
    Qwen3VLForConditionalGeneration,
    Qwen3VLProcessor,
    Qwen3VLVideoProcessor,
    VJEPA2Config,
    VJEPA2Model,
    VJEPA2VideoProcessor,
)

from model.exchange.initial import load_initial
from model.exchange.lerobot import save_lerobot
from model.exchange.weights import foreign_weights
from model.student.images import MEAN, MERGE, PATCH, STD, TEMPORAL
from model.student.loading import tiny_config
from model.student.tokenizer import byte_tokenizer
from model.vla_jepa import VLAJEPA
from tests.model.exchange.test_exchange import CAMERAS, OTHER_STATS, WIDE, lerobot_model
from tests.model.helpers import robot_observation

LIMIT = 1e-5
CHAT = (
    "{%- for message in messages %}<|im_start|>{{ message.role }}\n"
    "{%- for part in message.content %}"
    "{%- if part.type == 'image' %}<|vision_start|><|image_pad|><|vision_end|>{%- else %}{{ part.text }}{%- endif %}"
    "{%- endfor %}<|im_end|>\n{%- endfor %}"
    "{%- if add_generation_prompt %}<|im_start|>assistant\n{%- endif %}"
).replace("\n{%-", "{{ '\\n' }}{%-")
"""Qwen's chat form for user messages of images and text."""


def write_hub(folder: Path, model: VLAJEPA) -> None:
    """What LeRobot would download: a Qwen3-VL with its processor, and a V-JEPA2; both tiny."""
    tokenizer, side = byte_tokenizer(), model.settings.backbone.image_size
    tokenizer.chat_template = CHAT
    Qwen3VLForConditionalGeneration(tiny_config(model.settings.backbone, tokenizer)).save_pretrained(folder / "qwen")
    images = Qwen2VLImageProcessor(
        patch_size=PATCH,
        merge_size=MERGE,
        temporal_patch_size=TEMPORAL,
        image_mean=[MEAN] * 3,
        image_std=[STD] * 3,
        min_pixels=side * side,
        max_pixels=side * side,
    )
    processor = Qwen3VLProcessor(
        image_processor=images, tokenizer=tokenizer, video_processor=Qwen3VLVideoProcessor(), chat_template=CHAT
    )
    processor.save_pretrained(folder / "qwen")
    pixels = round(WIDE.tokens**0.5) * PATCH
    encoder = VJEPA2Config(
        crop_size=pixels,
        image_size=pixels,
        frames_per_clip=2 * (WIDE.steps + 1),
        hidden_size=WIDE.width,
        num_hidden_layers=1,
        num_attention_heads=2,
        pred_hidden_size=8,
        pred_num_attention_heads=2,
        pred_num_hidden_layers=1,
    )
    VJEPA2Model(encoder).save_pretrained(folder / "vjepa2")
    VJEPA2VideoProcessor(crop_size=pixels, size={"shortest_edge": pixels}).save_pretrained(folder / "vjepa2")


def load_policy(folder: Path, model: VLAJEPA) -> Any:
    """Export, and load with LeRobot in float32."""
    write_hub(folder, model)
    save_lerobot(model, folder / "policy", CAMERAS, str(folder / "vjepa2"))
    path = folder / "policy" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"qwen_model_name": str(folder / "qwen")}))
    modeling = importlib.import_module("lerobot.policies.vla_jepa.modeling_vla_jepa")
    for name in ("_get_autocast_context", "get_autocast_context"):  # 0.6.1 and later
        if hasattr(modeling, name):
            setattr(modeling, name, lambda *_, **__: contextlib.nullcontext())
    return modeling.VLAJEPAPolicy.from_pretrained(folder / "policy").eval()


@torch.no_grad()
def differences(folder: Path) -> dict[str, float]:
    """Largest absolute difference of everything compared; prompts count the tokens that differ."""
    model = lerobot_model(seed=3, stats=OTHER_STATS)
    policy = load_policy(folder, model)
    theirs = policy.state_dict()
    found = {
        "tensors": max(_difference(theirs[name], tensor) for name, tensor in foreign_weights(model, "lerobot").items())
    }
    observation = robot_observation(2)
    assert observation.state is not None
    images = [[view.permute(2, 0, 1).float() / 255 for view in sample] for sample in observation.images]
    native = policy.model
    given = native.qwen.build_inputs(
        images, list(observation.instruction), native.replace_prompt, native.embodied_replace_prompt
    )
    inputs = model.student.prepare(observation)
    for name, a, b in (
        ("prompts", given["input_ids"][given["attention_mask"].bool()], inputs.prompts.input_ids),
        ("image patches", given["pixel_values"], inputs.patches.flatten(1)),
    ):
        found[name] = _difference(a, b)
    embodied, actions = native._encode_qwen(images, list(observation.instruction), need_action_tokens=True)
    (ours,) = model.student(observation)
    assert ours.embodied is not None
    latents = torch.randn(2, WIDE.steps * WIDE.tokens, WIDE.views * WIDE.width)
    found |= {
        "embodied tokens": _difference(embodied, ours.embodied),
        "latent actions": _difference(actions, ours.latent_actions),
        "predictions": _difference(native.video_predictor(latents, actions), model.predictor(latents, actions)),
    }
    factory = importlib.import_module("lerobot.policies.factory")
    before, after = factory.make_pre_post_processors(policy.config, pretrained_path=str(folder / "policy"))
    batch = {
        f"observation.images.{camera}": torch.stack([sample[v] for sample in images])
        for v, camera in enumerate(CAMERAS)
    }
    batch |= {"observation.state": observation.state, "task": list(observation.instruction)}
    torch.manual_seed(0)
    acted = after(policy.predict_action_chunk(before(batch)))
    torch.manual_seed(0)
    start = torch.randn(2, WIDE.chunk, WIDE.action)
    for part in (policy, before, after):
        part.save_pretrained(folder / "saved")
    back = lerobot_model(seed=4)
    load_initial(back, folder / "saved", scalers=True)
    return found | {
        "actions": _difference(acted, model.act(observation, start=start)),
        "actions, back": _difference(acted, back.act(observation, start=start)),
    }


def main() -> int:
    """Print every difference."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    with tempfile.TemporaryDirectory() as folder:
        found = differences(Path(folder))
    for name, difference in found.items():
        print(f"{name:16} {difference:.3g}  {'ok' if difference < LIMIT else 'DIFFERS'}")
    return 0 if max(found.values()) < LIMIT else 1


def _difference(a: Tensor, b: Tensor) -> float:
    return float((a.float() - b.float()).abs().max()) if a.shape == b.shape else float("inf")


if __name__ == "__main__":
    sys.exit(main())
