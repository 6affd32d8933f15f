"""The reference's `.pt` checkpoint: one flat mapping of tensor names to tensors."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import Parameter

from model.checkpoint.temporary import sync, temporary_for
from model.exchange.names import Account
from model.exchange.weights import foreign_weights, load_foreign, other_wiring
from model.vla_jepa import VLAJEPA
from pipeline.errors import BuildError, SettingsError

LONGEST = 1000
"""Characters of a tensor's name."""


def load_starvla(model: VLAJEPA, path: Path, reinitialise: Sequence[str] = ()) -> Account:
    """Load in place. Tensors are mapped from the file, not read twice; nothing in it is executed.

    Raises:
        SettingsError: the file cannot be read, or does not fit; see `model.exchange.weights.load_foreign`.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # torch.load raises half a dozen kinds for a damaged file
        raise SettingsError(f"{path} is no PyTorch checkpoint of tensors alone: {error}") from error
    if not isinstance(content, dict) or not all(_is_named(name, tensor) for name, tensor in content.items()):
        raise SettingsError(f"{path} must hold a flat mapping of names to tensors whose values it stores densely")
    return load_foreign(model, content, "starvla", str(path), reinitialise)


def _is_named(name: object, tensor: object) -> bool:
    """A name, and an ordinary tensor: not sparse, nested, quantised, or on a device without values."""
    return (
        type(name) is str
        and len(name) <= LONGEST
        and type(tensor) in (Tensor, Parameter)
        and isinstance(tensor, Tensor)
        and tensor.layout == torch.strided
        and tensor.device.type == "cpu"
        and not (tensor.is_nested or tensor.is_quantized)
    )


def require_starvla(model: VLAJEPA) -> None:
    """Raise SettingsError with all that the format cannot hold of a model, trained or not."""
    if problems := other_wiring(model.settings):
        raise SettingsError("the reference's .pt cannot hold this model:\n  " + "\n  ".join(problems))


def save_starvla(model: VLAJEPA, path: Path) -> None:
    """Write a `.pt` with the reference's names, whole or not at all.

    It lacks what this model has no weights for: the target encoder and the predictor's two unused layers. The ranges
    of actions and state are not part of the format.

    Raises:
        SettingsError: the format cannot hold this model; or another process wrote `path` meanwhile.
    """
    require_starvla(model)
    with temporary_for(path) as temporary:
        try:
            with open(temporary, "wb") as file:
                torch.save(foreign_weights(model, "starvla"), file)
            sync(temporary)
        except (OSError, RuntimeError) as error:  # PyTorch's own writer has errors of its own
            raise BuildError(f"{path} cannot be written: {str(error).splitlines()[0]}; free space there") from error
        if path.exists():
            raise SettingsError(f"{path} was written by another process meanwhile; choose another out=")
        os.replace(temporary, path)
        sync(path.parent)
