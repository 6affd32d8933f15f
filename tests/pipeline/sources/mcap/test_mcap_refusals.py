"""Recordings that cannot be used: one error that names file and limit, and the audit's reader refuses them too."""

from __future__ import annotations

import struct
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mcap.writer import CompressionType
from mcap.writer import Writer as PlainWriter

from pipeline.errors import EpisodeError, RunError
from pipeline.sources.mcap import container
from pipeline.sources.mcap.source import McapSource
from tests.mcap_files.definitions import definition
from tests.mcap_files.robot import FRAME, SETTINGS, robot_messages
from tests.mcap_files.writer import MS, START, Sent, joints, pose, raw_image, write_mcap
from tests.pipeline.sources.both_readers import raw_of, read_by_both, refused_by_both
from tests.pipeline.spelled import spell

Change = Callable[[list[Sent]], list[Sent]]
HEAD = struct.Struct("<BQ")


def refused(root: Path, **settings: Any) -> EpisodeError:
    """Why recording z is left out; a is in order."""
    write_mcap(root / "a.mcap", robot_messages(6))
    return refused_by_both(McapSource(root=str(root), **{**SETTINGS, **settings}), "arm-z")


def changed(root: Path, change: Change, **settings: Any) -> EpisodeError:
    write_mcap(root / "z.mcap", change(robot_messages(6)))
    return refused(root, **settings)


def spoilt(root: Path, change: Callable[[bytes], bytes], **how: Any) -> EpisodeError:
    path = write_mcap(root / "z.mcap", robot_messages(6), **how)
    path.write_bytes(change(path.read_bytes()))
    return refused(root)


def moved(topic: str, number: int, stamp: int) -> Change:
    """Message `number` of a topic gets another stamp."""

    def change(messages: list[Sent]) -> list[Sent]:
        found, at = list(messages), [i for i, m in enumerate(messages) if m.topic == topic][number]
        where = {"sec": stamp // 10**9, "nanosec": stamp % 10**9}
        content = dict(found[at].content)
        found[at] = replace(found[at], content=content | {"header": content["header"] | {"stamp": where}})
        return found

    return change


def without(topic: str, since: int, until: int) -> Change:
    return lambda messages: [m for m in messages if m.topic != topic or not since <= m.log < until]


@pytest.mark.parametrize(
    ("topic", "change", "message"),
    [
        ("/front/image", moved("/front/image", 3, START + FRAME), r"message 3 is at \d+ ns, before the one before it"),
        ("/front/image", moved("/front/image", 3, START + 2 * FRAME), r"message 3 is at \d+ ns, the same as"),
        ("/pose", moved("/pose", 3, START - 80 * MS), r"message 3 is at \d+ ns, before"),
        ("/pose", moved("/pose", 2, 0), r"header\.stamp is 0\.0, no time; set source\.times=log"),
        ("/pose", moved("/pose", 2, -(10**9)), "no time"),
    ],
)
def test_stamps_that_step_back_repeat_or_are_missing(tmp_path: Path, topic: str, change: Change, message: str) -> None:
    error = changed(tmp_path, change)
    assert error.reason == "bad-clock"
    assert f"{tmp_path}/z.mcap, {topic}" in error.detail
    with pytest.raises(EpisodeError, match=message):
        raise error


@pytest.mark.parametrize("topic", ["/wrist/image", "/pose", "/joints", "/command"])
def test_a_gap_in_a_topic_is_no_message_of_long_ago(tmp_path: Path, topic: str) -> None:
    error = changed(tmp_path, without(topic, START + 110 * MS, START + 420 * MS))
    assert error.reason == "bad-clock"
    assert f"{topic}" in error.detail
    assert "s apart, allowed is source.max_age_s=0.2; cut the episode, or raise the limit" in error.detail


def test_topics_that_never_meet_leave_no_frame(tmp_path: Path) -> None:
    error = changed(tmp_path, lambda m: [one for one in m if one.topic != "/pose" or one.log > START + 550 * MS])
    assert error.reason == "too-short"
    assert "/pose:pose.position begins with frame 6" in error.detail


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: [one for one in m if one.topic != "/joints"], "no message of /joints:position"),
        (
            lambda m: [*m, joints("/joints", ["finger"], [1], START + 2000 * MS)],
            "its names are finger; wanted is each of finger, shoulder once",
        ),
        (
            lambda m: [*m, joints("/joints", ["finger", "finger", "shoulder"], [1, 2, 3], START + 2000 * MS)],
            "once",
        ),
        (
            lambda m: [
                replace(one, content={**one.content, "data": [1.0]})
                if one.topic == "/command" and one.log > START + 100 * MS
                else one
                for one in m
            ],
            "has 1 numbers, the first message 8",
        ),
    ],
)
def test_topics_and_fields_that_differ_from_message_to_message(tmp_path: Path, change: Change, message: str) -> None:
    error = changed(tmp_path, change)
    assert error.reason == "bad-record"
    assert message in error.detail


def test_two_types_of_one_topic(tmp_path: Path) -> None:
    with (tmp_path / "z.mcap").open("wb") as file:
        writer = PlainWriter(file)
        writer.start("ros2", "test")
        for number, kind in enumerate(("geometry_msgs/msg/PoseStamped", "geometry_msgs/msg/Twist")):
            schema = writer.register_schema(kind, "ros2msg", definition(kind).encode())
            channel = writer.register_channel("/pose", "cdr", schema)
            writer.add_message(channel, START + number, b"\0\1\0\0" + struct.pack("<I", 9) + bytes(100), START)
        writer.finish()
    error = refused(tmp_path)
    assert error.reason == "bad-record"
    assert "/pose is geometry_msgs/msg/Twist and geometry_msgs/msg/PoseStamped, read are" in error.detail


@pytest.mark.parametrize(
    ("position", "quaternion", "reason"),
    [((np.nan, 0, 0), (0, 0, 0, 1), "not-finite"), ((0, 0, 0), (0, 0, 0, 2), "bad-rotation")],
)
def test_poses_that_are_none(
    tmp_path: Path, position: tuple[float, ...], quaternion: tuple[float, ...], reason: str
) -> None:
    """One that no frame takes does no harm."""
    for number, wanted in ((13, ""), (12, reason)):  # a frame each 100 ms, a pose each 40 ms, two of them before
        bad = pose("/pose", position, quaternion, START - 80 * MS + number * 40 * MS)
        messages = [m for m in robot_messages(6) if (m.topic, m.log) != ("/pose", bad.log)]
        write_mcap(tmp_path / "z.mcap", sorted([*messages, bad], key=lambda m: m.log))
        if wanted:
            assert refused(tmp_path).reason == wanted
        else:
            read_by_both(McapSource(root=str(tmp_path), **SETTINGS), "arm-z")


@pytest.mark.parametrize("left", [0.0, 0.1, 0.3, 0.5, 0.9, 0.99])
def test_files_that_were_cut_off(tmp_path: Path, left: float) -> None:
    """A recorder that crashed writes no footer; nothing before it is believed."""
    error = spoilt(tmp_path, lambda data: data[: 9 + int(left * len(data))], chunk_size=4000)
    assert error.reason == "undecodable"
    assert f"{tmp_path}/z.mcap" in error.detail
    assert "the recording was cut off; write it anew with `mcap recover`" in error.detail


@pytest.mark.parametrize("cut", [1, 8, 9, 37, 38])
def test_files_without_their_last_bytes(tmp_path: Path, cut: int) -> None:
    """Footer and end are 37 bytes."""
    error = spoilt(tmp_path, lambda data: data[:-cut])
    assert "the recording was cut off" in error.detail


def test_one_bit_in_a_chunk(tmp_path: Path) -> None:
    def flip(data: bytes) -> bytes:
        found = bytearray(data)
        found[len(data) // 3] ^= 4
        return bytes(found)

    error = spoilt(tmp_path, flip, compression=CompressionType.NONE)
    assert error.reason == "undecodable"
    assert "the checksum of a chunk is wrong" in error.detail


def test_another_compression(tmp_path: Path) -> None:
    error = spoilt(tmp_path, lambda data: data.replace(b"\x04\x00\x00\x00zstd", b"\x04\x00\x00\x00zst9"))
    assert "its chunks are compressed by 'zst9', read are zstd, lz4 and none" in error.detail


@pytest.mark.parametrize("compression", [CompressionType.ZSTD, CompressionType.LZ4])
def test_a_chunk_that_unpacks_to_gigabytes(tmp_path: Path, compression: CompressionType) -> None:
    """The size is believed neither from the chunk nor from what it is compressed by."""

    def lie(data: bytes) -> bytes:
        at = _chunk(data)
        return data[: at + 16] + struct.pack("<Q", 100) + data[at + 24 :]

    assert "holds other than the 100 bytes it says" in spoilt(tmp_path, lie, compression=compression).detail

    def large(data: bytes) -> bytes:
        at = _chunk(data)
        return data[: at + 16] + struct.pack("<Q", 2**40) + data[at + 24 :]

    error = spoilt(tmp_path, large, compression=compression)
    assert "a chunk holds 1,099,511,627,776 bytes, read are at most 268,435,456" in error.detail


def _chunk(data: bytes) -> int:
    """Where the content of the first chunk begins."""
    at = len(container.MAGIC)
    while True:
        opcode, length = HEAD.unpack_from(data, at)
        if opcode == 6:
            return at + HEAD.size
        at += HEAD.size + length


def test_a_record_that_claims_the_whole_disk(tmp_path: Path) -> None:
    def claim(data: bytes) -> bytes:
        at = _chunk(data) - HEAD.size
        return data[:at] + HEAD.pack(6, 2**62) + data[at + HEAD.size :]

    assert "goes beyond its end" in spoilt(tmp_path, claim).detail


def test_a_large_record_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(container, "LARGEST", 1000)
    monkeypatch.setattr("pipeline.audit.raw.mcap.records._LARGEST", 1000)
    write_mcap(tmp_path / "a.mcap", robot_messages(6))
    source = McapSource(root=str(tmp_path), **SETTINGS)
    with pytest.raises(Exception, match=r"bytes, read are at most 1,000"):
        source.index()
    with pytest.raises(Exception, match="is too large"):
        raw_of(source).open("arm-a")


@pytest.mark.parametrize(
    ("encoding", "change", "message"),
    [
        ("rgb8", {"step": 10}, "12,288 bytes for 64 rows of 10 bytes"),
        ("rgb8", {"height": 63}, "for 63 rows"),
        ("rgb8", {"height": 2**20, "width": 2**20}, "read are 134,217,728 bytes"),
        ("rgb8", {"height": 0}, "for 0 rows"),
        ("16UC1", {}, "a picture in '16UC1', read are rgb8, bgr8, mono8 and CompressedImage"),
    ],
)
def test_pictures_that_are_not_as_they_say(tmp_path: Path, encoding: str, change: dict[str, Any], message: str) -> None:
    def make(messages: list[Sent]) -> list[Sent]:
        rest = [m for m in messages if m.topic != "/front/image"]
        for i in range(6):
            image = raw_image("/front/image", spell(i)[:, :64], START + i * FRAME)
            rest.append(replace(image, content=image.content | {"encoding": encoding} | (change if i == 2 else {})))
        return rest

    error = changed(tmp_path, make)
    assert error.reason == "undecodable"
    assert f"{tmp_path}/z.mcap, /front/image, message" in error.detail
    assert message in error.detail


def test_pictures_that_are_damaged_or_depth(tmp_path: Path) -> None:
    def cut(messages: list[Sent]) -> list[Sent]:
        return [_with(m, data=m.content["data"][:150]) if m.topic == "/wrist/image" else m for m in messages]

    assert "/wrist/image, message 0" in changed(tmp_path, cut).detail

    def depth(messages: list[Sent]) -> list[Sent]:
        return [_with(m, format="16UC1; compressedDepth") if m.topic == "/wrist/image" else m for m in messages]

    assert "is a depth map, which is no view" in changed(tmp_path, depth).detail


def _with(message: Sent, **content: Any) -> Sent:
    return replace(message, content={**message.content, **content})


def write_plain(path: Path, schema: bytes, encoding: str, data: bytes, message_encoding: str = "cdr") -> None:
    """One message of /pose, by the plain writer."""
    with path.open("wb") as file:
        writer = PlainWriter(file)
        writer.start("ros2", "test")
        number = writer.register_schema("geometry_msgs/msg/PoseStamped", encoding, schema)
        channel = writer.register_channel("/pose", message_encoding, number)
        writer.add_message(channel, START, data, START)
        writer.finish()


GOOD = definition("geometry_msgs/msg/PoseStamped").encode()


@pytest.mark.parametrize(
    ("schema", "encoding", "data", "message"),
    [
        (GOOD, "ros2idl", b"\0\1\0\0" + bytes(90), "read is 'cdr' with a schema in 'ros2msg'"),
        (GOOD, "ros2msg", b"\0\7\0\0" + bytes(90), "not in plain CDR"),
        (GOOD, "ros2msg", b"\0\1\0\0" + bytes(20), "does not fit its schema"),
        (GOOD, "ros2msg", b"", "not in plain CDR"),
        (b"Nothing there\n", "ros2msg", b"\0\1\0\0" + bytes(90), "does not fit its schema"),
        (b"float64\n", "ros2msg", b"\0\1\0\0" + bytes(90), "does not fit its schema"),
        (b"PoseStamped again\n", "ros2msg", b"\0\1\0\0" + bytes(90), "does not fit its schema"),
        (b"float64[4000000000] x\n", "ros2msg", b"\0\1\0\0" + bytes(90), "does not fit its schema"),
        (b"string[] x\n", "ros2msg", b"\0\1\0\0\xff\xff\xff\xff" + bytes(90), "does not fit its schema"),
        (
            b"Empty[4000000000] x\n" + b"=" * 80 + b"\nMSG: geometry_msgs/Empty\nuint8[0] y\n",
            "ros2msg",
            b"\0\1\0\0" + bytes(90),
            "arrays of no entries",
        ),
    ],
)
def test_messages_that_are_not_as_their_schema_says(
    tmp_path: Path, schema: bytes, encoding: str, data: bytes, message: str
) -> None:
    write_plain(tmp_path / "z.mcap", schema, encoding, data)
    error = refused(tmp_path)
    assert error.reason == "undecodable"
    assert message in error.detail


def test_without_the_packages_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_mcap(tmp_path / "a.mcap", robot_messages(4))
    source = McapSource(root=str(tmp_path), **SETTINGS)
    raw = raw_of(source)
    for name in ("mcap_ros2.decoder", "lz4.frame"):
        monkeypatch.setitem(sys.modules, name, None)
    for work in (source.index, lambda: raw.open("arm-a")):
        with pytest.raises(RunError, match=r"pip install 'vlajepa\[mcap\]'"):
            work()


def test_a_file_of_another_kind(tmp_path: Path) -> None:
    (tmp_path / "z.mcap").write_bytes(b"#ROSBAG V2.0\n" + bytes(500))
    assert "no MCAP file: it does not begin as one" in refused(tmp_path).detail


def test_a_blank_camera_and_an_instruction_that_says_nothing(tmp_path: Path) -> None:
    black = raw_image("/front/image", np.zeros((8, 8, 3), np.uint8), START)

    def make(messages: list[Sent]) -> list[Sent]:
        rest = [m for m in messages if m.topic != "/front/image"]
        return [*rest, *(moved("/front/image", 0, START + i * FRAME)([black])[0] for i in range(6))]

    write_mcap(tmp_path / "z.mcap", make(robot_messages(6)))
    source = McapSource(root=str(tmp_path), **SETTINGS)
    with pytest.raises(EpisodeError, match="blank-camera"):
        source.open(next(ref for ref in source.index().refs if ref.id == "arm-z"))
    path = write_mcap(tmp_path / "z.mcap", [_with(m, data=" ") if m.topic == "/task" else m for m in robot_messages(6)])
    ref = next(ref for ref in source.index().refs if ref.id == "arm-z")
    message = f"no-instruction: {path}: the instruction at frame 3 is ' '"
    with source.open(ref) as episode, pytest.raises(EpisodeError, match=message):
        episode.instruction(3)
    assert raw_of(source).open("arm-z").instruction(3) is None
