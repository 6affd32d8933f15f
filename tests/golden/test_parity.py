"""Our modules compute what the reference modules computed."""

from __future__ import annotations

from pathlib import Path

import pytest
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from tests.golden.parity import LIMIT, differences, main

FILES = (
    "predictor_small.safetensors",
    "predictor_one_view.safetensors",
    "action_head_small.safetensors",
    "action_head_no_state.safetensors",
)


@pytest.mark.parametrize("name", FILES)
def test_outputs_are_those_of_the_reference(reference_dir: Path, name: str) -> None:
    found = differences(reference_dir / name)
    assert found
    assert max(found.values()) < LIMIT, found


def test_the_command_tells_equal_from_different(
    reference_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = reference_dir / "predictor_small.safetensors"
    assert main([str(good)]) == 0
    tensors = load_file(good)
    with safe_open(good, "pt") as file:
        metadata = file.metadata()
    tensors["output/predicted_latents"][0, 0, 0] += 1e-4
    changed = tmp_path / "changed.safetensors"
    save_file(tensors, changed, metadata)
    assert main([str(good), str(changed)]) == 1
    assert "changed.safetensors  predicted_latents" in capsys.readouterr().out


def test_a_nan_is_a_difference(reference_dir: Path, tmp_path: Path) -> None:
    good = reference_dir / "predictor_small.safetensors"
    tensors = load_file(good)
    with safe_open(good, "pt") as file:
        metadata = file.metadata()
    tensors["output/predicted_latents"][0, 0, 0] = float("nan")
    save_file(tensors, tmp_path / "nan.safetensors", metadata)
    assert main([str(tmp_path / "nan.safetensors"), str(good)]) == 1
