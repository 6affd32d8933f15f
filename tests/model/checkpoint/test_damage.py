"""A damaged checkpoint is named, and never loaded: every file of it, in every way."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from model.checkpoint.checkpoint import copy_tensors, newest_whole, save_weights, write_checkpoint
from model.checkpoint.folders import list_checkpoints
from model.checkpoint.state_file import read_state, verify_checkpoint
from pipeline.errors import CorruptError

FILES = ("model.safetensors", "optimizer.safetensors", "state.json")


def write(folder: Path, *steps: int) -> list[Path]:
    torch.manual_seed(0)
    model = nn.Linear(64, 64)
    adamw = torch.optim.AdamW(model.parameters())
    model(torch.ones(1, 64)).sum().backward()
    adamw.step()
    tensors = copy_tensors(model, dict(model.named_parameters()), adamw)
    return [write_checkpoint(folder, step, tensors, {"loss": 0.5, "name": "é"}) for step in steps]


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip_a_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def append(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b" 0")


def remove(path: Path) -> None:
    path.unlink()


@pytest.mark.parametrize("damage", [cut, flip_a_bit, empty, append, remove])
@pytest.mark.parametrize("name", FILES)
def test_the_file_is_named(tmp_path: Path, name: str, damage: Callable[[Path], None]) -> None:
    (path,) = write(tmp_path, 3)
    verify_checkpoint(path)
    assert read_state(path) == {"loss": 0.5, "name": "é", "step": 3}
    damage(path / name)
    with pytest.raises(CorruptError, match=name):
        verify_checkpoint(path)


@pytest.mark.parametrize("change", ["step", "files", "sha256", "more"])
def test_a_changed_state_is_not_read(tmp_path: Path, change: str) -> None:
    (path,) = write(tmp_path, 3)
    state = json.loads((path / "state.json").read_text())
    state[change] = {"step": 4, "files": {}, "sha256": "0" * 64, "more": 1}[change]
    (path / "state.json").write_text(json.dumps(state))
    for read in (read_state, verify_checkpoint):
        with pytest.raises(CorruptError, match=r"state\.json was changed"):
            read(path)


def test_a_state_with_a_hole_is_not_read(tmp_path: Path) -> None:
    (path,) = write(tmp_path, 3)
    os.truncate(path / "state.json", 2**42)
    for read in (read_state, verify_checkpoint):
        with pytest.raises(CorruptError, match=r"it has 4,398,046,511,104 bytes, at most 67,108,864 are read"):
            read(path)


def test_a_file_that_does_not_belong_to_it(tmp_path: Path) -> None:
    (path,) = write(tmp_path, 3)
    (path / "notes.txt").write_text("mine")
    with pytest.raises(CorruptError, match=r"notes\.txt does not belong to it"):
        verify_checkpoint(path)


def test_a_checkpoint_under_the_name_of_another_step_is_damaged(tmp_path: Path) -> None:
    first, second = write(tmp_path, 1, 2)
    moved = second.rename(tmp_path / "step-00000008")
    with pytest.raises(CorruptError, match=r"it holds step 2, its name says 8"):
        verify_checkpoint(moved)
    found, (problem,) = newest_whole(tmp_path)
    assert (found, "its name says 8" in problem) == (first, True)
    copy = (tmp_path / "damaged-step-00000008").rename(tmp_path / "best")
    verify_checkpoint(copy)


def test_the_newest_whole_one_is_taken(tmp_path: Path) -> None:
    steps = write(tmp_path, 1, 2, 3, 4)
    flip_a_bit(steps[3] / "model.safetensors")
    remove(steps[2] / "optimizer.safetensors")
    found, problems = newest_whole(tmp_path)
    assert found == steps[1]
    assert "step-00000004 is damaged: model.safetensors" in problems[0]
    assert "step-00000003 is damaged: optimizer.safetensors is missing" in problems[1]
    assert list_checkpoints(tmp_path) == steps[:2]
    aside = tmp_path / "damaged-step-00000004"
    assert (aside / "optimizer.safetensors").read_bytes() == (steps[0] / "optimizer.safetensors").read_bytes()
    assert newest_whole(tmp_path) == (steps[1], [])
    write(tmp_path, 4)
    assert newest_whole(tmp_path) == (steps[3], [])


def test_without_a_whole_one_nothing_is_touched(tmp_path: Path) -> None:
    steps = write(tmp_path, 1, 2)
    for path in steps:
        cut(path / "model.safetensors")
    with pytest.raises(CorruptError, match=r"no whole checkpoint; restore one"):
        newest_whole(tmp_path)
    assert list_checkpoints(tmp_path) == steps
    assert newest_whole(tmp_path / "none") == (None, [])


def test_all_files_have_the_mode_of_umask(tmp_path: Path) -> None:
    (path,) = write(tmp_path, 1)
    save_weights(tmp_path / "weights", nn.Linear(2, 2), {})
    modes = {file.stat().st_mode & 0o777 for folder in (path, tmp_path / "weights") for file in folder.iterdir()}
    assert len(modes) == 1
    plain = tmp_path / "plain"
    plain.touch()
    assert modes == {plain.stat().st_mode & 0o777}


@pytest.mark.parametrize("kind", ["a folder", "a file"])
def test_a_link_leads_to_no_other_weights(tmp_path: Path, kind: str) -> None:
    """What was hashed is what lies in the folder."""
    (path,) = write(tmp_path / "run", 3)
    target = tmp_path / "elsewhere"
    target.mkdir()
    (path / "sharded").symlink_to(target if kind == "a folder" else path / "model.safetensors")
    with pytest.raises(CorruptError, match="sharded is no regular file; copy the checkpoint without links"):
        verify_checkpoint(path)


def test_copies_under_other_names_are_no_checkpoints_of_the_run(tmp_path: Path) -> None:
    kept = write(tmp_path, 4, 100_000_000)
    for name in ("step-old", "step-00000003.bak", "step-4"):
        shutil.copytree(kept[0], tmp_path / name)
    assert list_checkpoints(tmp_path) == kept
    assert newest_whole(tmp_path)[0] == kept[1]
