"""Messages of vla-eval that are refused, and images that are not what they say."""

from __future__ import annotations

import io
from typing import Any

import msgpack
import numpy as np
import pytest
from PIL import Image
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from jobs.serving.vla_eval.messages import EncodedImage, MessageType, pack_message, read_message
from jobs.serving.vla_eval.session import PATH
from jobs.serving.wire import WireError
from tests.jobs.serving.fakes import IN_TIME_S, observation, running


def packed(**changes: Any) -> bytes:
    content = {"type": "observation", "payload": {}, "seq": 1, "timestamp": 0.0, **changes}
    return msgpack.packb({key: value for key, value in content.items() if value is not None})


def png(size: tuple[int, int], mode: str = "RGB") -> bytes:
    file = io.BytesIO()
    Image.new(mode, size).save(file, "PNG")
    return file.getvalue()


def noisy(side: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (side, side, 3)).astype(np.uint8)).save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ("text", "must be binary msgpack"),
        (b"\xc1", "not a msgpack message"),
        (packed(seq=None), "has a seq; this one has none"),
        (packed(type="dance"), "there is no message of the type 'dance'"),
        (packed(type=["hello"]), "there is no message of the type"),
        (packed(payload=[1]), "a message's payload must be a map"),
        (packed(seq=1.5), "its seq a whole number"),
        (packed(payload={"a": {"__ndarray__": True, "data": b"", "dtype": "|O", "shape": [0]}}), "dtype '|O' is ref"),
        (packed(payload={"a": {"__ndarray__": True, "data": b"12", "dtype": "<f4", "shape": [1]}}), "takes 4 bytes"),
        (packed(payload={"a": {"__image__": True, "format": "tiff", "data": b"", "shape": [1, 1, 3]}}), "got 'tiff'"),
        (
            packed(payload={"a": {"__image__": True, "format": "png", "data": b"", "shape": [5000, 1, 3]}}),
            "at most 4096",
        ),
        (packed(payload={"a": [0] * 5000}), "max_array_len"),
    ],
)
def test_what_is_no_message_is_refused(data: Any, text: str) -> None:
    with pytest.raises(WireError, match=text):
        read_message(data)


@pytest.mark.parametrize(
    ("image", "text"),
    [
        (EncodedImage("png", png((4000, 4000)), (8, 8, 3)), "said to be 8 x 8 RGB, and is"),
        (EncodedImage("png", png((8, 8), "L"), (8, 8, 3)), "said to be 8 x 8 RGB"),
        (EncodedImage("jpeg", png((8, 8)), (8, 8, 3)), "cannot be read as jpeg"),
        (EncodedImage("png", noisy(64)[:2000], (64, 64, 3)), "cannot be read as png"),
        (EncodedImage("raw", b"123", (8, 8, 3)), "takes 192 bytes, got 3"),
        (EncodedImage("raw", b"1234", (2, 2, 1)), r"must be RGB \[H, W, 3\]"),
    ],
)
def test_images_that_are_not_what_they_say_are_refused(image: EncodedImage, text: str) -> None:
    with pytest.raises(WireError, match=text):
        image.decode()


def test_a_client_that_speaks_otherwise_is_told_and_cut_off() -> None:
    with running() as server, connect(server.address + PATH, proxy=None) as client:
        client.send(b"\xc1")
        assert "not a msgpack message" in str(client.recv(IN_TIME_S))
        with pytest.raises(ConnectionClosed):
            client.recv(IN_TIME_S)
        assert client.close_code == 1007


def test_decoded_images_count_as_held_memory() -> None:
    tiny = {"__image__": True, "format": "png", "data": png((2000, 2000)), "shape": [2000, 2000, 3]}
    seen = observation(1)
    payload = {"images": {"front": tiny, "wrist": tiny}, "task_description": "x", "state": seen.state.tolist()}
    with running(message_mb=1, held_mb=16) as server, connect(server.address + PATH, proxy=None) as client:
        client.send(packed(payload=payload))
        with pytest.raises(ConnectionClosed):
            client.recv(IN_TIME_S)
        assert any("held_mb" in line for line in server.log)
        assert not server.policy.calls


def test_the_servers_messages_are_read_as_it_reads_them() -> None:
    found = read_message(pack_message(MessageType.ACTION, {"actions": np.arange(3)}, 9))
    assert (found.type, found.seq) == (MessageType.ACTION, 9)
    np.testing.assert_array_equal(found.payload["actions"], np.arange(3, dtype=np.float32))
