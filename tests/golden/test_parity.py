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
    "vjepa2_small.safetensors",
    "vjepa2_1_small.safetensors",
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


@pytest.mark.parametrize("name", FILES)
def test_a_changed_weight_is_seen(reference_dir: Path, tmp_path: Path, name: str) -> None:
    """Positive control: each file's outputs depend on what the test above compares."""
    tensors = load_file(reference_dir / name)
    with safe_open(reference_dir / name, "pt") as file:
        metadata = file.metadata()
    weight = next(key for key in sorted(tensors) if "blocks.1" in key and key.endswith("weight"))
    tensors[weight] *= 1.01
    save_file(tensors, tmp_path / name, metadata)
    assert max(differences(tmp_path / name).values()) > LIMIT


def test_a_file_of_another_kind_is_refused_with_what_it_lacks(
    reference_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tensors = load_file(reference_dir / FILES[0])
    save_file(tensors, tmp_path / "bare.safetensors")
    (tmp_path / "text.safetensors").write_text("no tensors")
    for name, message in (("bare", "no `config`"), ("text", "cannot be read"), ("none", "cannot be read")):
        assert main([str(tmp_path / f"{name}.safetensors")]) == 2
        assert message in capsys.readouterr().err


def test_a_nan_is_a_difference(reference_dir: Path, tmp_path: Path) -> None:
    good = reference_dir / "predictor_small.safetensors"
    tensors = load_file(good)
    with safe_open(good, "pt") as file:
        metadata = file.metadata()
    tensors["output/predicted_latents"][0, 0, 0] = float("nan")
    save_file(tensors, tmp_path / "nan.safetensors", metadata)
    assert main([str(tmp_path / "nan.safetensors"), str(good)]) == 1
