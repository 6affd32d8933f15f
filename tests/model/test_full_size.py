"""The full-size model on this machine: a step in bf16 beside its estimate, and a released-size `.pt`. Slow: minutes and
about 15 GiB."""

from __future__ import annotations

import json
import multiprocessing
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from model.batch import to_device
from model.estimate import estimate_step
from model.exchange.starvla import load_starvla
from model.normalize import unit_stats
from model.settings import BackboneSettings, ModelSettings
from model.vla_jepa import build_model
from pipeline.format.build import load_build
from pipeline.format.build_settings import InputSettings, WindowPolicy
from pipeline.streaming.reader import SampleReader
from tests.jobs.runs import audited, build_config, robot_source
from tests.model.student.test_loading import FULL_SIZES

pytestmark = pytest.mark.slow

BF16 = ModelSettings(backbone=BackboneSettings(kind="random", dtype="bfloat16"))
GIB = 2**30


def in_a_process_of_its_own(function: Any, *arguments: Any) -> dict[str, Any]:
    """So that the peak memory is that of the function alone."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        result: dict[str, Any] = pool.submit(function, *arguments).result()
        return result


def peak_memory() -> int:
    """Highest number of bytes this process has held. `getrusage` counts what its parent held when it was started."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return 1024 * int(line.split()[1])


def one_step(build_path: Path) -> dict[str, Any]:
    """One forward and backward pass on one real sample, whose latents alone are made up."""
    build = load_build(build_path)
    batch = SampleReader(build, "train").read(np.arange(1))
    moved = to_device(batch, torch.device("cpu"), BF16.predictor.views)
    sizes = replace(build.sizes, tokens=256, width=1024)
    latent = (BF16.predictor.views, sizes.tokens, sizes.width)
    observation = moved.observation
    targets = replace(moved.targets, context=torch.randn(1, *latent), latents=torch.randn(1, sizes.steps, *latent))
    before, started = peak_memory(), time.monotonic()
    model = build_model(BF16, sizes, unit_stats(sizes)).train()
    built = time.monotonic()
    with torch.autocast("cpu", torch.bfloat16):
        losses = model.losses(observation, targets)
    between = time.monotonic()
    losses.total.backward()
    ended, memory = time.monotonic(), peak_memory() - before
    with FlopCounterMode(display=False) as flops, torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        model.losses(observation, targets)
    return {
        "sizes": sizes,
        "instruction": observation.instruction[0],
        "losses": [losses.world_model.item(), losses.action.item() if losses.action is not None else None],
        "finite": all(p.grad is None or bool(p.grad.isfinite().all()) for p in model.parameters()),
        "without_gradient": [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None],
        "memory": memory,
        "forward": flops.get_total_flops(),
        "seconds": [round(s, 1) for s in (built - started, between - built, ended - between)],
    }


def test_a_step_in_bf16_takes_what_the_estimate_says(
    shared_data: Path,
    ray_session: None,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source = robot_source(shared_data / "lerobot_v21" / "unitree_g1_inspire_bottle", name="g1", val_share=0.5)
    config = build_config(
        tmp_path / "g1", source, window=WindowPolicy(interval=3, every=60), inputs=InputSettings(image_size=224)
    )
    build = audited(config)
    # Else glibc keeps freed blocks of up to 32 MiB, and counts what the model no longer uses.
    monkeypatch.setenv("MALLOC_MMAP_THRESHOLD_", str(2**20))
    step = in_a_process_of_its_own(one_step, build.path)
    assert step["finite"]
    assert step["without_gradient"] == []
    assert all(np.isfinite(step["losses"]))
    estimate = estimate_step(BF16, step["sizes"], 1, ("robot",), True, step["instruction"])
    expected = estimate.weights + estimate.passes
    built, forward, backward = step["seconds"]
    with capsys.disabled():
        sys.stdout.write(
            f"\nfull size, bf16, one real sample on the CPU: built in {built} s, forward {forward} s, backward "
            f"{backward} s; peak {step['memory'] / GIB:.2f} GiB, estimated {expected / GIB:.2f} GiB\n"
        )
    assert sum(estimate.forward.values()) == step["forward"]
    assert step["memory"] == pytest.approx(expected, rel=0.1)


def load_released(path: Path) -> dict[str, Any]:
    model = build_model(BF16, FULL_SIZES, unit_stats(FULL_SIZES))
    account = load_starvla(model, path)
    content = torch.load(path, mmap=True)
    sample = {
        "student.model.language_model.layers.27.mlp.down_proj.weight": (
            "qwen_vl_interface.model.model.language_model.layers.27.mlp.down_proj.weight"
        ),
        "predictor.predictor_blocks.11.mlp.fc2.weight": "vj_predictor.predictor_blocks.11.mlp.fc2.weight",
        "action_head.model.transformer_blocks.15.ff.net.2.weight": (
            "action_model.model.transformer_blocks.15.ff.net.2.weight"
        ),
    }
    own = model.state_dict()
    same = [torch.equal(own[ours].bfloat16(), content[theirs]) for ours, theirs in sample.items()]
    return {"same": same, "loaded": len(account.loaded), "unused": len(account.unused), "memory": peak_memory()}


def test_a_checkpoint_of_the_released_size_is_loaded(
    reference_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """All 1617 tensors of the released checkpoint with random values in bf16, 5.6 GiB."""
    shapes = json.loads((reference_dir / "state_dict_starvla.json").read_text())
    path = tmp_path / "released.pt"
    torch.manual_seed(0)
    torch.save({name: torch.empty(shape, dtype=torch.bfloat16).uniform_(-1, 1) for name, shape in shapes.items()}, path)
    try:
        result = in_a_process_of_its_own(load_released, path)
    finally:
        path.unlink()
    with capsys.disabled():
        sys.stdout.write(
            f"\n{result['loaded']} loaded, {result['unused']} unused; peak {result['memory'] / GIB:.2f} GiB\n"
        )
    assert all(result["same"])
    assert result["loaded"] + result["unused"] == 1617
