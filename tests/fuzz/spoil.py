"""Spoiled copies of a file's bytes, drawn from a seeded generator: of its JSON values, its lines, or any bytes."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable
from typing import Any

STRANGE: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 2**31, 2**63, -(2**63) - 1, 10**400, 0.5, -0.0, 1e308, float("nan"), float("inf")),
    *(
        "",
        "0",
        "a" * 5000,
        "../../etc/passwd",
        "/etc/passwd",
        "\x1b[31mred\x1b[0m\n\r",
        "\ud800",
        "\u202eabc",
        "%s{0}$(id)",
    ),
    *([], {}, [[]], {"": None}, [None], [0, 0], [{}], ["train"], {"min": [1]}, "train", "val", "shards", "clean"),
)
"""Put in place of a value."""

NESTED = b"[" * 3000 + b"]" * 3000


def spoil(data: bytes, name: str, rng: random.Random) -> bytes:
    """Other bytes for the file `name`; now and then the same ones."""
    ways: list[Callable[[bytes, random.Random], bytes]] = [_bytes]
    if name.endswith((".json", ".jsonl")):
        ways = [_value if name.endswith(".json") else _line] * 4 + [_text, _bytes]
    return rng.choice(ways)(data, rng)


def _bytes(data: bytes, rng: random.Random) -> bytes:
    """Flipped bits, a cut, more at the end, zeros, or another order."""
    way, at = rng.randrange(6), rng.randrange(max(1, len(data)))
    if way == 0:
        return data[:at]
    if way == 1:
        return data + rng.randbytes(rng.choice((1, 8, 512)))
    if way == 2:
        return data[:at] + bytes(min(len(data) - at, rng.choice((1, 16, 4096)))) + data[at + 16 :]
    if way == 3:
        return data[at:] + data[:at]
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 4, 64))):
        if changed:
            changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _text(data: bytes, rng: random.Random) -> bytes:
    """What JSON may not be, or a key that is there twice."""
    odd = (b"", b"null", b"[]", b"{}", b"0", b'""', NESTED, b"\xef\xbb\xbf" + data, data * 2, b"\xff\xfe", b"1e999")
    twice = data.replace(b"{", b'{"split": "train", "split": "val", ', 1)
    return rng.choice((*odd, twice, b" " + data, data.replace(b"\n", b"\r\n"), data.replace(b'"', b"'", 2)))


def _value(data: bytes, rng: random.Random) -> bytes:
    """One value is another one, gone, or there twice."""
    try:
        value = json.loads(data)
    except ValueError:
        return _bytes(data, rng)
    holders = list(_holders(value))
    if not holders:
        return json.dumps(rng.choice(STRANGE)).encode()
    _change(rng.choice(holders), rng)
    text = json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False)
    return text.encode("utf-8", "surrogatepass") + b"\n"


def _line(data: bytes, rng: random.Random) -> bytes:
    """A line is spoiled, gone, there twice, or in another place."""
    lines = data.splitlines(keepends=True) or [b"{}\n"]
    at, way = rng.randrange(len(lines)), rng.randrange(8)
    if way == 0:
        del lines[at]
    elif way == 1:
        lines.insert(at, rng.choice(lines))
    elif way == 2:
        rng.shuffle(lines)
    elif way == 3:
        lines[at] = _text(lines[at], rng) + b"\n"
    else:
        lines[at] = b" ".join(_value(lines[at], rng).split(b"\n")).strip() + b"\n"
    return b"".join(lines)


def _change(holder: dict[str, Any] | list[Any], rng: random.Random) -> None:
    """Change an entry of a list or an object in place."""
    keys: list[Any] = list(holder) if isinstance(holder, dict) else list(range(len(holder)))
    key, way = rng.choice(keys), rng.randrange(8)
    if way == 0:
        del holder[key]
    elif way == 1 and isinstance(holder, dict):
        holder[f"{key}_"] = holder.pop(key)
    elif way == 1:
        holder.append(copy.deepcopy(holder[key]))  # type: ignore[union-attr]
    elif way == 2:
        holder[key] = copy.deepcopy(holder[rng.choice(keys)])
    elif way == 3 and isinstance(holder[key], (int, float)):
        holder[key] = holder[key] + rng.choice((1, -1, 0.5, -1000))
    elif way == 4 and isinstance(holder[key], str):
        holder[key] = holder[key][::-1] + rng.choice(("", "x"))
    else:
        holder[key] = copy.deepcopy(rng.choice(STRANGE))


def _holders(value: Any) -> list[Any]:
    """Lists and objects with an entry, however deep."""
    inner = list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else []
    return ([value] if inner else []) + [holder for entry in inner for holder in _holders(entry)]
