"""A tar file parsed byte by byte. What a lenient reader would skip, this one reports.

The format (docs/formats.md): ustar, regular files, mode 0444, owner and time 0, zero padding to blocks of 512, two
zero blocks and zero padding to 10,240 at the end, nothing else.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass

from pipeline.audit.finding import Problem

BLOCK = 512
RECORD = 10_240

_ZERO = bytes(BLOCK)
_HEADER = struct.Struct("100s 8s 8s 8s 12s 12s 8s 1s 100s 8s 32s 32s 16s 155s 12s")
_FIELDS = ("name", "mode", "uid", "gid", "size", "mtime", "checksum", "type", "linkname", "magic", "uname", "gname")
_LAST_FIELDS = ("device", "prefix", "padding")
"""POSIX.1-1988 ustar header."""


@dataclass(frozen=True)
class Member:
    """One member: `offset` is that of its first payload byte."""

    name: str
    offset: int
    size: int


@dataclass(frozen=True)
class Tar:
    """Members in order, and what is wrong. `whole` is False when parsing had to stop early."""

    members: tuple[Member, ...]
    problems: tuple[Problem, ...]
    whole: bool


def parse_tar(data: memoryview) -> Tar:
    """Walk a tar from its first byte to its last. Never raises, whatever the bytes."""
    members: list[Member] = []
    problems: list[Problem] = []
    at = 0
    while True:
        header = bytes(data[at : at + BLOCK])
        if len(header) < BLOCK:
            problems.append(Problem("L7", f"truncated: no complete header at byte {at} of {len(data)}"))
            return Tar(tuple(members), tuple(problems), False)
        if header == _ZERO:
            problems += _end_problems(data, at)
            return Tar(tuple(members), tuple(problems), True)
        member, found = _member(header, at)
        problems += found
        if member is None:
            return Tar(tuple(members), tuple(problems), False)
        members.append(member)
        end = member.offset + member.size
        at = -(-end // BLOCK) * BLOCK
        if at > len(data):
            problems.append(Problem("L7", f"truncated inside member {member.name}"))
            return Tar(tuple(members), tuple(problems), False)
        if any(data[end:at]):
            problems.append(Problem("L10", f"the padding after member {member.name} holds data"))


def plain_header(name: bytes, size: int) -> bytes:
    """The only header allowed for a name of at most 100 bytes and a size."""
    head = name.ljust(100, b"\0") + b"0000444\0" + b"0000000\0" * 2 + b"%011o\0" % size + b"%011o\0" % 0
    tail = b"0".ljust(101, b"\0") + b"ustar\x0000".ljust(243, b"\0")
    total = sum(head) + sum(tail) + 8 * ord(" ")
    return (head + b"%06o\0 " % total + tail).ljust(BLOCK, b"\0")


def _member(header: bytes, at: int) -> tuple[Member | None, list[Problem]]:
    size_field = header[124:136]
    if not re.fullmatch(rb"[0-7]{11}\0", size_field):
        return None, [Problem("L7", f"no tar header at byte {at}: the size field holds {size_field!r}")]
    size = int(size_field[:11], 8)
    raw = header[:100].rstrip(b"\0")
    name = raw.decode("ascii", "backslashreplace")
    member = Member(name, at + BLOCK, size)
    expected = plain_header(raw, size)
    if header == expected:
        return member, []
    fields = zip((*_FIELDS, *_LAST_FIELDS), _HEADER.unpack(header), _HEADER.unpack(expected), strict=True)
    differing = [name for name, found, wanted in fields if found != wanted and name != "checksum"]
    if _checksum(header) != header[148:156]:
        return None, [Problem("L7", f"the header at byte {at} has a wrong checksum (fields: {', '.join(differing)})")]
    kind = {b"x": "a pax header", b"g": "a global pax header", b"L": "a GNU long name", b"K": "a GNU long link"}
    what = kind.get(header[156:157], f"not a plain regular file (differs in {', '.join(differing)})")
    return member, [Problem("L10", f"member {name} at byte {at} is {what}")]


def _checksum(header: bytes) -> bytes:
    """The checksum field as it must be: the sum of all bytes with the field itself read as spaces."""
    return b"%06o\0 " % (sum(header) - sum(header[148:156]) + 8 * ord(" "))


def _end_problems(data: memoryview, at: int) -> list[Problem]:
    expected = -(-(at + 2 * BLOCK) // RECORD) * RECORD
    problems = []
    if len(data) != expected:
        rule = "L7" if len(data) < expected else "L10"
        problems.append(Problem(rule, f"ends at byte {len(data)}; two zero blocks and padding end at {expected}"))
    if any(data[at:]):
        problems.append(Problem("L10", f"data after the end marker at byte {at}"))
    return problems
