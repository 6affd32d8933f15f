"""What is handed to a store part by part, without a store."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.storage import upload
from pipeline.storage.upload import AbortedError, Sent, Upload


@pytest.fixture(autouse=True, scope="module")
def small_parts() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(upload, "PART", 8)
        yield


@given(st.lists(st.integers(0, 30), max_size=12))
def test_parts_are_what_was_written(lengths: list[int]) -> None:
    """Of 8 bytes each but the last one; too little for two is sent by the caller."""
    data, parts, start = bytes(range(256)) * 2, [], 0
    made = Upload(parts.extend)
    for length in lengths:
        assert made.write(data[start : start + length]) == length
        start += length
    whole = made.finish()
    assert (whole is None) == (start > 8)
    assert b"".join(parts) + (whole or b"") == data[:start]
    assert {len(part) for part in parts[:-1]} <= {8}
    assert all(parts)
    assert made.sent.size == start
    assert made.closed == (whole is None)


@given(st.binary(max_size=40), st.integers(1, 40))
def test_the_etag_does_not_depend_on_the_pieces(data: bytes, piece: int) -> None:
    sent = Sent()
    for start in range(0, len(data), piece):
        sent.update(data[start : start + piece])
    digests = [hashlib.md5(data[i : i + 8]).digest() for i in range(0, len(data), 8)]
    parts = f"{hashlib.md5(b''.join(digests)).hexdigest()}-{len(digests)}"
    assert sent.etag() == (parts if len(data) > 8 else hashlib.md5(data).hexdigest())


def test_the_writer_waits_for_a_slow_store() -> None:
    """One part is being sent, one waits, and the writer holds the third."""
    taken, go_on = threading.Event(), threading.Event()
    sent: list[bytes] = []

    def slow(parts: Iterator[bytes]) -> None:
        for part in parts:
            sent.append(part)
            taken.set()
            go_on.wait(60)

    made = Upload(slow)
    writer = threading.Thread(target=made.write, args=(bytes(90),))
    writer.start()
    assert taken.wait(60)
    writer.join(0.5)
    assert writer.is_alive()
    assert len(sent) == 1
    go_on.set()
    writer.join(60)
    made.finish()
    assert b"".join(sent) == bytes(90)


@pytest.mark.parametrize("at", [0, 1, 3])
def test_an_error_of_the_store_is_raised_where_the_file_is_written_or_finished(at: int) -> None:
    def failing(parts: Iterator[bytes]) -> None:
        for number, _ in enumerate(parts):
            if number == at:
                raise ConnectionError("the store is gone")

    made = Upload(failing)
    with pytest.raises(ConnectionError, match="the store is gone"):  # noqa: PT012
        for _ in range(4):
            made.write(bytes(8))
        made.finish()
    made.abort()
    assert made.closed


def test_an_aborted_upload_is_an_error_to_the_store() -> None:
    ended: list[BaseException] = []

    def noting(parts: Iterator[bytes]) -> None:
        try:
            list(parts)
        except BaseException as error:
            ended.append(error)
            raise

    made = Upload(noting)
    made.write(bytes(20))
    made.abort()
    assert [type(error) for error in ended] == [AbortedError]


def test_what_was_not_begun_is_not_aborted_at_the_store() -> None:
    made = Upload(lambda _parts: pytest.fail("asked"))
    made.write(bytes(8))
    made.abort()
    assert made.closed


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
def test_an_interrupt_while_it_is_finished_ends_the_thread_and_the_upload(
    error: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    ended: list[BaseException] = []

    def send(parts: Iterator[bytes]) -> None:
        try:
            for _ in parts:
                pass
        except BaseException as caught:
            ended.append(caught)
            raise

    made = Upload(send)
    made.write(bytes(30))

    def interrupted(part: bytes | None) -> None:
        raise error

    monkeypatch.setattr(made, "_hand_over", interrupted)
    with pytest.raises(error):
        made.finish()
    assert made.closed
    assert [type(one) for one in ended] == [AbortedError]
