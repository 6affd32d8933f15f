"""Checkpoints: a folder with weights, optimiser state and the position in the run, whole or absent.

    step-00000100/
      model.safetensors      parameters and buffers by their names in `VLAJEPA`
      optimizer.safetensors  state tensors as PARAMETER_NAME/STATE_NAME
      averages.safetensors   moving averages of the trained parameters, float32 (a run with `trainer.ema`)
      state.json             the step, what the run decided (settings, builds, verdicts), SHA-256 of every file

A sharded model (FSDP2) is written in shards, see `sharded_checkpoint.py`. Models of both kinds load both kinds.
Random numbers need no state: the trainer seeds every step from (seed, step).
"""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor

from model.checkpoint.averages import AVERAGES, has_averages
from model.checkpoint.folders import list_checkpoints
from model.checkpoint.sharded_checkpoint import SHARDED, fill_sharded, sharded_shapes
from model.checkpoint.sharded_metadata import INDEX
from model.checkpoint.state_file import PREFIX, verify_checkpoint, write_state
from model.checkpoint.temporary import TEMPORARY, sync, temporary_for
from pipeline.errors import BuildError, CorruptError

_DAMAGED = "damaged-"

_FLOATS = ("F64", "F32", "F16", "BF16")
"""Types of safetensors that weights may have: others would be cut to size without a word."""

_MOMENTS = frozenset({"step", "exp_avg", "exp_avg_sq"})
"""AdamW's state of a parameter."""

SHOWN = 20
"""Tensors that a message lists."""


def copy_tensors(
    model: nn.Module,
    masters: Mapping[str, nn.Parameter],
    optimizer: torch.optim.Optimizer,
    averages: Mapping[str, Tensor] | None = None,
) -> dict[str, dict[str, Tensor]]:
    """The tensors of a checkpoint by kind, as copies on the CPU; see `checkpoint_tensors`."""
    return {kind: _on_cpu(tensors) for kind, tensors in checkpoint_tensors(model, masters, optimizer, averages).items()}


def checkpoint_tensors(
    model: nn.Module,
    masters: Mapping[str, nn.Parameter],
    optimizer: torch.optim.Optimizer,
    averages: Mapping[str, Tensor] | None = None,
) -> dict[str, dict[str, Tensor]]:
    """The tensors of a checkpoint themselves: "model", "optimizer" and, where there are any, `AVERAGES`. `masters`: by
    name, what the optimiser steps and the model computes with a rounded copy of."""
    moments = {
        f"{name}/{key}": value
        for name, parameter in masters.items()
        for key, value in optimizer.state.get(parameter, {}).items()
        if isinstance(value, Tensor)
    }
    return {
        "model": model.state_dict() | {name: parameter.detach() for name, parameter in masters.items()},
        "optimizer": moments,
        **({AVERAGES: dict(averages)} if averages else {}),
    }


def write_checkpoint(
    folder: Path, step: int, tensors: Mapping[str, Mapping[str, Tensor]], state: Mapping[str, Any]
) -> Path:
    """Write what `copy_tensors` gave as `folder/step-NNNNNNNN`, whole or not at all. Returns its path."""
    folder.mkdir(parents=True, exist_ok=True)
    remove_unfinished(folder)
    temporary = folder / f"{TEMPORARY}{uuid.uuid4().hex}"
    temporary.mkdir()
    for kind, content in tensors.items():
        save_file(dict(content), temporary / f"{kind}.safetensors")
    return finish_checkpoint(temporary, folder, step, state)


def finish_checkpoint(temporary: Path, folder: Path, step: int, state: Mapping[str, Any]) -> Path:
    """Add state.json to a filled temporary folder, sync it, and give it its name."""
    write_state(temporary, {**state, "step": step})
    for path in (*temporary.rglob("*"), temporary):
        sync(path)
    final = folder / f"{PREFIX}{step:08d}"
    if final.exists():
        _remove(final)
    os.replace(temporary, final)
    sync(folder)
    return final


def temporary_checkpoint(folder: Path, step: int) -> Path:
    """Name of the unfinished checkpoint that several processes fill."""
    return folder / f"{TEMPORARY}{step:08d}"


def remove_unfinished(folder: Path) -> None:
    """Remove what killed writers left behind."""
    for leftover in folder.glob(f"{TEMPORARY}*"):
        shutil.rmtree(leftover)


def prune_checkpoints(folder: Path, keep: int, keep_every: int = 0) -> None:
    """Delete all but the newest `keep` checkpoints and those of every `keep_every`-th step (0: none)."""
    for old in list_checkpoints(folder)[:-keep]:
        if not keep_every or int(old.name.removeprefix(PREFIX)) % keep_every:
            _remove(old)


def _remove(checkpoint: Path) -> None:
    """Under its own name it is whole or absent; what a kill leaves of it goes with what is unfinished."""
    doomed = checkpoint.with_name(f"{TEMPORARY}{uuid.uuid4().hex}")
    os.replace(checkpoint, doomed)
    shutil.rmtree(doomed)


def save_weights(folder: Path, model: nn.Module, state: Mapping[str, Any]) -> None:
    """Write a checkpoint without an optimiser, to start a run from; whole or not at all.

    Raises:
        FileExistsError: the folder exists.
    """
    with new_folder(folder) as temporary:
        save_file(_on_cpu(model.state_dict()), temporary / "model.safetensors")
        write_state(temporary, {**state, "step": 0})


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """A temporary folder to fill. It is synced and renamed to `folder` at the end; after an error it is removed.

    Raises:
        FileExistsError: the folder exists.
    """
    if folder.exists():
        raise FileExistsError(f"{folder} exists; choose another folder")
    with temporary_for(folder, folder=True) as temporary:
        yield temporary
        for path in (*temporary.iterdir(), temporary):
            sync(path)
        os.replace(temporary, folder)
        sync(folder.parent)


def newest_whole(folder: Path) -> tuple[Path | None, list[str]]:
    """The newest checkpoint whose files are those that were written, and what was wrong with newer ones. These get the
    name `damaged-step-…`: they are neither taken nor counted, and not lost.

    Raises:
        CorruptError: there are checkpoints, and none is whole; all keep their names.
    """
    found, problems = list_checkpoints(folder), []
    for at, checkpoint in reversed(list(enumerate(found))):
        try:
            verify_checkpoint(checkpoint)
        except CorruptError as error:
            problems.append(str(error))
            continue
        for damaged in found[at + 1 :]:
            aside = damaged.with_name(f"{_DAMAGED}{damaged.name}")
            shutil.rmtree(aside, ignore_errors=True)
            os.replace(damaged, aside)
        return checkpoint, problems
    if found:
        shown = "\n  ".join(problems)
        raise CorruptError(f"{folder} has no whole checkpoint; restore one, or start a run in another out=:\n  {shown}")
    return None, problems


def load_weights(
    checkpoint: Path,
    model: nn.Module,
    keep: tuple[str, ...] = (),
    masters: Mapping[str, Tensor] | None = None,
    averaged: bool = True,
) -> None:
    """Load a checkpoint's model in place.

    Args:
        masters: tensors to fill in place of the model's own, by name.
        keep: prefixes of tensors that stay as they are in the model, whatever the file has.
        averaged: take the averages of weights where the checkpoint has them, as all do but a run that goes on.

    Raises:
        BuildError: names or shapes differ; the first `SHOWN` tensors concerned are listed. Or a file holds no tensors.
    """
    everything = model.state_dict() | dict(masters or {})
    own = {name: tensor for name, tensor in everything.items() if not name.startswith(keep)}
    stored = {name: shape for name, shape in _stored_shapes(checkpoint, "model").items() if not name.startswith(keep)}
    _require_equal_shapes(checkpoint, own, stored)
    better: dict[str, Tensor] = {}
    if averaged and has_averages(checkpoint):
        found = _stored_shapes(checkpoint, AVERAGES)
        shapes = {name: shape for name, shape in found.items() if not name.startswith(keep)}
        better = {name: own.pop(name) for name in shapes if name in own}
        _require_equal_shapes(checkpoint, better, shapes)
    _fill(checkpoint, "model", own)
    _fill(checkpoint, AVERAGES, better)


def load_averages(checkpoint: Path, averages: Mapping[str, Tensor]) -> None:
    """Load averages in place, for a run that goes on. Raises BuildError: those of other weights are there."""
    _require_equal_shapes(checkpoint, averages, _stored_shapes(checkpoint, AVERAGES))
    _fill(checkpoint, AVERAGES, averages)


def _require_equal_shapes(checkpoint: Path, own: Mapping[str, Tensor], stored: Mapping[str, tuple[int, ...]]) -> None:
    problems = [f"missing {name}" for name in sorted(own.keys() - stored.keys())]
    problems += [f"unknown {name}" for name in sorted(stored.keys() - own.keys())]
    problems += [
        f"{name}: {stored[name]} in the file, {tuple(own[name].shape)} in the model"
        for name in sorted(own.keys() & stored.keys())
        if stored[name] != tuple(own[name].shape)
    ]
    if problems:
        more = f"\n  … and {len(problems) - SHOWN} more" if len(problems) > SHOWN else ""
        raise BuildError(f"{checkpoint} does not fit the model:\n  " + "\n  ".join(problems[:SHOWN]) + more)


def load_optimizer(checkpoint: Path, parameters: Mapping[str, nn.Parameter], optimizer: torch.optim.Optimizer) -> None:
    """Load a checkpoint's optimiser in place; moments are on the devices of their parameters and sharded like them.

    Args:
        parameters: what the optimiser steps, by name.

    Raises:
        BuildError: it has a state of a parameter that is not trained, a part of one, or a moment of another shape.
    """
    stored = _stored_shapes(checkpoint, "optimizer")
    trained = {id(parameter): group for group in optimizer.param_groups for parameter in group["params"]}
    wanted: dict[str, Tensor] = {}
    for name, shape in stored.items():
        owner, _, key = name.rpartition("/")
        if owner not in parameters or id(parameters[owner]) not in trained:
            raise BuildError(f"{checkpoint} has {name}, but this run does not train {owner}; start a new one")
        parameter = parameters[owner]
        whole = {f"{owner}/{part}" for part in _MOMENTS} <= stored.keys() and key in _MOMENTS
        if not whole or shape != (() if key == "step" else tuple(parameter.shape)):
            raise BuildError(
                f"{checkpoint} has {name} of the shape {shape}: not the optimiser's whole state of {owner}, which has "
                f"the shape {tuple(parameter.shape)}; start a new run"
            )
        if shape == ():  # the number of steps: AdamW's fused form counts on the device, the others on the CPU
            fused = trained[id(parameter)].get("fused")
            moment = torch.zeros((), device=parameter.device if fused else "cpu")
        else:
            moment = torch.zeros_like(parameter, requires_grad=False)
        optimizer.state[parameter][key] = wanted[name] = moment
    _fill(checkpoint, "optimizer", wanted)


def _stored_shapes(checkpoint: Path, kind: str) -> dict[str, tuple[int, ...]]:
    if (checkpoint / SHARDED / INDEX).is_file():
        return sharded_shapes(checkpoint, kind)
    with _tensors_of(checkpoint, kind) as file:
        slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118  no mapping
        for name, found in slices.items():
            if found.get_dtype() not in _FLOATS:
                raise CorruptError(
                    f"{checkpoint}/{kind}.safetensors: {name} is {found.get_dtype()}; all tensors of a checkpoint are "
                    "floating point"
                )
        return {name: tuple(found.get_shape()) for name, found in slices.items()}


@torch.no_grad()
def _fill(checkpoint: Path, kind: str, wanted: Mapping[str, Tensor]) -> None:
    if not wanted:
        return
    if (checkpoint / SHARDED / INDEX).is_file():
        fill_sharded(checkpoint, kind, wanted)
        return
    with _tensors_of(checkpoint, kind) as file:
        for name, tensor in wanted.items():
            found = file.get_tensor(name)
            if isinstance(tensor, DTensor):
                found = found.to(tensor.device)
                found = distribute_tensor(found, tensor.device_mesh, tensor.placements, src_data_rank=None)
            tensor.copy_(found)


@contextmanager
def _tensors_of(checkpoint: Path, kind: str) -> Iterator[Any]:
    """An open file of tensors. Raises CorruptError when it is none."""
    path = checkpoint / f"{kind}.safetensors"
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except (SafetensorError, OSError) as error:
        raise CorruptError(
            f"{path} cannot be read: {error}; it was not written by this version, or is damaged"
        ) from error


def _on_cpu(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copies on the CPU: safetensors refuses tensors that share memory."""
    return {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors.items()}
