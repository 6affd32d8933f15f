"""An Arrow IPC file parsed message by message: no byte in it may carry more than the columns do (rule L10).

Readers go by the footer and follow offsets, so a file can hide messages, a second schema, custom metadata, or bytes
between and after buffers. Layout: Arrow columnar format, "IPC File Format" and "Encapsulated message format".
"""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

from pipeline.audit.finding import Problem

MAGIC = b"ARROW1"

_HEAD = 8  # magic, padded
_TAIL = 10  # footer length (int32) and magic
_SLACK = 256  # flatbuffer tables without their vectors; a plain writer needs about half


def check_layout(data: pa.Buffer, reader: pa.ipc.RecordBatchFileReader) -> tuple[Problem, ...]:
    """Walk a file that `reader` could open from this very buffer.

    Raises:
        pa.ArrowException, OSError, ValueError: a message cannot be read.
    """
    stream = pa.BufferReader(data.slice(_HEAD))
    messages = _messages(stream)
    problems: list[Problem] = []
    schema = next(messages, None)
    if schema is None or schema.type != "schema":
        return (Problem("L10", "does not start with a schema message"),)
    if not pa.ipc.read_schema(schema).equals(reader.schema, check_metadata=True):
        problems.append(Problem("L10", "holds two schemas that differ, in its first message and in its footer"))
    count = 0
    for count, message in enumerate(messages, start=1):
        if count > reader.num_record_batches:
            break
        problems += _batch_problems(message, reader, count - 1)
    if count != reader.num_record_batches:
        problems.append(Problem("L10", f"its footer lists {reader.num_record_batches} record batches, it holds others"))
    problems += _end_problems(data, _HEAD + stream.tell(), schema.metadata.size, reader)
    return tuple(problems)


def _messages(stream: pa.BufferReader) -> Iterator[pa.ipc.Message]:
    reader = pa.ipc.MessageReader.open_stream(stream)
    while True:
        try:
            message = reader.read_next_message()
        except StopIteration:
            return
        yield message


def _batch_problems(message: pa.ipc.Message, reader: pa.ipc.RecordBatchFileReader, i: int) -> list[Problem]:
    if message.type != "record batch":
        return [Problem("L10", f"message {i + 1} is a {message.type}, must be a record batch")]
    batch, custom = reader.get_batch_with_custom_metadata(i)
    if custom:
        return [Problem("L10", f"record batch {i} carries its own metadata")]
    used = sorted(span for column in batch.columns for span in _spans(column))
    start, end = message.body.address, message.body.address + message.body.size
    if used and not (start <= used[0][0] and max(a + n for a, n in used) <= end):
        return [Problem("L10", f"the footer's record batch {i} is not message {i + 1} of the file")]
    problems = []
    limit = _SLACK + 2 * 16 * (len(used) + 3 * batch.num_columns)  # 16 bytes for each field node and each buffer
    if message.metadata.size > limit:
        problems.append(Problem("L10", f"record batch {i} has {message.metadata.size} bytes of metadata"))
    at = start
    for address, size in [*used, (end, 0)]:
        if any(message.body.slice(at - start, max(0, address - at)).to_pybytes()):
            problems.append(Problem("L10", f"record batch {i} holds data outside its columns"))
            break
        at = max(at, address + size)
    return problems


def _spans(array: pa.Array) -> Iterator[tuple[int, int]]:
    """(address, bytes) of what an array's values need; the array starts at offset 0 and holds no null."""
    if isinstance(array, pa.ExtensionArray):
        yield from _spans(array.storage)
        return
    buffers = array.buffers()
    if buffers[0] is not None and buffers[0].size:
        yield buffers[0].address, (len(array) + 7) // 8
    if pa.types.is_fixed_size_list(array.type):
        yield from _spans(array.flatten())
    elif pa.types.is_string(array.type):
        if len(array):
            offsets = memoryview(buffers[1]).cast("i")
            yield buffers[1].address, 4 * (len(array) + 1)
            if buffers[2] is not None:
                yield buffers[2].address, offsets[len(array)]
    elif len(array):
        yield buffers[1].address, (len(array) * array.type.bit_width + 7) // 8


def _end_problems(data: pa.Buffer, at: int, schema_bytes: int, reader: pa.ipc.RecordBatchFileReader) -> list[Problem]:
    """After the last message: the footer, its length and the magic, and nothing else."""
    tail = data.slice(data.size - _TAIL).to_pybytes()
    footer = int.from_bytes(tail[:4], "little")
    if at + footer + _TAIL != data.size or data.slice(0, _HEAD).to_pybytes() != MAGIC.ljust(_HEAD, b"\0"):
        return [Problem("L10", f"its messages end at byte {at}, its footer of {footer} bytes does not follow there")]
    if reader.metadata or footer > schema_bytes + 24 * reader.num_record_batches + _SLACK:  # 24 bytes for each block
        return [Problem("L10", f"its footer of {footer} bytes holds more than the schema and the record batches")]
    return []
