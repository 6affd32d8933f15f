"""Checkpoints: a folder with weights, optimiser state and the position in the run, whole or absent.

    step-00000100/
      model.safetensors      parameters and buffers by their names in `VLAJEPA`
      optimizer.safetensors  state tensors as PARAMETER_NAME/STATE_NAME
      state.json             the step and what the run decided (settings, builds, verdicts)

Random numbers need no state: the trainer seeds every step from (seed, step).
"""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from pipeline.errors import BuildError

PREFIX = "step-"
_TEMPORARY = ".tmp-"


def save_checkpoint(
    folder: Path, step: int, model: nn.Module, optimizer: torch.optim.Optimizer, state: Mapping[str, Any], keep: int
) -> Path:
    """Write `folder/step-NNNNNNNN` atomically, then delete all but the newest `keep` checkpoints.

    Returns:
        The checkpoint's path.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for leftover in folder.glob(f"{_TEMPORARY}*"):
        shutil.rmtree(leftover)
    temporary = folder / f"{_TEMPORARY}{uuid.uuid4().hex}"
    temporary.mkdir()
    save_file(_contiguous(model.state_dict()), temporary / "model.safetensors")
    save_file(_contiguous(_optimizer_tensors(model, optimizer)), temporary / "optimizer.safetensors")
    (temporary / "state.json").write_text(json.dumps({**state, "step": step}, indent=2) + "\n")
    for path in (*temporary.iterdir(), temporary):
        _sync(path)
    final = folder / f"{PREFIX}{step:08d}"
    if final.exists():
        shutil.rmtree(final)
    os.replace(temporary, final)
    _sync(folder)
    for old in list_checkpoints(folder)[:-keep]:
        shutil.rmtree(old)
    return final


def save_weights(folder: Path, model: nn.Module, state: Mapping[str, Any]) -> None:
    """Write a checkpoint without an optimiser, to start a run from; whole or not at all.

    Raises:
        FileExistsError: the folder exists.
    """
    with new_folder(folder) as temporary:
        save_file(_contiguous(model.state_dict()), temporary / "model.safetensors")
        (temporary / "state.json").write_text(json.dumps({**state, "step": 0}, indent=2) + "\n")


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """A temporary folder to fill, which stands as `folder` at the end, synced to disk; nothing stands after an error.

    Raises:
        FileExistsError: the folder exists.
    """
    if folder.exists():
        raise FileExistsError(f"{folder} exists; choose another folder")
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = folder.with_name(f"{_TEMPORARY}{uuid.uuid4().hex}")
    temporary.mkdir()
    try:
        yield temporary
        for path in (*temporary.iterdir(), temporary):
            _sync(path)
        os.replace(temporary, folder)
        _sync(folder.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def list_checkpoints(folder: Path) -> list[Path]:
    """Finished checkpoints by rising step."""
    return sorted(path for path in folder.glob(f"{PREFIX}*") if (path / "state.json").is_file())


def read_state(checkpoint: Path) -> dict[str, Any]:
    """The content of state.json.

    Raises:
        BuildError: it cannot be read.
    """
    try:
        state: dict[str, Any] = json.loads((checkpoint / "state.json").read_bytes())
    except (OSError, ValueError) as error:
        raise BuildError(f"{checkpoint}/state.json cannot be read: {error}") from error
    return state


def load_weights(checkpoint: Path, model: nn.Module, keep: tuple[str, ...] = ()) -> None:
    """Load model.safetensors in place.

    Args:
        keep: prefixes of tensors that stay as they are in the model, whatever the file has.

    Raises:
        BuildError: names or shapes differ; every tensor concerned is listed.
    """
    path = checkpoint / "model.safetensors"
    tensors = load_file(path)
    own = {name: tensor for name, tensor in model.state_dict().items() if not name.startswith(keep)}
    tensors = {name: tensor for name, tensor in tensors.items() if not name.startswith(keep)}
    problems = [f"missing {name}" for name in sorted(own.keys() - tensors.keys())]
    problems += [f"unknown {name}" for name in sorted(tensors.keys() - own.keys())]
    problems += [
        f"{name}: {tuple(tensors[name].shape)} in the file, {tuple(own[name].shape)} in the model"
        for name in sorted(own.keys() & tensors.keys())
        if tensors[name].shape != own[name].shape
    ]
    if problems:
        raise BuildError(f"{path} does not fit the model:\n  " + "\n  ".join(problems))
    model.load_state_dict(tensors, strict=False)  # what it may not find was kept on purpose: all else is checked above


def load_optimizer(checkpoint: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Load optimizer.safetensors in place; moments move to the devices of their parameters."""
    tensors = load_file(checkpoint / "optimizer.safetensors")
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    content: dict[int, dict[str, torch.Tensor]] = {}
    for index, parameter in enumerate(parameters):
        prefix = names[id(parameter)] + "/"
        found = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
        if found:
            content[index] = found
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": content, "param_groups": groups})


def _optimizer_tensors(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    return {
        f"{name}/{key}": value
        for name, parameter in model.named_parameters()
        for key, value in optimizer.state.get(parameter, {}).items()
        if isinstance(value, torch.Tensor)
    }


def _contiguous(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Copies on the CPU: safetensors refuses tensors that share memory."""
    return {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors.items()}


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
