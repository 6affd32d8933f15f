"""Messages as msgpack with NumPy arrays, in the encoding of `openpi-client` (its `msgpack_numpy`), byte for byte.

    array   {b"__ndarray__": true, b"data": bytes in C order, b"dtype": "<f4", b"shape": [7, 7]}
    scalar  {b"__npgeneric__": true, b"data": 0.5, b"dtype": "<f4"}

What comes from a network is not trusted: no pickle, no object, structured, complex or time dtypes, no array whose bytes
do not fill its shape, no containers longer than a message needs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import msgpack
import numpy as np

WIRE_VERSION = 1
"""Of the messages between `vlajepa serve` and its own client; rises when an older side would misread a newer one."""

KINDS = "biufU"
"""Kinds of dtype that may be sent: booleans, numbers, text."""

MOST_ENTRIES = 4096
"""Of one list or map. msgpack reserves memory by the length that a header claims, at every level of nesting."""

MOST_VALUES = 2**16
"""Of one message. Each becomes a Python object, whatever its size."""

_LAST_CODE = 0x10FFFF
_SURROGATES = (0xD800, 0xDFFF)
_LONGEST_DTYPE = 16
_MOST_AXES = 32


class WireError(ValueError):
    """Bytes that are no message, or a value that cannot be sent. The message explains what is wrong."""


def pack(message: Mapping[str, Any]) -> bytes:
    """Encode a message: str, numbers, lists, maps, NumPy arrays and scalars. Raises WireError for any other value or
    dtype."""
    try:
        packed: bytes = msgpack.packb(message, default=_encoded)
    except (TypeError, ValueError, OverflowError) as error:
        raise WireError(f"cannot be sent: {error}") from error
    return packed


def unpack(data: bytes, hook: Callable[[dict[Any, Any]], Any] | None = None) -> dict[str, Any]:
    """Decode a message; arrays are read-only views of `data`. Raises WireError for what the module excludes, or no map
    with text keys. hook: makes values of maps in another encoding of arrays than the module's."""
    _require_few_values(data)
    try:
        message = msgpack.unpackb(
            data, object_hook=hook or _decoded, max_array_len=MOST_ENTRIES, max_map_len=MOST_ENTRIES, max_ext_len=16
        )
    except WireError:
        raise
    except Exception as error:  # msgpack raises half a dozen kinds, some without a text
        raise WireError(f"not a msgpack message: {type(error).__name__}: {error}") from error
    if not isinstance(message, dict) or not all(isinstance(key, str) for key in message):
        raise WireError(f"a message is a map with text for keys, got {_kind(message)}")
    return message


_SIZED = {0xC4: 1, 0xC5: 2, 0xC6: 4, 0xD9: 1, 0xDA: 2, 0xDB: 4, 0xC7: 1, 0xC8: 2, 0xC9: 4}
"""Bytes of the length of binary, text and extension values; an extension has one byte more, its type."""
_FIXED = {0xCA: 4, 0xCB: 8, 0xCC: 1, 0xCD: 2, 0xCE: 4, 0xCF: 8, 0xD0: 1, 0xD1: 2, 0xD2: 4, 0xD3: 8}
_FIXED |= {0xD4: 2, 0xD5: 3, 0xD6: 5, 0xD7: 9, 0xD8: 17}
_CONTAINERS = {0xDC: (2, 1), 0xDD: (4, 1), 0xDE: (2, 2), 0xDF: (4, 2)}
"""Bytes of the count, and values an entry, of lists and maps."""


def _require_few_values(data: bytes) -> None:
    """Raise WireError for more than `MOST_VALUES`, before any of them is made. Walks the headers (msgpack's
    specification) and nothing else; what is cut off is left to msgpack."""
    at, missing, seen, end = 0, 1, 0, len(data)
    while missing and at < end:
        seen, missing, head = seen + 1, missing - 1, data[at]
        if seen > MOST_VALUES or missing > MOST_VALUES:
            raise WireError(f"a message may hold {MOST_VALUES:,} values, lists and maps included")
        at += 1
        if 0x80 <= head <= 0x9F:
            missing += (head & 0x0F) * (2 if head < 0x90 else 1)
        elif 0xA0 <= head <= 0xBF:
            at += head & 0x1F
        elif head in _CONTAINERS:
            size, each = _CONTAINERS[head]
            missing += each * int.from_bytes(data[at : at + size], "big")
            at += size
        elif head in _SIZED:
            size = _SIZED[head]
            at += size + int.from_bytes(data[at : at + size], "big") + (0xC7 <= head <= 0xC9)
        else:
            at += _FIXED.get(head, 0)


def _encoded(value: Any) -> Any:
    if not isinstance(value, (np.ndarray, np.generic)):
        raise WireError(f"a {type(value).__name__} cannot be sent")
    if value.dtype.kind not in KINDS:
        raise WireError(f"dtype {value.dtype} cannot be sent; use booleans, numbers or text")
    if isinstance(value, np.ndarray):
        return {b"__ndarray__": True, b"data": value.tobytes(), b"dtype": value.dtype.str, b"shape": value.shape}
    return {b"__npgeneric__": True, b"data": value.item(), b"dtype": value.dtype.str}


def _decoded(value: dict[Any, Any]) -> Any:
    if b"__ndarray__" in value:
        return _array(value)
    if b"__npgeneric__" in value:
        return _scalar(value)
    return value


def array_of(value: Mapping[Any, Any]) -> np.ndarray:
    """The array of a map with data, dtype and shape. Raises WireError for what the module excludes."""
    return _array({key.encode(): value.get(key) for key in ("data", "dtype", "shape")})


def _array(value: Mapping[Any, Any]) -> np.ndarray:
    dtype, data, shape = _dtype(value), value.get(b"data"), value.get(b"shape")
    if not isinstance(data, bytes):
        raise WireError(f"an array's data must be bytes, got {_kind(data)}")
    if (
        not isinstance(shape, list)
        or len(shape) > _MOST_AXES
        or not all(type(size) is int and size >= 0 for size in shape)
    ):
        raise WireError(f"an array's shape must be a list of up to {_MOST_AXES} sizes, got {str(shape)[:200]}")
    wanted = math.prod(shape) * dtype.itemsize
    if wanted != len(data):
        raise WireError(f"an array of {dtype} {shape} takes {wanted} bytes, got {len(data)}")
    try:
        array: np.ndarray = np.ndarray(tuple(shape), dtype, data)
    except ValueError as error:  # an empty array with an axis beyond what NumPy can count
        raise WireError(f"no array of {dtype} {shape}: {error}") from error
    if dtype.kind == "U":
        codes = np.frombuffer(data, np.dtype(np.uint32).newbyteorder(dtype.byteorder))
        if ((codes > _LAST_CODE) | ((codes >= _SURROGATES[0]) & (codes <= _SURROGATES[1]))).any():
            raise WireError("an array of text holds codes that are no characters")  # NumPy would not look
    return array


def _scalar(value: Mapping[Any, Any]) -> np.generic:
    dtype, data = _dtype(value), value.get(b"data")
    wanted = {"b": bool, "i": int, "u": int, "f": (int, float), "U": str}[dtype.kind]
    if not isinstance(data, wanted):  # type: ignore[arg-type]
        raise WireError(f"a scalar of {dtype} cannot be made of {_kind(data)}")
    try:
        scalar: np.generic = dtype.type(data)
    except (ValueError, OverflowError) as error:
        raise WireError(f"no scalar of {dtype}: {error}") from error
    return scalar


def _dtype(value: Mapping[Any, Any]) -> np.dtype[Any]:
    """The dtype of an encoded array or scalar, if it may be sent."""
    name = value.get(b"dtype")
    if not isinstance(name, str) or len(name) > _LONGEST_DTYPE:
        raise WireError(f"a dtype must be a short text such as '<f4', got {str(name)[:40]!r}")
    try:
        dtype = np.dtype(name)
    except (TypeError, ValueError, SyntaxError) as error:
        raise WireError(f"there is no dtype {name!r}") from error
    if dtype.kind not in KINDS or dtype.subdtype is not None:
        raise WireError(f"dtype {name!r} is refused; send booleans, numbers or text")
    return dtype


def _kind(value: Any) -> str:
    return "a map with other keys" if isinstance(value, dict) else f"a {type(value).__name__}"
