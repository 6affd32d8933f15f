"""What the headers of VP9 frames say without decoding: whether a frame is shown, and its size.

VP9 bitstream specification 0.6: section 6.2 (uncompressed_header, sizes, colours), annex B (superframes).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

_READ = 32
"""Bytes of a header that are looked at: sizes stand within the first 24."""

_RGB = 7
"""color_space of CS_RGB."""


@dataclass(frozen=True)
class Vp9Frame:
    """Of one frame of a packet.

    is_shown  False for a hidden reference frame
    size      (width, height) in pixels if the header gives one; None: the frame has the size of an earlier one
    """

    is_shown: bool
    size: tuple[int, int] | None


def vp9_frames(packet: bytes) -> list[Vp9Frame]:
    """The frames of a packet, in which a shown frame may follow hidden reference frames (a superframe).

    What does not begin as a frame of VP9 shows none.
    """
    return [_frame(frame[:_READ]) for frame in _parts(packet)]


def _parts(packet: bytes) -> Iterator[bytes]:
    marker = packet[-1]
    count = (marker & 7) + 1
    width = ((marker >> 3) & 3) + 1
    index = packet[-(2 + count * width) :]
    if marker >> 5 != 0b110 or len(index) < 2 + count * width or index[0] != marker:
        yield packet
        return
    start = 0
    for frame in range(count):
        if start >= len(packet) - len(index):
            return
        yield packet[start:]
        start += int.from_bytes(index[1 + frame * width : 1 + (frame + 1) * width], "little")


class _Bits:
    """Bits of a header, the highest of a byte first; zeros past its end."""

    def __init__(self, data: bytes) -> None:
        self._value, self._left = int.from_bytes(data.ljust(_READ, b"\0"), "big"), 8 * _READ

    def take(self, count: int) -> int:
        self._left -= count
        return (self._value >> self._left) & ((1 << count) - 1)


def _frame(header: bytes) -> Vp9Frame:
    bits = _Bits(header)
    if bits.take(2) != 0b10:
        return Vp9Frame(False, None)
    profile = bits.take(1) | bits.take(1) << 1
    if profile == 3:
        bits.take(1)
    if bits.take(1):  # show_existing_frame
        return Vp9Frame(True, None)
    is_key, is_shown, is_resilient = not bits.take(1), bool(bits.take(1)), bits.take(1)
    return Vp9Frame(
        is_shown, _key_size(bits, profile) if is_key else _later_size(bits, profile, is_shown, is_resilient)
    )


def _key_size(bits: _Bits, profile: int) -> tuple[int, int]:
    bits.take(24)  # frame_sync_code
    _skip_colours(bits, profile)
    return _size(bits)


def _later_size(bits: _Bits, profile: int, is_shown: bool, is_resilient: int) -> tuple[int, int] | None:
    is_intra = 0 if is_shown else bits.take(1)
    if not is_resilient:
        bits.take(2)  # reset_frame_context
    if is_intra:
        bits.take(24)
        if profile > 0:
            _skip_colours(bits, profile)
        bits.take(8)  # refresh_frame_flags
        return _size(bits)
    bits.take(8 + 3 * 4)  # refresh_frame_flags, and three references with their signs
    return None if any(bits.take(1) for _ in range(3)) else _size(bits)


def _skip_colours(bits: _Bits, profile: int) -> None:
    if profile >= 2:
        bits.take(1)  # ten or twelve bits
    if bits.take(3) != _RGB:
        bits.take(4 if profile & 1 else 1)  # range; subsampling and a reserved bit
    elif profile & 1:
        bits.take(1)


def _size(bits: _Bits) -> tuple[int, int]:
    return bits.take(16) + 1, bits.take(16) + 1
