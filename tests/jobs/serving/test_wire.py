"""The encoding is openpi's, and nothing dangerous comes through it."""

from __future__ import annotations

from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.serving.wire import WireError, pack, unpack

MESSAGE: dict[str, Any] = {
    "observation/image": np.arange(12, dtype=np.uint8).reshape(2, 2, 3),
    "observation/state": np.array([0.5, -1.0, 2.0], np.float32),
    "prompt": "open it",
    "gain": np.float32(0.5),
    "on": np.bool_(True),
    "count": np.int64(7),
    "nested": {"list": [1, 2.5, None]},
}
RECORDED = (
    b"\x87\xb1observation/image\x84\xc4\x0b__ndarray__\xc3\xc4\x04data\xc4\x0c\x00\x01\x02\x03\x04\x05\x06\x07\x08\t\n"
    b"\x0b\xc4\x05dtype\xa3|u1\xc4\x05shape\x93\x02\x02\x03\xb1observation/state\x84\xc4\x0b__ndarray__\xc3\xc4\x04data"
    b"\xc4\x0c\x00\x00\x00?\x00\x00\x80\xbf\x00\x00\x00@\xc4\x05dtype\xa3<f4\xc4\x05shape\x91\x03\xa6prompt\xa7open it"
    b"\xa4gain\x83\xc4\r__npgeneric__\xc3\xc4\x04data\xcb?\xe0\x00\x00\x00\x00\x00\x00\xc4\x05dtype\xa3<f4\xa2on\x83\xc4"
    b"\r__npgeneric__\xc3\xc4\x04data\xc3\xc4\x05dtype\xa3|b1\xa5count\x83\xc4\r__npgeneric__\xc3\xc4\x04data\x07\xc4\x05"
    b"dtype\xa3<i8\xa6nested\x81\xa4list\x93\x01\xcb@\x04\x00\x00\x00\x00\x00\x00\xc0"
)
"""MESSAGE as openpi-client 0.1.2 packs it. It may change only with openpi's wire format."""


def test_a_message_is_packed_to_the_bytes_of_openpis_client() -> None:
    assert pack(MESSAGE) == RECORDED


def test_a_message_of_openpis_client_is_read_back_with_its_types() -> None:
    found = unpack(RECORDED)
    assert found.keys() == MESSAGE.keys()
    for key, value in MESSAGE.items():
        assert type(found[key]) is type(value)
        if isinstance(value, np.ndarray):
            assert found[key].dtype == value.dtype
            np.testing.assert_array_equal(found[key], value)
        else:
            assert found[key] == value


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((0, 3)),
        np.array(2.5),
        np.arange(6).reshape(2, 3).T,
        np.array([1, 2], ">i2"),
        np.array(["open", "close"]),
    ],
)
def test_every_kind_of_array_comes_back(array: np.ndarray) -> None:
    found = unpack(pack({"a": array}))["a"]
    assert found.dtype == array.dtype
    np.testing.assert_array_equal(found, array)


@pytest.mark.parametrize(
    ("value", "fragment"),
    [
        (np.array([None]), "dtype object"),
        (np.zeros(1, "c8"), "dtype complex64"),
        (np.zeros(1, "f4,f4"), "dtype"),
        ({1, 2}, "a set cannot be sent"),
        (2**70, "cannot be sent"),
    ],
)
def test_what_is_no_plain_data_is_not_sent(value: Any, fragment: str) -> None:
    with pytest.raises(WireError, match=fragment):
        pack({"a": value})


def encoded(dtype: Any = "<f4", data: Any = bytes(8), shape: Any = (2,)) -> dict[Any, Any]:
    return {b"__ndarray__": True, b"data": data, b"dtype": dtype, b"shape": shape}


@pytest.mark.parametrize(
    ("value", "fragment"),
    [
        (encoded("|O"), r"dtype '\|O' is refused"),
        (encoded("|V8"), "is refused"),
        (encoded("f4,f4"), "is refused"),
        (encoded("2f4"), "is refused"),
        (encoded("<M8[s]"), "is refused"),
        (encoded("<f4" * 9), "a dtype must be a short text"),
        (encoded(b"<f4"), "a dtype must be a short text"),
        (encoded("nonsense"), "there is no dtype 'nonsense'"),
        (encoded(data=bytes(7)), "takes 8 bytes, got 7"),
        (encoded("<U2", data=b"\xff" * 16), "codes that are no characters"),
        (encoded(">U2", data=b"\x00\x00\xd8\x00" * 4), "codes that are no characters"),
        (encoded(data="text"), "data must be bytes, got a str"),
        (encoded(shape=[-2]), "shape must be a list"),
        (encoded(shape=[2.0]), "shape must be a list"),
        (encoded(shape=7), "shape must be a list"),
        (encoded(shape=[1] * 40), "shape must be a list"),
        (encoded(data=b"", shape=[0, 2**62, 2**62]), "no array of float32"),
        ({b"__npgeneric__": True, b"data": "1", b"dtype": "<f4"}, "cannot be made of a str"),
        ({b"__npgeneric__": True, b"data": 300, b"dtype": "|u1"}, "no scalar of uint8"),
        ({b"__npgeneric__": True, b"data": b"", b"dtype": "|O"}, "is refused"),
        (list(range(5000)), "not a msgpack message"),
        (msgpack.ExtType(5, bytes(100)), "not a msgpack message"),
    ],
)
def test_a_value_that_could_do_harm_is_refused(value: Any, fragment: str) -> None:
    data = msgpack.packb({"a": value})
    with pytest.raises(WireError, match=fragment):
        unpack(data)


@pytest.mark.parametrize(
    "data",
    [b"", b"\xc1", b"hello", RECORDED[:-1], RECORDED + b"\x00", b"\x81\xa1a\xd9\x02\xff\xfe", b"\x91" * 3000 + b"\x90"],
)
def test_garbage_is_refused(data: bytes) -> None:
    with pytest.raises(WireError, match="not a msgpack message"):
        unpack(data)


def test_a_header_that_claims_a_long_list_reserves_no_memory() -> None:
    claimed = b"\x81\xa1a" + b"\xdd\x00\xff\xff\xff" * 200 + bytes(2**16)
    with pytest.raises(WireError, match="may hold 65,536 values"):
        unpack(claimed)


@pytest.mark.parametrize("inner", [b"\x90", b"\x80", b"\xc0", b"\x91\xc0"], ids=["lists", "maps", "nulls", "nested"])
def test_millions_of_small_values_are_refused_before_they_are_made(inner: bytes) -> None:
    """Each would be a Python object, whatever few bytes it takes in the message."""
    data = b"\x81\xa1x\xdc\x02\x00" + (b"\xdc\x10\x00" + inner * 4096) * 512
    with pytest.raises(WireError, match="may hold 65,536 values"):
        unpack(data)


@given(
    st.recursive(
        st.none() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text() | st.binary(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=60,
    )
)
def test_every_header_is_walked_as_msgpack_reads_it(value: Any) -> None:
    assert unpack(msgpack.packb({"x": value})) == {"x": value}


@pytest.mark.parametrize("value", [[1, 2], "text", 7, {1: 2}, {b"key": 2}])
def test_a_message_is_a_map_with_text_for_keys(value: Any) -> None:
    data = msgpack.packb(value)
    with pytest.raises(WireError, match=r"not a msgpack message|a message is a map"):
        unpack(data)
