"""Messages in the containers: Parquet, Arrow and tar files whose values are those of a clean build."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tests.leakage.mutants.derived import drop_here
from tests.leakage.mutants.inputs import header_field
from tests.leakage.mutants.mutant import Mutant, set_column
from tests.leakage.tools import ARROW, LATENTS, TAR, edit_bytes, edit_json, edit_rows
from tests.pipeline.audit.tiny_build import ROBOT, TUBELET, Row, TinyEpisode, rehash
from tests.pipeline.audit.tiny_targets import digest, gathered, read_batches, read_targets, write_targets

SAMPLES = "samples.parquet"
VAL_ARROW = "val/targets-000000.arrow"


def _rewrite_samples(build: Path, table: pa.Table | None = None, **options: Any) -> None:
    """samples.parquet with its own row groups, written with other options."""
    file = pq.ParquetFile(build / SAMPLES)
    groups = [file.read_row_group(i) for i in range(file.num_row_groups)]
    schema = groups[0].schema if table is None else table.schema
    with pq.ParquetWriter(build / SAMPLES, schema, **options) as writer:
        for group in groups:
            writer.write_table(group.replace_schema_metadata(schema.metadata))
    rehash(build)


def metadata_of_the_manifest(build: Path) -> None:
    _rewrite_samples(build, pq.read_table(build / SAMPLES).replace_schema_metadata({"hint": "left"}))


def manifest_compressed_otherwise(build: Path) -> None:
    _rewrite_samples(build, compression={"key": "gzip"})


def manifest_without_statistics_of_a_column(build: Path) -> None:
    _rewrite_samples(build, write_statistics=["key", "split"])


def manifest_with_another_encoding(build: Path) -> None:
    _rewrite_samples(build, use_dictionary=["episode"])


def manifest_in_pages_of_another_version(build: Path) -> None:
    _rewrite_samples(build, data_page_version="2.0")


def manifest_in_other_row_groups(build: Path) -> None:
    table = pq.read_table(build / SAMPLES)
    pq.write_table(table, build / SAMPLES, row_group_size=5)
    rehash(build)


def bytes_before_the_footer_of_the_manifest(build: Path) -> None:
    def edit(data: bytearray) -> None:
        footer = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
        data[footer:footer] = b"left, then right"

    edit_bytes(build, SAMPLES, edit)


def name_of_the_writer_of_the_manifest(build: Path) -> None:
    def edit(data: bytearray) -> None:
        at = data.rfind(b"parquet-cpp-arrow")
        data[at : at + 7] = b"LEFT!!!"

    edit_bytes(build, SAMPLES, edit)


def statistics_of_the_manifest_that_lie(build: Path) -> None:
    """The largest key by the footer is another text; readers that skip row groups by it would notice, others not."""

    def edit(data: bytearray) -> None:
        at = data.rfind(b"ep_c-")
        assert at > len(data) // 2
        data[at : at + 4] = b"left"

    edit_bytes(build, SAMPLES, edit)


def payload_of_a_time_that_is_not_there(build: Path) -> None:
    """Row 6 has its second step masked: one of 2 ** 51 kinds of NaN."""
    quiet = struct.unpack("<d", struct.pack("<Q", 0x7FF8000000C0FFEE))[0]
    edit_rows(build, lambda rows: rows[6]["support_end_s"].__setitem__(2, quiet))


def sign_of_a_time_that_is_not_there(build: Path) -> None:
    edit_rows(build, lambda rows: rows[6]["support_end_s"].__setitem__(2, -float("nan")))


def digits_below_a_microsecond(build: Path) -> None:
    edit_rows(build, set_column("support_end_s", [0.4, 0.8, 1.2000000371]))


def digits_of_now(build: Path) -> None:
    def edit(rows: list[Row]) -> None:
        rows[4].update(now_s=0.40000000000001, support_end_s=[0.40000000000001, 0.8, 1.2])

    edit_rows(build, edit)


def sign_of_the_first_time(build: Path) -> None:
    edit_rows(build, lambda rows: rows[0].update(now_s=-0.0, support_end_s=[-0.0, 0.4, 0.8]))


def _batches(build: Path, file: str) -> list[pa.RecordBatch]:
    with pa.ipc.open_file(str(build / file)) as reader:
        return [reader.get_batch(i) for i in range(reader.num_record_batches)]


def _write_batches(build: Path, batches: Sequence[pa.RecordBatch], file: str = ARROW, **options: Any) -> None:
    with pa.ipc.new_file(str(build / file), batches[0].schema, **options) as writer:
        for batch in batches:
            writer.write_batch(batch)
    rehash(build)


def metadata_in_the_footer_of_targets(build: Path) -> None:
    _write_batches(build, _batches(build, ARROW), metadata={"hint": "left"})


def compressed_targets(build: Path) -> None:
    _write_batches(build, _batches(build, VAL_ARROW), VAL_ARROW, options=pa.ipc.IpcWriteOptions(compression="lz4"))


def targets_of_an_older_format(build: Path) -> None:
    version = pa.ipc.IpcWriteOptions(metadata_version=pa.ipc.MetadataVersion.V4)
    _write_batches(build, _batches(build, ARROW), options=version)


def other_record_batches(build: Path) -> None:
    """2 and 4 rows instead of 3: which sizes they are can say something."""
    columns, metadata = read_targets(build / ARROW)
    write_targets(build / ARROW, columns, metadata, [2, 4, 3])
    rehash(build)


def empty_record_batch(build: Path) -> None:
    first, *rest = _batches(build, ARROW)
    _write_batches(build, [first, first.slice(0, 0), *rest])


def _place(build: Path, file: str, column: str) -> int:
    """Offset in the file of the values of a column in the first record batch."""
    with pa.memory_map(str(build / file)) as mapped:
        data = mapped.read_buffer()
        array = pa.ipc.open_file(data).get_batch(0).column(column)
        values = array if pa.types.is_string(array.type) else array.flatten()
        return int(values.buffers()[1].address - data.address)


def spare_bits_of_a_mask(build: Path) -> None:
    """Three rows of two steps need six bits of a byte."""
    at = _place(build, ARROW, "latent_mask")
    edit_bytes(build, ARROW, lambda data: data.__setitem__(at, data[at] | 0x80))


def spare_bits_of_the_actions_mask(build: Path) -> None:
    at = _place(build, ARROW, "action_mask") + 2
    edit_bytes(build, ARROW, lambda data: data.__setitem__(at, data[at] | 0x40))


def padding_behind_a_mask(build: Path) -> None:
    at = _place(build, VAL_ARROW, "latent_mask") + 7
    edit_bytes(build, VAL_ARROW, lambda data: data.__setitem__(at, 0x55))


def bytes_before_the_first_key(build: Path) -> None:
    """The keys of the first record batch begin two bytes later, and the buffer's length with them."""
    size = 3 * len(b"ep_a-000000")

    def edit(data: bytearray) -> None:
        offsets = _place(build, ARROW, "key")
        text = data.index(b"ep_a-000000")
        length = data.rindex(size.to_bytes(8, "little"), 0, offsets)
        data[length : length + 8] = (size + 2).to_bytes(8, "little")
        data[text : text + size + 2] = b"!!" + data[text : text + size]
        moved = [number + 2 for number in struct.unpack_from("<4i", data, offsets)]
        struct.pack_into("<4i", data, offsets, *moved)

    edit_bytes(build, ARROW, edit)


def bytes_behind_the_footer(build: Path) -> None:
    """The footer claims to be longer: what follows its flatbuffer is never read."""

    def edit(data: bytearray) -> None:
        footer = int.from_bytes(data[-10:-6], "little")
        data[-10:-6] = b"left or right !!" + (footer + 16).to_bytes(4, "little")

    edit_bytes(build, ARROW, edit)


def padding_of_the_magic(build: Path) -> None:
    edit_bytes(build, VAL_ARROW, lambda data: data.__setitem__(slice(6, 8), b"LR"))


def latents_in_another_order(build: Path) -> None:
    """Two rows exchange their places, and all references follow."""
    columns, metadata = read_targets(build / ARROW)
    shared, own = read_targets(build / LATENTS)
    order = np.arange(len(shared["frame"]))
    order[[1, 4]] = order[[4, 1]]
    shared = {n: [v[i] for i in order] if isinstance(v, list) else v[order] for n, v in shared.items()}
    for name in ("context_row", "latent_rows"):
        columns[name] = np.where(columns[name] < 0, -1, order[columns[name]]).astype(np.int32)
    write_targets(build / ARROW, columns, metadata)
    write_targets(build / LATENTS, shared, own, read_batches(build / LATENTS))
    whole = gathered(columns, shared)
    edit_rows(build, lambda rows: [rows[i].update(targets_sha256=digest(whole, i)) for i in range(len(columns["key"]))])


def other_record_batches_of_latents(build: Path) -> None:
    shared, metadata = read_targets(build / LATENTS)
    write_targets(build / LATENTS, shared, metadata, [5, 4, 4])
    rehash(build)


def metadata_in_the_footer_of_latents(build: Path) -> None:
    _write_batches(build, _batches(build, LATENTS), LATENTS, metadata={"hint": "left"})


def padding_behind_the_episodes_of_latents(build: Path) -> None:
    def edit(data: bytearray) -> None:
        text = data.index(b"ep_aep_a")
        while data[text : text + 4] == b"ep_a":
            text += 4
        data[text] = 7

    edit_bytes(build, LATENTS, edit)


WITH_DROPPED = replace(ROBOT, episodes=(*ROBOT.episodes, TinyEpisode("ep_d", "train", 0, 12)))


def record_batches_that_show_where_an_episode_was_dropped(build: Path) -> None:
    """The seams of the old shard are left: they tell how many samples the dropped episode had."""
    drop_here(build, "ep_a")
    columns, metadata = read_targets(build / ARROW)
    write_targets(build / ARROW, columns, metadata, [2, 3, 3])
    rehash(build)


def device_numbers_in_a_tar_header(build: Path) -> None:
    edit_bytes(build, TAR, header_field(329, b"0000017\0"))


def prefix_in_a_tar_header(build: Path) -> None:
    edit_bytes(build, TAR, header_field(345, b"left"))


def checksum_spelled_otherwise(build: Path) -> None:
    def edit(data: bytearray) -> None:
        assert data[154:156] == b"\0 "
        data[154:156] = b" \0"

    edit_bytes(build, TAR, edit)


def key_of_a_file_in_the_inventory_in_capitals(build: Path) -> None:
    edit_json(build, "build.json", lambda content: content["shards"][0].update(Inputs={}))


def _all(level: str, found: dict[Callable[[Path], object], str], **options: Any) -> tuple[Mutant, ...]:
    return tuple(Mutant(apply, "L10", level, message, **options) for apply, message in found.items())


_BYTE = "is not as its content is written"

MUTANTS = (
    *_all(
        "shards",
        {
            metadata_of_the_manifest: "samples.parquet byte",
            manifest_compressed_otherwise: _BYTE,
            manifest_without_statistics_of_a_column: _BYTE,
            manifest_with_another_encoding: _BYTE,
            manifest_in_pages_of_another_version: _BYTE,
            manifest_in_other_row_groups: "row groups must hold 16384 rows each",
            bytes_before_the_footer_of_the_manifest: _BYTE,
            name_of_the_writer_of_the_manifest: _BYTE,
            statistics_of_the_manifest_that_lie: _BYTE,
            metadata_in_the_footer_of_targets: f"{ARROW} byte",
            compressed_targets: f"{VAL_ARROW} byte",
            targets_of_an_older_format: f"{ARROW} byte",
            other_record_batches: "record batches hold 2, 4, 3 rows, must hold 3, 3, 3",
            empty_record_batch: "record batches hold 3, 0, 3, 3 rows",
            spare_bits_of_a_mask: f"{ARROW} byte",
            spare_bits_of_the_actions_mask: f"{ARROW} byte",
            padding_behind_a_mask: f"{VAL_ARROW} byte",
            bytes_before_the_first_key: f"{ARROW} byte",
            bytes_behind_the_footer: f"{ARROW} byte",
            padding_of_the_magic: f"{VAL_ARROW} byte 6",
            device_numbers_in_a_tar_header: "differs in device",
            prefix_in_a_tar_header: "differs in prefix",
        },
    ),
    *_all(
        "shards",
        {
            latents_in_another_order: "not in the order in which the samples first need them",
            other_record_batches_of_latents: "record batches hold 5, 4, 4 rows",
            metadata_in_the_footer_of_latents: f"{LATENTS} byte",
            padding_behind_the_episodes_of_latents: f"{LATENTS} byte",
        },
        world=TUBELET,
    ),
    *_all(
        "shards",
        {record_batches_that_show_where_an_episode_was_dropped: "record batches hold 2, 3, 3 rows, must hold 3, 3, 2"},
        world=WITH_DROPPED,
    ),
    *_all("manifest", {key_of_a_file_in_the_inventory_in_capitals: "shards[0] holds 'Inputs'"}),
    Mutant(checksum_spelled_otherwise, "L7", "shards", "has a wrong checksum"),
    Mutant(payload_of_a_time_that_is_not_there, "L8", "manifest", "NaN the one of IEEE 754"),
    Mutant(sign_of_a_time_that_is_not_there, "L8", "manifest", "NaN the one of IEEE 754"),
    Mutant(digits_below_a_microsecond, "L8", "manifest", "1.2000000371"),
    Mutant(digits_of_now, "L8", "manifest", "now_s=0.40000000000001"),
    Mutant(sign_of_the_first_time, "L8", "manifest", "now_s=-0.0"),
)
