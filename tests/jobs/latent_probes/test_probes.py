"""Probes find what latent actions hold, and only that."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from jobs.latent_probes.features import read_probed, read_truth
from jobs.latent_probes.probe_latents import probe_run
from jobs.latent_probes.settings import ProbeLatentsConfig
from jobs.training.run import train
from model.normalize import unit_stats
from model.settings import tiny_settings
from model.vla_jepa import build_model
from pipeline.errors import RunError, SettingsError
from pipeline.format.build import Build
from tests.jobs.runs import train_config


def test_a_probe_finds_a_thing_that_is_there_and_no_thing_that_is_not(robot_build: Build, tmp_path: Path) -> None:
    train(train_config(tmp_path / "run", [robot_build], steps=1, warmup_steps=1, save_every=1))
    model = build_model(tiny_settings(), robot_build.sizes, unit_stats(robot_build.sizes)).eval()
    cpu = torch.device("cpu")
    episodes = {split: read_probed(model, robot_build, split, 10**6, {}, cpu) for split in ("train", "val")}
    assert all(name.endswith("summed over the chunk") for name in episodes["train"].things)
    assert len(episodes["train"].features) == robot_build.manifest["counts"]["train"]["samples"]
    with pytest.raises(SettingsError, match=r"truth must be one file a build \(robot\), got 2"):
        probe_run(ProbeLatentsConfig(run=tmp_path / "run", truth=(tmp_path / "a", tmp_path / "b")))
    rng, rows = np.random.default_rng(0), []
    for number in range(40):
        rows.append({"episode": f"{number:06d}"} | {f"noise_{i}": float(rng.normal()) for i in range(15)})
    (tmp_path / "truth.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    probes = {
        probe.thing: probe
        for probe in probe_run(
            ProbeLatentsConfig(run=tmp_path / "run", truth=(tmp_path / "truth.jsonl",), samples=200, held_out=200)
        )
    }
    # A few held-out episodes have one number each, which any probe meets now and then
    assert np.median([probes[f"noise_{i}"].trained for i in range(15)]) < 0.3
    assert any("summed" in thing for thing in probes)


def test_a_file_that_is_no_truth_is_named(tmp_path: Path) -> None:
    path = tmp_path / "truth.jsonl"
    path.write_text('{"episode": "000012", "named_x": 1}\n')
    assert read_truth(path) == {"000012": {"named_x": 1.0}}
    for no_file in (Path("/dev/zero"), tmp_path):
        with pytest.raises(RunError, match="is no file of at most"):
            read_truth(no_file)
    path.write_text('{"named_x": 1}\n')
    with pytest.raises(RunError, match="is no file of JSON lines like"):
        read_truth(path)
