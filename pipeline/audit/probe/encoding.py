"""What a probed function returned, as arrays with names."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

SMALLEST = float(np.finfo(np.float64).tiny)
"""The change of an output whose bits differ and whose values do not, as 0.0 and -0.0."""


@dataclass(frozen=True)
class Encoding:
    """Arrays by name: `context`, or `context.NAME` of one with several parts, and `target 1` .. `target K`."""

    context: Mapping[str, NDArray[Any]]
    targets: Mapping[str, NDArray[Any]]

    @property
    def outputs(self) -> Mapping[str, NDArray[Any]]:
        """All of them."""
        return {**self.context, **self.targets}


def read_encoding(value: Any) -> Encoding:
    """What the function returned.

    Args:
        value: a pair (context, targets). The context is an array, a tensor, a text, bytes, or a mapping or sequence of
            these. The targets have their steps along the first axis, or are a sequence of arrays.

    Raises:
        ValueError: it is no such pair, or a part of it is no array.
    """
    if not isinstance(value, tuple | list) or len(value) != 2:
        raise ValueError(f"the function must return the pair (context, targets), got {type(value).__name__}")
    context, targets = value
    steps = [array for _, array in _named("target", targets)]
    if len(steps) == 1 and not isinstance(targets, Mapping | tuple | list):
        steps = list(np.atleast_1d(steps[0]))
    named = {f"target {step}": np.asarray(array) for step, array in enumerate(steps, 1)}
    return Encoding(dict(_named("context", context)), named)


def relative_change(found: NDArray[Any], before: NDArray[Any]) -> float:
    """L2 norm of the difference over the norm of `before`; 0.0 only if all bits are equal, infinite for another shape
    or type and where a value is not finite."""
    if found.shape != before.shape or found.dtype != before.dtype:
        return math.inf
    if found.tobytes() == before.tobytes():
        return 0.0
    a, b = found.astype(np.float64), before.astype(np.float64)
    gap, size = float(np.linalg.norm(a - b)), float(np.linalg.norm(b))
    if not (math.isfinite(gap) and math.isfinite(size)):
        return math.inf
    return max(gap / size if size else math.inf if gap else 0.0, SMALLEST)


def _named(name: str, value: Any) -> Iterator[tuple[str, NDArray[Any]]]:
    if isinstance(value, Mapping):
        for key, part in value.items():
            yield from _named(f"{name}.{key}", part)
    elif isinstance(value, tuple | list) and not all(isinstance(part, int | float) for part in value):
        for at, part in enumerate(value, 1):
            yield from _named(f"{name}.{at}", part)
    else:
        yield name, _array(name, value)


def _array(name: str, value: Any) -> NDArray[Any]:
    if isinstance(value, str | bytes):
        return np.frombuffer(value.encode() if isinstance(value, str) else value, np.uint8)
    if hasattr(value, "detach"):  # a tensor of PyTorch, which this module does not import
        value = value.detach().cpu()
        value = value.float().numpy() if str(value.dtype) == "torch.bfloat16" else value.numpy()
    array = np.asarray(value)
    if array.dtype.kind not in "biuf":
        raise ValueError(f"{name} must be an array of numbers, got {type(value).__name__} of {array.dtype}")
    return array.copy()  # the function may return a buffer that it uses again
