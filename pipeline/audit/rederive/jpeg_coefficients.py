"""The quantised DCT coefficients of a baseline JPEG, decoded from its entropy-coded scan (ITU-T T.81, annex F).

For images in the one form that a build may hold: three components, no subsampling, one scan, no restarts. Every bit is
accounted for: a coded zero run before an end of block, or fill bits other than ones, could carry a message.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

BLOCK = 64
"""Coefficients of a block of 8 x 8 pixels, in zigzag order."""

_Table = list[tuple[int, int]]
"""For each 16 bits that may come next: bits of the code at their start (0: none), and its symbol."""


def decode_coefficients(data: bytes) -> tuple[bytes, NDArray[np.int32]]:
    """Header and coefficients of a JPEG that `parse_jpeg` finds no fault in.

    Returns:
        Every byte before the scan; int32 [3, blocks, 64], the blocks in rows, coefficients in zigzag order.

    Raises:
        ValueError: the scan is not what an encoder makes of three components of whole blocks.
    """
    at, frame, tables, choice = _headers(data)
    height, width = int.from_bytes(frame[1:3], "big"), int.from_bytes(frame[3:5], "big")
    if frame[7::3] != b"\x11\x11\x11":
        raise ValueError("its components are subsampled")
    if any(pair[0] not in tables or 0x10 | pair[1] not in tables for pair in choice):
        raise ValueError("its scan names Huffman tables that it does not hold")
    scan = data[at:-2]
    if b"\xff" in scan.replace(b"\xff\x00", b""):
        raise ValueError("its scan holds restarts")
    bits = _Bits(scan.replace(b"\xff\x00", b"\xff"))
    blocks = -(-height // 8) * -(-width // 8)
    pairs = [(tables[dc], tables[0x10 | ac]) for dc, ac in choice]
    out = np.zeros((3, blocks, BLOCK), np.int32)
    last = [0, 0, 0]
    for block in range(blocks):
        for component, (dc, ac) in enumerate(pairs):
            values = _block(bits, dc, ac, last[component])
            last[component] = values[0]
            out[component, block] = values
    bits.end()
    return data[:at], out


def _headers(data: bytes) -> tuple[int, bytes, dict[int, _Table], Sequence[tuple[int, int]]]:
    """Where the scan begins, the frame's segment, Huffman tables by class and number, and those of each component."""
    at, frame = 2, b""
    tables: dict[int, _Table] = {}
    while True:
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        body = data[at + 4 : at + 2 + length]
        at += 2 + length
        if marker == 0xC0:
            frame = body
        elif marker == 0xDD:
            raise ValueError("it names a restart interval")
        elif marker == 0xC4:
            tables |= _tables(body)
        elif marker == 0xDA:
            return at, frame, tables, [(body[i] >> 4, body[i] & 15) for i in (2, 4, 6)]


def _tables(body: bytes) -> dict[int, _Table]:
    found: dict[int, _Table] = {}
    at = 0
    while at < len(body):
        counts = body[at + 1 : at + 17]
        end = at + 17 + sum(counts)
        found[body[at]] = _table(counts, body[at + 17 : end])
        at = end
    return found


@lru_cache(maxsize=64)
def _table(counts: bytes, symbols: bytes) -> _Table:
    table, code, at = [(0, 0)] * 65536, 0, 0
    for length, count in enumerate(counts, start=1):
        for symbol in symbols[at : at + count]:
            first, size = code << (16 - length), 1 << (16 - length)
            if first + size > 65536:
                raise ValueError("its Huffman codes are more than fit")
            table[first : first + size] = [(length, symbol)] * size
            code += 1
        at += count
        code <<= 1
    return table


class _Bits:
    """Bits of the scan, the first byte's highest one first."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at, self._held, self._count = data, 0, 0, 0

    def symbol(self, table: _Table) -> int:
        if self._count < 16:
            self._fill()
        length, symbol = table[(self._held >> (self._count - 16)) & 0xFFFF]
        if length == 0:
            raise ValueError("its scan holds bits that are no Huffman code")
        self._count -= length
        return symbol

    def value(self, size: int) -> int:
        """A number of `size` bits: its upper half as it is, its lower half negative."""
        if self._count < size:
            self._fill()
        self._count -= size
        value = (self._held >> self._count) & ((1 << size) - 1)
        return value if value >> (size - 1) else value - (1 << size) + 1

    def _fill(self) -> None:
        """Hold 48 bits more. Past the end they are ones; `end` sees when too many were taken."""
        more = self._data[self._at : self._at + 6].ljust(6, b"\xff")
        self._held = (self._held & ((1 << self._count) - 1)) << 48 | int.from_bytes(more, "big")
        self._at, self._count = self._at + 6, self._count + 48

    def end(self) -> None:
        """Raise ValueError unless fewer than 8 bits are left, all ones."""
        left = self._count - 8 * max(0, self._at - len(self._data))
        if not 0 <= left < 8 or (self._held >> (self._count - left)) & ((1 << left) - 1) != (1 << left) - 1:
            raise ValueError("its scan does not end with its last block, filled with ones")


def _block(bits: _Bits, dc: _Table, ac: _Table, last: int) -> list[int]:
    values = [0] * BLOCK
    size = bits.symbol(dc)
    if size > 11:
        raise ValueError("its scan holds a number of more than 11 bits")
    values[0] = last + (bits.value(size) if size else 0)
    at, zeros = 1, False
    while at < BLOCK:
        run, size = divmod(bits.symbol(ac), 16)
        if size == 0:
            if run == 0 and not zeros:
                return values
            if run != 15:
                raise ValueError("its scan codes zeros that end no block")
            zeros, at = True, at + 16
            continue
        at, zeros = at + run, False
        if at >= BLOCK or size > 10:
            raise ValueError("its scan holds more than a block")
        values[at] = bits.value(size)
        at += 1
    if zeros:
        raise ValueError("its scan codes zeros that end no block")
    return values
