"""A tar file parsed byte by byte. What a lenient reader would skip, this one reports.

The format (docs/formats.md): ustar, regular files, mode 0444, owner and time 0, zero padding to blocks of 512, two
zero blocks and zero padding to 10,240 at the end, nothing else.
"""

from __future__ import annotations

import re
import struct
import tarfile
from dataclasses import dataclass

from pipeline.audit.finding import Problem

BLOCK = 512
RECORD = 10_240

_HEADER = struct.Struct("100s 8s 8s 8s 12s 12s 8s 1s 100s 8s 32s 32s 16s 155s 12s")
_FIRST_FIELDS = ("name", "mode", "uid", "gid", "size", "mtime", "checksum", "type", "linkname", "magic")
_FIELDS = (*_FIRST_FIELDS, "uname", "gname", "device", "prefix", "padding")
"""POSIX.1-1988 ustar header."""

_KINDS = {b"x": "a pax header", b"g": "a global pax header", b"L": "a GNU long name", b"K": "a GNU long link"}


@dataclass(frozen=True)
class Member:
    """One member: `offset` is that of its first payload byte."""

    name: str
    offset: int
    size: int


@dataclass(frozen=True)
class Tar:
    """Members in order as far as they could be parsed, and what is wrong."""

    members: tuple[Member, ...] = ()
    problems: tuple[Problem, ...] = ()


def parse_tar(data: memoryview) -> Tar:
    """Walk a tar from its first byte to its last. Never raises, whatever the bytes."""
    members: list[Member] = []
    problems: list[Problem] = []
    at = 0
    while (header := bytes(data[at : at + BLOCK])) != bytes(BLOCK):
        if len(header) < BLOCK:
            problems.append(Problem("L7", f"truncated: no complete header at byte {at} of {len(data)}"))
            break
        member, found = _member(header, at)
        problems += found
        if member is None:
            break
        members.append(member)
        end = member.offset + member.size
        at = -(-end // BLOCK) * BLOCK
        if at > len(data):
            problems.append(Problem("L7", f"truncated inside member {member.name}"))
            break
        if any(data[end:at]):
            problems.append(Problem("L10", f"the padding after member {member.name} holds data"))
    else:
        problems += _end_problems(data, at)
    return Tar(tuple(members), tuple(problems))


def _member(header: bytes, at: int) -> tuple[Member | None, list[Problem]]:
    size_field = header[124:136]
    if not re.fullmatch(rb"[0-7]{11}\0", size_field):
        return None, [Problem("L7", f"no tar header at byte {at}: the size field holds {size_field!r}")]
    raw = header[:100].rstrip(b"\0")
    plain = tarfile.TarInfo(raw.decode("ascii", "surrogateescape"))
    plain.size, plain.mode = int(size_field[:11], 8), 0o444
    expected = plain.tobuf(tarfile.USTAR_FORMAT, "ascii", "surrogateescape")  # the only header allowed
    member = Member(raw.decode("ascii", "backslashreplace"), at + BLOCK, plain.size)
    if header == expected:
        return member, []
    fields = zip(_FIELDS, _HEADER.unpack(header), _HEADER.unpack(expected), strict=True)
    differing = ", ".join(name for name, found, wanted in fields if found != wanted and name != "checksum")
    checksum = sum(header) - sum(header[148:156]) + 8 * ord(" ")  # the field itself is read as spaces
    if header[148:156] != b"%06o\0 " % checksum:
        return None, [Problem("L7", f"the header at byte {at} has a wrong checksum (fields: {differing})")]
    what = _KINDS.get(header[156:157], f"not a plain regular file (differs in {differing})")
    return member, [Problem("L10", f"member {member.name} at byte {at} is {what}")]


def _end_problems(data: memoryview, at: int) -> list[Problem]:
    expected = -(-(at + 2 * BLOCK) // RECORD) * RECORD
    problems = []
    if len(data) != expected:
        rule = "L7" if len(data) < expected else "L10"
        problems.append(Problem(rule, f"ends at byte {len(data)}; two zero blocks and padding end at {expected}"))
    if any(data[at:expected]):  # what follows is one byte too many, whatever it holds: it may be a hole of terabytes
        problems.append(Problem("L10", f"data after the end marker at byte {at}"))
    return problems
