"""Compare our encoders, predictor and action head with recorded tensors of the reference modules.

    python -m tests.golden.parity FILE…

A file holds `weight/…`, `input/…`, `output/…` tensors, of encoders `weights.…`, `input_FRAMES`, `output_FRAMES`, and
the metadata `config` (sizes). Prints the largest absolute difference of each output; exits 0 only if all are below
1e-5, 1 if some are not, 2 if a file cannot be read.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from model.action_head.action_head import ActionHead
from model.settings import ActionHeadSettings, PredictorSettings
from model.world_model.predictor import LatentPredictor
from pipeline.errors import SettingsError
from tests.golden.encoder import CONFIGS, build_encoder, encoder_outputs

ModuleT = TypeVar("ModuleT", bound=nn.Module)

LIMIT = 1e-5
UNUSED_BY_THE_PREDICTOR = ("extrinsics_encoder.", "state_encoder.")


@dataclass(frozen=True)
class Golden:
    """One file of recorded tensors; the prefixes of the names are removed."""

    path: Path
    config: dict[str, Any]
    weights: dict[str, Tensor]
    inputs: dict[str, Tensor]
    outputs: dict[str, Tensor]


def read_golden(path: Path) -> Golden:
    """Read a file.

    Raises:
        ValueError: it has no `config`.
    """
    parts: dict[str, dict[str, Tensor]] = {"weight": {}, "input": {}, "output": {}}
    with safe_open(path, "pt") as file:
        metadata = file.metadata() or {}
        if "config" not in metadata:
            raise ValueError(f"{path}: the metadata has no `config`; found {sorted(metadata)}")
        for name in file.keys():  # noqa: SIM118 - a safetensors handle is no mapping
            part, rest = _parted(name)
            parts[part][rest] = file.get_tensor(name)
    return Golden(path, json.loads(metadata["config"]), parts["weight"], parts["input"], parts["output"])


def _parted(name: str) -> tuple[str, str]:
    """Part and own name of a tensor, in either spelling."""
    found = re.fullmatch(r"(weight|input|output)(?:/|s\.|_)(.+)", name)
    if found is None:
        raise ValueError(f"{name} is neither a weight nor an input nor an output")
    return found[1], found[2]


def build_predictor(golden: Golden) -> LatentPredictor:
    """Our predictor with the recorded weights."""
    c = golden.config
    settings = PredictorSettings(
        depth=c["depth"],
        heads=c["num_heads"],
        dim=c["predictor_dim"],
        mlp_ratio=c["mlp_ratio"],
        layer_norm_eps=c["layer_norm_eps"],
        views=c["num_views"],
    )
    module = LatentPredictor(
        settings, c["steps"], c["grid"] ** 2, c["latent_dim"], c["action_embed_dim"], c["action_tokens_per_step"]
    )
    used = {k: v for k, v in golden.weights.items() if not k.startswith(UNUSED_BY_THE_PREDICTOR)}
    return _loaded(module, used)


def build_action_head(golden: Golden) -> ActionHead:
    """Our action head with the recorded weights."""
    c = golden.config
    settings = ActionHeadSettings(
        layers=c["num_layers"],
        heads=c["num_heads"],
        head_width=c["dim"] // c["num_heads"],
        hidden_size=c["hidden_size"],
        future_tokens=c["num_future_tokens"],
        max_positions=c["max_seq_len"],
        time_buckets=c["num_timestep_buckets"],
        inference_steps=c["num_inference_steps"],
    )
    return _loaded(
        ActionHead(settings, c["context_dim"], c["action_dim"], c["state_dim"], c["horizon"]), golden.weights
    )


def _loaded(module: ModuleT, weights: dict[str, Tensor]) -> ModuleT:
    module.load_state_dict(weights, strict=True)
    return module.eval()


@torch.no_grad()
def our_outputs(golden: Golden) -> dict[str, Tensor]:
    """Our values of the outputs recorded in a file."""
    given = golden.inputs
    if golden.config.get("model") in CONFIGS:
        return encoder_outputs(build_encoder(golden.config, golden.weights, golden.path), given)
    if "predictor_dim" in golden.config:
        predicted = build_predictor(golden)(given["context_latents"], given["latent_actions"])
        return {"predicted_latents": predicted}
    head = build_action_head(golden)
    context = given["context_tokens"]
    state = given["state"][:, 0] if golden.config["with_state"] else None
    loss = head.loss(context, state, given["actions"], None, given["noise"], given["time"])
    return {"loss": loss.reshape(1), "sampled_actions": head.sample(context, state, given["initial_actions"])}


def differences(path: Path) -> dict[str, float]:
    """Largest absolute difference of each output of a file; infinite where a name or a shape differs."""
    golden = read_golden(path)
    ours = our_outputs(golden)
    result = {}
    for name in sorted(golden.outputs.keys() | ours.keys()):
        a, b = golden.outputs.get(name), ours.get(name)
        same = a is not None and b is not None and a.shape == b.shape
        result[name] = float((a - b).abs().max()) if same and a is not None and b is not None else float("inf")
    return result


def main(arguments: Sequence[str] | None = None) -> int:
    """Compare the files named on the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.golden.parity", description=__doc__)
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE")
    all_equal = True
    for path in parser.parse_args(arguments).files:
        try:
            found = differences(path)
        except (OSError, SafetensorError, ValueError, KeyError, RuntimeError, SettingsError) as error:
            sys.stderr.write(f"{path} cannot be read as a golden file: {error}\n")
            return 2
        for name, difference in found.items():
            equal = difference < LIMIT  # False for NaN too
            all_equal = all_equal and equal
            print(f"{path.name}  {name}  {difference:.3g}  {'ok' if equal else 'DIFFERS'}")
    return 0 if all_equal else 1


if __name__ == "__main__":
    sys.exit(main())
