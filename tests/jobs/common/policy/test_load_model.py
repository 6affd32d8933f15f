"""A checkpoint whose state.json asks for much more than its weights, with its hashes repaired."""

from __future__ import annotations

import json
import math
import resource
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from jobs.common.policy.load_model import load_model
from model.checkpoint.checkpoint import save_weights
from model.checkpoint.state_file import read_state, write_state
from model.normalize import unit_stats
from model.settings import tiny_settings
from model.vla_jepa import build_model
from pipeline.errors import BuildError
from pipeline.format.schema import Sizes

SIZES = Sizes(views=2, image_size=64, steps=3, tokens=16, width=32, state=8, chunk=7, action=7)


def saved(folder: Path, model: Mapping[str, Mapping[str, Any]], sizes: Mapping[str, Any]) -> Path:
    """The weights of a tiny model; its state says something else."""
    settings = tiny_settings()
    state = json.loads(json.dumps({"model": asdict(settings), "model_sizes": asdict(SIZES)}))
    for section, values in model.items():
        state["model"][section] |= values
    state["model_sizes"] |= sizes
    save_weights(folder / "step-00000000", build_model(settings, SIZES, unit_stats(SIZES)), state)
    return folder / "step-00000000"


@pytest.mark.parametrize(
    ("model", "sizes", "message"),
    [
        ({"predictor": {"dim": 4 * 10**8}}, {}, "asks for a model of more than"),
        ({"action_head": {"max_positions": 10**12}}, {}, "asks for a model of more than"),
        ({"action_head": {"hidden_size": 2**40}}, {}, "asks for a model of more than"),
        ({"predictor": {"depth": 10**9}}, {}, r"must be 1\.\.1000,"),
        ({"action_head": {"layers": 10**9}}, {}, r"must be 1\.\.1000,"),
        ({"action_head": {"inference_steps": 10**9}}, {}, r"must be 1\.\.1000,"),
        ({"prompt": {"embodied_tokens": 10**9}}, {}, r"must be 1\.\.10000,"),
        ({}, {"state": 10**12}, "model_sizes.state must be 0 to 10000"),
        ({}, {"views": -1}, "model_sizes.views must be 0 to 64"),
        ({}, {"image_size": 10**6}, "model_sizes.image_size must be 0 to 2048"),
    ],
)
def test_sizes_that_the_weights_do_not_fill_are_refused(
    tmp_path: Path, model: dict[str, dict[str, Any]], sizes: dict[str, Any], message: str
) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(BuildError, match=message):
        load_model(saved(tmp_path, model, sizes))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**20  # KiB: one GiB


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("state_scaler.center", torch.full((8,), math.nan), "scale of the state: channel 0 has the middle nan"),
        ("state_scaler.half_range", torch.full((8,), math.inf), "scale of the state: .* half the range inf"),
        ("action_scaler.half_range", torch.full((7,), -1.0), "scale of the action: .* half the range -1"),
        ("action_scaler.half_range", torch.zeros(7), "scale of the action: .* half the range 0"),
        ("state_scaler.center", torch.zeros(8, dtype=torch.int32), "state_scaler.center is I32"),
        ("state_scaler.center", torch.zeros(8, dtype=torch.complex64), "state_scaler.center is C64"),
    ],
)
def test_scales_and_types_that_no_training_writes_are_refused(
    tmp_path: Path, name: str, value: torch.Tensor, message: str
) -> None:
    folder = saved(tmp_path, {}, {})
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    save_file(tensors | {name: value}, folder / "model.safetensors")
    state = read_state(folder)
    (folder / "state.json").unlink()
    write_state(folder, state)
    with pytest.raises(BuildError, match=message):
        load_model(folder)


def test_what_was_saved_is_loaded_and_nothing_stays_limited(tmp_path: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_AS)
    assert load_model(saved(tmp_path, {}, {})).sizes == SIZES
    assert resource.getrlimit(resource.RLIMIT_AS) == limits
