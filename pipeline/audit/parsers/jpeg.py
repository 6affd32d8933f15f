"""A JPEG parsed marker by marker: baseline JFIF and nothing that could carry more than the image (rule L10).

Markers and segment layouts: ITU-T T.81, annex B; the APP0 segment: JFIF 1.02.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import simplejpeg

_NAMES = {
    0xFE: "a comment",
    0xE1: "EXIF or XMP (APP1)",
    0xE2: "an ICC profile (APP2)",
    0xC2: "a progressive frame",
    0xDD: "restarts (DRI)",
}
_AC = frozenset({0x00, 0xF0, *(16 * run + bits for run in range(16) for bits in range(1, 11))})
_DC = frozenset(range(12))
_SYMBOLS = {0x00: _DC, 0x01: _DC, 0x10: _AC, 0x11: _AC}
"""Class and number of a Huffman table -> the symbols of 8-bit baseline images (T.81, tables F.1 and F.2)."""

_MARKER = re.compile(rb"\xff[^\x00]")


@dataclass(frozen=True)
class Jpeg:
    """What is wrong, "" if nothing is; `layout` is every header byte that must be equal in all images of a build."""

    problem: str
    layout: bytes = b""


class _StructureError(Exception):
    """Structure that cannot be parsed further."""


def parse_jpeg(data: bytes, size: int) -> Jpeg:
    """Walk a JPEG that must be `size` x `size`. Never raises, whatever the bytes."""
    try:
        return Jpeg("", _walk(data, size))
    except _StructureError as error:
        return Jpeg(str(error))


def _walk(data: bytes, size: int) -> bytes:
    if data[:2] != b"\xff\xd8":
        raise _StructureError(f"does not start with SOI but with {data[:2]!r}")
    layout: list[bytes] = []
    seen: list[int] = []
    tables: set[int] = set()
    at = 2
    while not seen or seen[-1] != 0xDA:
        if len(data) < at + 4 or data[at] != 0xFF:
            raise _StructureError(f"has no segment at byte {at}")
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        body = data[at + 4 : at + 2 + length]
        if length < 2 or len(body) != length - 2:
            raise _StructureError(f"has a truncated segment at byte {at}")
        _check_segment(marker, body, size, seen, tables)
        if marker != 0xC4:  # Huffman tables may be optimised for each image
            layout.append(data[at : at + 2 + length])
        seen.append(marker)
        at += 2 + length
    missing = {0xE0, 0xDB, 0xC0, 0xC4} - set(seen)
    if missing:
        raise _StructureError(f"lacks the segments {', '.join(f'{m:#04x}' for m in sorted(missing))}")
    _check_scan(data, at)
    _check_blocks(data)
    return b"".join(layout)


def _check_segment(marker: int, body: bytes, size: int, seen: list[int], tables: set[int]) -> None:
    problem = ""
    if (marker == 0xE0) != (not seen):
        problem = "must have one JFIF segment (APP0), as its first"
    elif marker == 0xE0:
        if len(body) != 14 or body[:5] != b"JFIF\0" or body[12:] != b"\0\0":
            problem = "has an APP0 segment that is not plain JFIF without a thumbnail"
    elif marker == 0xDB:  # 8-bit tables of 64 entries, nothing else
        if not body or len(body) % 65 or any(body[i] > 3 for i in range(0, len(body), 65)):
            problem = "has malformed quantisation tables"
    elif marker == 0xC4:
        _check_huffman(body, tables)
    elif marker == 0xC0:
        _check_frame(body, size, seen)
    elif marker == 0xDA:
        if len(body) != 10 or body[0] != 3 or body[1:7:2] != b"\x01\x02\x03" or body[7:] != b"\x00\x3f\x00":
            problem = "has a scan that is not one baseline scan of all three components"
    else:
        problem = f"holds {_NAMES.get(marker, f'a segment of type {marker:#04x}')}, which is not allowed"
    if problem:
        raise _StructureError(problem)


def _check_huffman(body: bytes, tables: set[int]) -> None:
    """Tables whose code counts account for every byte of the segment, each of them once, of symbols that can occur."""
    at = 0
    while at < len(body):
        first, end = at + 17, at + 17 + sum(body[at + 1 : at + 17])
        if body[at] not in _SYMBOLS or end > len(body):
            raise _StructureError("has malformed Huffman tables")
        symbols = body[first:end]
        if body[at] in tables or len(set(symbols)) < len(symbols) or not set(symbols) <= _SYMBOLS[body[at]]:
            raise _StructureError("has a Huffman table twice, or with symbols that never occur")
        tables.add(body[at])
        at = end
    if at == 0:
        raise _StructureError("has an empty Huffman segment")


def _check_frame(body: bytes, size: int, seen: list[int]) -> None:
    if 0xC0 in seen:
        raise _StructureError("has two frames")
    if len(body) != 15 or body[0] != 8 or body[5] != 3 or body[6::3] != b"\x01\x02\x03":
        raise _StructureError("is not 8-bit with three components (YCbCr)")
    height, width = int.from_bytes(body[1:3], "big"), int.from_bytes(body[3:5], "big")
    if (height, width) != (size, size):
        raise _StructureError(f"is {width} x {height}, the build's image_size is {size}")


def _check_scan(data: bytes, at: int) -> None:
    """Entropy-coded data holds no markers; EOI is the file's last two bytes."""
    for match in _MARKER.finditer(data, at):
        marker = data[match.start() + 1]
        if marker != 0xD9:
            raise _StructureError(f"holds {_NAMES.get(marker, f'marker {marker:#04x}')} inside its scan")
        if match.end() != len(data):
            raise _StructureError(f"has {len(data) - match.end()} bytes after its end (EOI)")
        if match.start() == at:
            raise _StructureError("has an empty scan")
        return
    raise _StructureError("is truncated: no EOI")


def _check_blocks(data: bytes) -> None:
    """The scan is the blocks of the image and nothing after them, but for what the decoder holds in advance (8 bytes).

    Blocks are decoded to one grey value each, which is quick.
    """
    try:
        simplejpeg.decode_jpeg(data, "GRAY", fastdct=True, fastupsample=True, min_height=1, min_width=1)
    except ValueError as error:
        raise _StructureError(f"has a scan that is not its blocks and nothing else ({error})") from error
