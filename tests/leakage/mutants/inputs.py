"""Leaky inputs shards: tar, JPEG and JSON. See mutants.py."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable
from pathlib import Path

from tests.leakage.mutants.mutant import Mutant
from tests.leakage.tools import TAR, Members, edit_bytes, edit_document, edit_image, edit_tar, refit_inputs
from tests.pipeline.audit.tiny_build import jpeg, read_tar, rehash


def extra_json_key(build: Path) -> None:
    edit_document(build, lambda d: d.update(hint="next frame goes left"))


def json_spelled_with_spaces(build: Path) -> None:
    def edit(members: Members) -> Members:
        members[2] = (members[2][0], members[2][1].replace(b'":', b'": '))
        return members

    edit_tar(build, edit)


def json_key_twice(build: Path) -> None:
    def edit(members: Members) -> Members:
        members[2] = (members[2][0], members[2][1].replace(b'"now":0', b'"now":9,"now":0'))
        return members

    edit_tar(build, edit)


def state_with_hidden_digits(build: Path) -> None:
    edit_document(build, lambda d: d["state"].__setitem__(0, 1e-60))


def inputs_of_a_later_frame(build: Path) -> None:
    edit_document(build, lambda d: d.update(now=1))


def state_too_wide(build: Path) -> None:
    edit_document(build, lambda d: d["state"].append(0.5))


def filler_instruction(build: Path) -> None:
    edit_document(build, lambda d: d.update(instruction="do the task"))


def empty_instruction(build: Path) -> None:
    edit_document(build, lambda d: d.update(instruction=" "))


def views_exchanged(build: Path) -> None:
    edit_document(build, lambda d: d["views"].reverse())


def extra_tar_member(build: Path) -> None:
    edit_tar(build, lambda members: [*members, ("ep_a-000000.future.jpg", jpeg(5, 0, 16))])


def member_twice(build: Path) -> None:
    """Readers disagree about which of two members with one name counts."""
    edit_tar(build, lambda members: [*members, (members[0][0], jpeg(5, 0, 16))], repair=False)
    rehash(build)


def missing_tar_member(build: Path) -> None:
    edit_tar(build, lambda members: members[:3] + members[4:], repair=False)
    rehash(build)


def members_reordered(build: Path) -> None:
    edit_tar(build, lambda members: members[3:6] + members[:3] + members[6:])


def exif(build: Path) -> None:
    edit_image(build, lambda data: jpeg(1, 0, 16, exif=b"Exif\0\0II*\0\x08\0\0\0\0\0"))


def jpeg_comment(build: Path) -> None:
    edit_image(build, lambda data: jpeg(1, 0, 16, comment=b"next: left"))


def icc_profile(build: Path) -> None:
    edit_image(build, lambda data: jpeg(1, 0, 16, icc_profile=b"future"))


def bytes_after_the_image(build: Path) -> None:
    edit_image(build, lambda data: data + b"future")


def second_image_after_the_first(build: Path) -> None:
    edit_image(build, lambda data: data + jpeg(9, 0, 16))


def an_image_after_the_blocks_of_the_scan(build: Path) -> None:
    hidden = jpeg(9, 0, 16).replace(b"\xff", b"\xff\x00")
    edit_image(build, lambda data: data[:-2] + hidden + data[-2:])


def an_image_in_huffman_tables(build: Path) -> None:
    """Tables that those behind them replace."""

    def change(data: bytes) -> bytes:
        hidden, at, tables = jpeg(9, 0, 16), data.index(b"\xff\xc4"), b""
        for start in range(0, len(hidden), 240):
            part = hidden[start : start + 240]
            body = b"\x11" + bytes([0] * 8 + [len(part)] + [0] * 7) + part
            tables += b"\xff\xc4" + (len(body) + 2).to_bytes(2, "big") + body
        return data[:at] + tables + data[at:]

    edit_image(build, change)


def progressive_jpeg(build: Path) -> None:
    edit_image(build, lambda data: jpeg(1, 0, 16, progressive=True))


def larger_image(build: Path) -> None:
    edit_image(build, lambda data: jpeg(1, 0, 32))


def other_quantisation(build: Path) -> None:
    edit_image(build, lambda data: jpeg(1, 0, 16, quality=50))


def png_under_the_name_of_a_jpeg(build: Path) -> None:
    edit_image(build, lambda data: b"\x89PNG\r\n\x1a\n" + data)


def header_field(start: int, value: bytes) -> Callable[[bytearray], None]:
    """Change a field of the first tar header and repair its checksum."""

    def edit(data: bytearray) -> None:
        data[start : start + len(value)] = value
        data[148:156] = b" " * 8
        data[148:156] = b"%06o\0 " % sum(data[:512])

    return edit


def mtime_in_the_tar_header(build: Path) -> None:
    edit_bytes(build, TAR, header_field(136, b"00000000017\0"))


def owner_in_the_tar_header(build: Path) -> None:
    edit_bytes(build, TAR, header_field(265, b"future"))


def text_after_the_name_in_the_tar_header(build: Path) -> None:
    edit_bytes(build, TAR, header_field(60, b"future"))


def pax_header(build: Path) -> None:
    members = read_tar(build / TAR)
    with tarfile.open(build / TAR, "w", format=tarfile.PAX_FORMAT) as tar:
        for i, (name, payload) in enumerate(members):
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(payload), 0o444
            info.pax_headers = {"comment": "future"} if i == 0 else {}
            tar.addfile(info, io.BytesIO(payload))
    refit_inputs(build)


def data_in_tar_padding(build: Path) -> None:
    def edit(data: bytearray) -> None:
        size = int(data[124:135], 8)
        data[512 + size] = 1

    edit_bytes(build, TAR, edit)


def data_after_the_tar_end(build: Path) -> None:
    edit_bytes(build, TAR, lambda data: data.extend(b"future".ljust(10_240, b"\0")))


def data_in_the_tar_end(build: Path) -> None:
    edit_bytes(build, TAR, lambda data: data.__setitem__(-1, 7))


def truncated_tar(build: Path) -> None:
    edit_bytes(build, TAR, lambda data: data.__delitem__(slice(5000, None)))


def truncated_tar_without_repair(build: Path) -> None:
    edit_bytes(build, TAR, lambda data: data.__delitem__(slice(5000, None)), repair=False)


def garbage_tar(build: Path) -> None:
    edit_bytes(build, TAR, lambda data: data.__setitem__(slice(None), bytes(range(256)) * 40))


def empty_tar(build: Path) -> None:
    edit_bytes(build, TAR, lambda data: data.clear())


MUTANTS = (
    Mutant(extra_json_key, "L10", "shards", "'hint'"),
    Mutant(json_spelled_with_spaces, "L10", "shards", "not spelled canonically"),
    Mutant(json_key_twice, "L10", "shards", "'now' occurs twice"),
    Mutant(state_with_hidden_digits, "L10", "shards", "1e-60"),
    Mutant(inputs_of_a_later_frame, "L1", "shards", "of frame 1, the manifest says now=0"),
    Mutant(state_too_wide, "L8", "shards", "must have 3 numbers, found 4"),
    Mutant(filler_instruction, "L9", "shards", "'do the task'"),
    Mutant(empty_instruction, "L9", "shards", "is empty"),
    Mutant(views_exchanged, "L7", "shards", "'views' is"),
    Mutant(extra_tar_member, "L10", "shards", "ep_a-000000.future.jpg is unknown"),
    Mutant(member_twice, "L10", "shards", "ep_a-000000.front.jpg appears 2 times"),
    Mutant(missing_tar_member, "L7", "shards", "ep_a-000001.front.jpg is missing"),
    Mutant(members_reordered, "L7", "shards", "are not in the manifest's order"),
    Mutant(exif, "L10", "shards", "EXIF"),
    Mutant(jpeg_comment, "L10", "shards", "a comment"),
    Mutant(icc_profile, "L10", "shards", "ICC"),
    Mutant(bytes_after_the_image, "L10", "shards", "6 bytes after its end"),
    Mutant(second_image_after_the_first, "L10", "shards", "bytes after its end"),
    Mutant(an_image_after_the_blocks_of_the_scan, "L10", "shards", "extraneous bytes"),
    Mutant(an_image_in_huffman_tables, "L10", "shards", "a Huffman table twice, or with symbols that never occur"),
    Mutant(progressive_jpeg, "L10", "shards", "a progressive frame"),
    Mutant(larger_image, "L10", "shards", "32 x 32, the build's image_size is 16"),
    Mutant(other_quantisation, "L10", "shards", "tables or sampling"),
    Mutant(png_under_the_name_of_a_jpeg, "L10", "shards", "does not start with SOI"),
    Mutant(mtime_in_the_tar_header, "L10", "shards", "differs in mtime"),
    Mutant(owner_in_the_tar_header, "L10", "shards", "differs in uname"),
    Mutant(text_after_the_name_in_the_tar_header, "L10", "shards", "is unknown to the manifest"),
    Mutant(pax_header, "L10", "shards", "a pax header"),
    Mutant(data_in_tar_padding, "L10", "shards", "the padding after member ep_a-000000.front.jpg"),
    Mutant(data_after_the_tar_end, "L10", "shards", "two zero blocks and padding end at"),
    Mutant(data_in_the_tar_end, "L10", "shards", "data after the end marker"),
    Mutant(truncated_tar, "L7", "shards", "truncated"),
    Mutant(truncated_tar_without_repair, "L7", "shards", "build.json lists"),
    Mutant(garbage_tar, "L7", "shards", "no tar header at byte 0"),
    Mutant(empty_tar, "L7", "shards", "truncated: no complete header at byte 0"),
)
