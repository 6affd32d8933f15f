"""A function of tensors as CUDA graphs: one launch for the thousands of kernels of a call.

A graph reads and writes at fixed places, and is recorded for each set of shapes it meets. Arguments and results are
tensors, or dataclasses and tuples of them.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

WARM_UP = 2
"""Runs before one is recorded: the first ones compile and choose algorithms."""

KEPT = 16
"""Graphs that are kept, those used last."""

_Result = TypeVar("_Result")


@dataclass(frozen=True)
class _Recording(Generic[_Result]):
    """A recorded call: what runs it again, where it reads, and what it writes."""

    replay: Callable[[], None]
    arguments: tuple[Any, ...]
    result: _Result


class Recorded(Generic[_Result]):
    """A function whose calls are recorded, and run again for arguments of the same shapes.

    Args:
        function: of tensors on one CUDA device; must not wait for it, nor keep a cast of autocast's.
        undone: open while it runs unasked, to warm up and to be recorded; puts back what that changed.
    """

    def __init__(
        self, function: Callable[..., _Result], undone: Callable[[], AbstractContextManager[None]] = nullcontext
    ) -> None:
        self._function, self._undone = function, undone
        self._recorded: OrderedDict[Any, _Recording[_Result]] = OrderedDict()
        self._pool: Any = None

    def __call__(self, *arguments: Any) -> _Result:
        """The result in tensors that the next call writes to. The first call of a set of shapes takes some calls' time.

        Args:
            arguments: what is no tensor must be hashable; it belongs to the shapes.
        """
        key = shapes_of(arguments)
        if key not in self._recorded:
            self._recorded[key] = self._record(copied(arguments))
            if len(self._recorded) > KEPT:
                self._recorded.popitem(last=False)
        self._recorded.move_to_end(key)
        recorded = self._recorded[key]
        fill(recorded.arguments, arguments)
        recorded.replay()
        return recorded.result

    def _record(self, arguments: tuple[Any, ...]) -> _Recording[_Result]:
        def call() -> _Result:
            return self._function(*arguments)

        with self._undone():
            warm_up(call)
        self._pool = self._pool or torch.cuda.graph_pool_handle()
        with self._undone():
            replay, result = capture(call, self._pool)
        return _Recording(replay, arguments, result)


def warm_up(function: Callable[[], object]) -> None:
    """Run something a few times on a stream of its own, as recording wants it."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(WARM_UP):
            function()
    torch.cuda.current_stream().wait_stream(stream)


def capture(function: Callable[[], _Result], pool: Any) -> tuple[Callable[[], None], _Result]:
    """Record a call, which computes nothing yet: what runs it, and where its results will be."""
    graph = torch.cuda.CUDAGraph()
    # Threads that read samples go on meanwhile, and pin memory.
    with torch.cuda.graph(graph, pool=pool, capture_error_mode="thread_local"):
        result = function()
    return graph.replay, result


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
