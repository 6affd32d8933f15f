"""What CUDA graphs need of the dataclasses they are recorded for: a graph reads and writes tensors at fixed places."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass, replace
from typing import Any

import torch
from torch import Tensor

WARM_UP = 2
"""Runs before one is recorded: the first ones compile and choose algorithms."""


def warm_up(function: Callable[[], object]) -> None:
    """Run something a few times on a stream of its own, as recording wants it."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(WARM_UP):
            function()
    torch.cuda.current_stream().wait_stream(stream)


def parts_of(value: Any) -> list[Any]:
    """What a dataclass, a tuple or a list is made of."""
    if is_dataclass(value):
        return [getattr(value, field.name) for field in fields(value)]
    return list(value) if isinstance(value, tuple | list) else []


def tensors_of(value: Any) -> Iterator[Tensor]:
    """All tensors, in order."""
    if isinstance(value, Tensor):
        yield value
    for part in parts_of(value):
        yield from tensors_of(part)


def shapes_of(value: Any) -> Any:
    """Shapes and types of tensors, and everything else as it is: what a graph is recorded for."""
    if isinstance(value, Tensor):
        return tuple(value.shape), value.dtype
    parts = parts_of(value)
    return tuple(map(shapes_of, parts)) if parts else value


def copied(value: Any) -> Any:
    """The same with tensors of its own."""
    if isinstance(value, Tensor):
        return value.clone()
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{field.name: copied(getattr(value, field.name)) for field in fields(value)})
    return tuple(map(copied, value)) if isinstance(value, tuple) else value


def fill(places: Any, values: Any) -> None:
    """Copy tensors into those of the same structure that a graph reads."""
    for place, tensor in zip(tensors_of(places), tensors_of(values), strict=True):
        place.copy_(tensor, non_blocking=True)
