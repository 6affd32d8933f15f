"""features.json of an RLDS dataset, as far as the audit reads it: sizes of pictures, and how numbers are stored.

N steps of a record, W channels of a field.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.audit.raw.base import RawError, reading
from pipeline.audit.raw.decoding.tfrecord import Values
from pipeline.audit.raw.place import Place
from pipeline.format.json.strict_json import parse_any

_INTEGERS = (f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64))
_NUMBERS = frozenset({"bool", "float16", "float32", "float64", *_INTEGERS})
_DEEPEST = 50
"""Dictionaries inside each other."""


@dataclass(frozen=True)
class Tensor:
    """A field of numbers of a step, as it is declared. encoding: none or bytes."""

    dtype: str
    dimensions: tuple[int, ...]
    encoding: str

    def read(self, values: Values, steps: int) -> NDArray[np.float64]:
        """float64 [N, W] of a record of N = `steps` steps.

        Raises:
            ValueError: they are not so many numbers of this type.
        """
        known = self.dtype in _NUMBERS and self.encoding in ("none", "bytes")
        if not known or any(size < 0 for size in self.dimensions):
            raise ValueError(f"{self.dtype} {self.dimensions} with encoding {self.encoding} is not read by the audit")
        width = prod(self.dimensions)
        if self.encoding == "none":
            if isinstance(values, list):
                raise ValueError("it holds bytes, declared are numbers")
            if len(values) != steps * width:
                raise ValueError(f"it has {len(values)} values, declared are {width} for each of {steps} steps")
            return values.astype(self.dtype).astype(np.float64).reshape(steps, width)
        if not isinstance(values, list) or len(values) != steps:
            raise ValueError(f"it has {len(values)} values, declared is one of bytes for each of {steps} steps")
        return np.array([self._unpacked(packed, width) for packed in values], np.float64).reshape(steps, width)

    def _unpacked(self, packed: bytes, width: int) -> NDArray[Any]:
        kind = np.dtype(self.dtype)
        if len(packed) != width * kind.itemsize:
            raise ValueError(f"a value of it has not the {width * kind.itemsize} bytes that are declared")
        return np.frombuffer(packed, kind)


@dataclass(frozen=True)
class Features:
    """The fields of a step, by their paths in it.

    pictures  camera -> declared height and width, where they are declared; below 1: any
    tensors   fields of numbers
    """

    pictures: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    tensors: Mapping[str, Tensor] = field(default_factory=dict)


def read_features(path: Place) -> Features:
    """Features of a step; none without the file. Raises RawError when it is none."""
    if not path.is_file():
        return Features()
    pictures: dict[str, tuple[int, ...]] = {}
    tensors: dict[str, Tensor] = {}
    with reading(path):
        steps = parse_any(path.read_bytes())["featuresDict"]["features"]["steps"]["sequence"]["feature"]
        _collect(steps, "", pictures, tensors)
    cameras = {name.removeprefix("observation/"): size for name, size in pictures.items()}
    return Features(cameras, tensors)


def _collect(node: Any, prefix: str, pictures: dict[str, tuple[int, ...]], tensors: dict[str, Tensor]) -> None:
    if prefix.count("/") > _DEEPEST:
        raise RawError(f"features.json has more than {_DEEPEST} dictionaries inside each other")
    for name, feature in node["featuresDict"]["features"].items():
        if "featuresDict" in feature:
            _collect(feature, f"{prefix}{name}/", pictures, tensors)
        elif "image" in feature:
            pictures[prefix + name] = _dimensions(feature["image"])[:2]
        elif "tensor" in feature:
            tensor = feature["tensor"]
            encoding = str(tensor.get("encoding") or "none")
            tensors[prefix + name] = Tensor(str(tensor.get("dtype")), _dimensions(tensor), encoding)


def _dimensions(declared: Mapping[str, Any]) -> tuple[int, ...]:
    return tuple(int(size) for size in (declared.get("shape") or {}).get("dimensions") or ())
