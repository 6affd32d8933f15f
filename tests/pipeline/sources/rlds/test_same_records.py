"""Odd and damaged records: what the pipeline leaves out, the audit cannot read, and what it reads, the audit reads."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.audit.raw.base import RawError
from pipeline.audit.raw.decoding.tfrecord import _EXAMPLE, masked_checksum
from pipeline.errors import EpisodeError, RunError
from pipeline.sources.rlds.source import RldsSource
from tests.pipeline.sources.both_readers import raw_of, read_by_both
from tests.pipeline.sources.rlds.test_rlds import copy_of, source_of

RECORDS = 3
STATE = "steps/observation/state"


class Records:
    """The first records of the real file that have a text, each an Example that may be changed, and features.json."""

    def __init__(self, shared_data: Path, tmp_path: Path) -> None:
        self.root = copy_of(shared_data, tmp_path)
        (self.path,) = self.root.glob("*train.tfrecord*")
        self.features: dict[str, Any] = json.loads((self.root / "features.json").read_text())
        self.examples = [
            example for content in unframed(self.path) if has_text(example := _EXAMPLE.FromString(content))
        ]
        del self.examples[RECORDS:]

    def declared(self, path: str) -> dict[str, Any]:
        found = self.features["featuresDict"]["features"]["steps"]["sequence"]["feature"]
        for name in path.split("/"):
            found = found["featuresDict"]["features"][name]
        return dict(found) if "featuresDict" in found else found

    def write(self, tail: bytes = b"", change: Callable[[list[bytes]], object] = lambda framed: None) -> RldsSource:
        framed = [frame(example.SerializeToString()) for example in self.examples]
        change(framed)
        self.path.write_bytes(b"".join(framed) + tail)
        (self.root / "features.json").write_text(json.dumps(self.features))
        info = json.loads((self.root / "dataset_info.json").read_text())
        info["splits"] = [split for split in info["splits"] if split["name"] == "train"]
        info["splits"][0]["shardLengths"] = [str(RECORDS)]
        (self.root / "dataset_info.json").write_text(json.dumps(info))
        return source_of("bridge", self.root)


def unframed(path: Path) -> list[bytes]:
    content, at, found = path.read_bytes(), 0, []
    while at < len(content):
        (length,) = struct.unpack_from("<Q", content, at)
        found.append(content[at + 12 : at + 12 + length])
        at += length + 16
    return found


def frame(record: bytes) -> bytes:
    length = struct.pack("<Q", len(record))
    return length + struct.pack("<I", masked_checksum(length)) + record + struct.pack("<I", masked_checksum(record))


def value_of(example: Any, name: str) -> Any:
    (entry,) = [entry for entry in example.features[0].feature if entry.key[0].decode() == name]
    return entry.value[0]


def has_text(example: Any) -> bool:
    return bool(value_of(example, "steps/language_instruction").bytes[0].value[0].strip())


def put(example: Any, name: str, kind: str, values: list[Any]) -> None:
    feature = value_of(example, name)
    for other in ("bytes", "floats", "integers"):
        del getattr(feature, other)[:]
    getattr(feature, kind).add().value.extend(values)


@pytest.fixture
def records(shared_data: Path, tmp_path: Path) -> Records:
    return Records(shared_data, tmp_path)


def ids(source: RldsSource) -> list[str]:
    return [ref.id for ref in source.index().refs]


def refused_by_both(source: RldsSource, episode: str) -> str:
    (ref,) = [ref for ref in source.index().refs if ref.id == episode]
    with pytest.raises(EpisodeError) as caught, source.open(ref):
        pass
    with pytest.raises(RawError):
        list(raw_of(source).open(episode).frames("image_0"))
    return caught.value.reason


@pytest.mark.parametrize("name", ["steps/observation/image_1", "steps/reward"])
@pytest.mark.parametrize("how", ["shorter", "absent"])
def test_a_field_that_is_not_used_may_be_damaged(records: Records, name: str, how: str) -> None:
    features = records.examples[1].features[0]
    if how == "shorter":
        feature = value_of(records.examples[1], name)
        values = (feature.bytes or feature.floats)[0].value
        del values[-1]
    else:
        kept = [entry for entry in features.feature if entry.key[0].decode() != name]
        del features.feature[:]
        features.feature.extend(kept)
    source = records.write()
    for episode in ids(source):
        read_by_both(source, episode)


@pytest.mark.parametrize("damage", ["a bit of the payload", "a shorter state", "a state that is longer by a step"])
def test_a_damaged_record_alone_is_left_out(records: Records, damage: str) -> None:
    def flip(framed: list[bytes]) -> None:
        middle = len(framed[1]) // 2
        framed[1] = framed[1][:middle] + bytes([framed[1][middle] ^ 4]) + framed[1][middle + 1 :]

    values = value_of(records.examples[1], STATE).floats[0].value
    if damage == "a shorter state":
        del values[-1]
    elif damage != "a bit of the payload":
        values.extend([0.0] * 7)
    source = records.write(change=flip if damage == "a bit of the payload" else lambda framed: None)
    first, second, third = ids(source)
    read_by_both(source, first)
    read_by_both(source, third)
    assert refused_by_both(source, second) in ("undecodable", "bad-record")


@pytest.mark.parametrize("tail", [b"garbage", b"g" * 40])
def test_bytes_after_the_last_record_cost_no_episode(records: Records, tail: bytes) -> None:
    source = records.write(tail)
    for episode in ids(source):
        read_by_both(source, episode)


def test_a_damaged_header_costs_what_follows(records: Records) -> None:
    def damage(framed: list[bytes]) -> None:
        framed[1] = b"\xff" * 8 + framed[1][8:]

    source = records.write(change=damage)
    first, *others = ids(source)
    read_by_both(source, first)
    assert {refused_by_both(source, episode) for episode in others} == {"undecodable"}


def test_a_length_of_more_than_the_file_is_damage(records: Records) -> None:
    def damage(framed: list[bytes]) -> None:
        length = struct.pack("<Q", 2**63 + 5)
        framed[1] = length + struct.pack("<I", masked_checksum(length)) + framed[1][12:]

    source = records.write(change=damage)
    first, *others = ids(source)
    read_by_both(source, first)
    for episode in others:
        refused_by_both(source, episode)


def test_numbers_that_are_stored_as_bytes(records: Records) -> None:
    records.declared("observation/state")["tensor"]["encoding"] = "bytes"
    for example in records.examples:
        rows = np.array(value_of(example, STATE).floats[0].value, np.float32).reshape(-1, 7)
        put(example, STATE, "bytes", [row.tobytes() for row in rows])
    source = records.write()
    for episode in ids(source):
        read_by_both(source, episode)


def test_zlib_is_refused_where_it_is_used(records: Records) -> None:
    """It could expand to any size."""
    records.declared("observation/state")["tensor"]["encoding"] = "zlib"
    with pytest.raises(RunError, match="state is stored by zlib"):
        records.write().index()


@pytest.mark.parametrize("dtype", ["uint8", "int32", "uint64", "float16", "bool"])
def test_numbers_of_other_types(records: Records, dtype: str) -> None:
    records.declared("observation/state")["tensor"]["dtype"] = dtype
    for example in records.examples:
        values = np.array(value_of(example, STATE).floats[0].value) * 7
        whole = np.abs(np.rint(values)).astype(int).clip(0, 1 if dtype == "bool" else 200)
        kind, stored = ("floats", values) if dtype == "float16" else ("integers", whole)
        put(example, STATE, kind, stored.tolist())
    source = records.write()
    for episode in ids(source):
        read_by_both(source, episode)


@pytest.mark.parametrize("dimensions", [["7000000000000"], ["8"]])
def test_a_shape_that_is_not_the_records(records: Records, dimensions: list[str]) -> None:
    records.declared("observation/state")["tensor"]["shape"] = {"dimensions": dimensions}
    source = records.write()
    for episode in ids(source):
        assert refused_by_both(source, episode) in ("bad-record", "bad-table")
