"""Tensors of Meta's `.pt` files, of safetensors, and of folders as transformers writes them."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from pipeline.errors import SettingsError
from pipeline.format.json.strict_json import parse_any

INDEX, WHOLE = "model.safetensors.index.json", "model.safetensors"
PICKLED = (".pt", ".pth", ".bin")
PREFIXES = ("module.", "backbone.", "encoder.")
"""That stand before a tensor's own name: of wrappers in training, and of the part of a model."""


def read_tensors(path: Path, section: str | None) -> dict[str, Tensor]:
    """Every tensor of a file or folder under its own name, without prefixes.

    Args:
        path: a `.pt` file, a `.safetensors` file, or a folder with `model.safetensors` or its index.
        section: of a `.pt` file: the key under which the encoder lies; None: the file is its state dict.

    Raises:
        SettingsError: it cannot be read, an index and its files disagree, or two tensors have one name.
    """
    try:
        found = _read_folder(path) if path.is_dir() else _read_file(path, section)
    except (OSError, ValueError, RuntimeError, EOFError, SafetensorError, pickle.UnpicklingError) as error:
        raise SettingsError(f"{path} holds no weights that can be read: {error}") from error
    plain: dict[str, Tensor] = {}
    for name, tensor in found.items():
        own = _own_name(name)
        if own in plain:
            raise SettingsError(f"{path}: two tensors are named {own} once prefixes are taken off, one of them {name}")
        plain[own] = tensor
    return plain


def _own_name(name: str) -> str:
    for prefix in PREFIXES * 2:
        name = name.removeprefix(prefix)
    return name


def _read_folder(folder: Path) -> dict[str, Tensor]:
    if (folder / INDEX).is_file():
        return _read_sharded(folder)
    if (folder / WHOLE).is_file():
        return _read_safetensors(folder / WHOLE)
    raise SettingsError(f"{folder} holds neither {WHOLE} nor {INDEX}")


def _read_sharded(folder: Path) -> dict[str, Tensor]:
    """The files that the index names hold what it says, no tensor less or more."""
    placed = parse_any((folder / INDEX).read_text()).get("weight_map")
    if not isinstance(placed, dict) or not all(isinstance(file, str) for file in placed.values()):
        raise SettingsError(f"{folder / INDEX} has no weight_map of file names")
    found: dict[str, Tensor] = {}
    for file in sorted(set(placed.values())):
        if Path(file).name != file:
            raise SettingsError(f"{folder / INDEX} names {file!r}, which is not a file of its own folder")
        tensors = _read_safetensors(folder / file)
        listed = {name for name, where in placed.items() if where == file}
        _compare(folder / file, listed, tensors)
        found |= tensors
    return found


def _compare(path: Path, listed: set[str], tensors: Mapping[str, Tensor]) -> None:
    if missing := sorted(listed - tensors.keys()):
        raise SettingsError(f"{path} lacks {missing[0]}, which the index places there ({len(missing)} in all)")
    if foreign := sorted(tensors.keys() - listed):
        raise SettingsError(f"{path} holds {foreign[0]}, which the index does not place there ({len(foreign)} in all)")


def _read_file(path: Path, section: str | None) -> dict[str, Tensor]:
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    if path.suffix not in PICKLED:
        raise SettingsError(f"{path}: a file of weights ends in .safetensors, {', '.join(PICKLED)}")
    content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    return _section(path, content, section)


def _section(path: Path, content: Any, section: str | None) -> dict[str, Tensor]:
    """The encoder's state dict in a checkpoint, or the checkpoint itself if it is one."""
    if not isinstance(content, dict):
        raise SettingsError(f"{path} holds a {type(content).__name__}, expected a dictionary of tensors")
    inner = content if all(isinstance(value, Tensor) for value in content.values()) else content.get(section)
    if not isinstance(inner, dict) or not all(isinstance(value, Tensor) for value in inner.values()):
        raise SettingsError(
            f"{path} holds no tensors under {section!r}; its keys are {', '.join(map(str, sorted(content, key=str)))}: "
            "is it the file of another encoder?"
        )
    return dict(inner)


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    with safe_open(path, "pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - a handle is no mapping
