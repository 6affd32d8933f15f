"""Columns of the Arrow and Parquet files of a build."""

from __future__ import annotations

import pyarrow as pa

from pipeline.format.enums import LatentDtype
from pipeline.format.schema import Sizes

ROW_GROUP = 1 << 14
"""Rows of each row group of samples.parquet but the last. A shard has a few hundred rows: with row groups of its own,
the footer of 19 million rows would be 180 MB, which every reader parses."""

DIGEST = pa.binary(32)
"""A SHA-256 in a column: its bytes, half of what hexadecimal digits take. JSON and messages have digits (`hex()`)."""


def latent_columns(sizes: Sizes, dtype: LatentDtype) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Element type and shape of a row in the columns that hold latents, in their order, which is that of the digest.

    Args:
        dtype: of the stored latents.
    """
    token = (sizes.views, sizes.tokens)
    shapes = {"context": token, "latents": (sizes.steps, *token)}
    if dtype == LatentDtype.FLOAT16:
        return {name: ("float16", (*shape, sizes.width)) for name, shape in shapes.items()}
    return {
        column: entry
        for name, shape in shapes.items()
        for column, entry in ((name, ("int8", (*shape, sizes.width))), (f"{name}_scale", ("float32", shape)))
    }


def tubelet_columns(sizes: Sizes, dtype: LatentDtype) -> dict[str, tuple[str, tuple[int, ...]]]:
    """As `latent_columns`, for the rows of a latents shard (encoder mode `tubelet`)."""
    token = (sizes.views, sizes.tokens)
    columns: dict[str, tuple[str, tuple[int, ...]]] = {"latent": (dtype, (*token, sizes.width))}
    return columns if dtype == LatentDtype.FLOAT16 else {**columns, "scale": ("float32", token)}


def latents_schema(sizes: Sizes, metadata: dict[str, str], dtype: LatentDtype = LatentDtype.FLOAT16) -> pa.Schema:
    """Arrow schema of a latents shard: episode, last frame and latent of each distinct tubelet."""
    fields = [pa.field("episode", pa.string(), nullable=False), pa.field("frame", pa.int32(), nullable=False)]
    return pa.schema([*fields, *_tensor_fields(tubelet_columns(sizes, dtype))], metadata=metadata)


def targets_schema(
    sizes: Sizes, metadata: dict[str, str], dtype: LatentDtype = LatentDtype.FLOAT16, tubelets: bool = False
) -> pa.Schema:
    """Arrow schema of a targets shard. Human video (``sizes.action == 0``) has no action columns.

    Args:
        sizes: the build's sizes.
        metadata: stored in the schema: ``fingerprint``, ``schema_version``, ``shard``.
        dtype: of the latents; "int8" has the columns ``context_scale`` and ``latents_scale`` as well.
        tubelets: latents are in a separate file; the columns ``context_row`` and ``latent_rows`` hold their rows.
    """
    fields = [pa.field("key", pa.string(), nullable=False)]
    if tubelets:
        fields.append(pa.field("context_row", pa.int32(), nullable=False))
        fields.append(pa.field("latent_rows", pa.list_(pa.int32(), sizes.steps), nullable=False))
    else:
        fields += _tensor_fields(latent_columns(sizes, dtype))
    fields.append(pa.field("latent_mask", pa.list_(pa.bool_(), sizes.steps), nullable=False))
    if sizes.action:
        actions = pa.fixed_shape_tensor(pa.float32(), [sizes.chunk, sizes.action])
        fields.append(pa.field("actions", actions, nullable=False))
        fields.append(pa.field("action_mask", pa.list_(pa.bool_(), sizes.chunk), nullable=False))
    return pa.schema(fields, metadata=metadata)


def _tensor_fields(columns: dict[str, tuple[str, tuple[int, ...]]]) -> list[pa.Field]:
    return [
        pa.field(name, pa.fixed_shape_tensor(pa.type_for_alias(kind), list(shape)), nullable=False)
        for name, (kind, shape) in columns.items()
    ]


def samples_schema(views: int, steps: int) -> pa.Schema:
    """Columns of `samples.parquet`, one row a sample, sorted by split, shard and row."""
    return pa.schema(
        [
            ("key", pa.string()),
            ("split", pa.string()),
            ("shard", pa.int32()),
            ("row", pa.int32()),
            ("source", pa.string()),
            ("episode", pa.string()),
            ("num_frames", pa.int32()),
            ("interval", pa.int32()),
            ("now", pa.int32()),
            ("state_frame", pa.int32()),  # -1: no state
            ("action_start", pa.int32()),  # -1: no actions
            ("action_count", pa.int32()),  # valid actions; the rest of the chunk is padding
            ("supports", pa.list_(pa.list_(pa.int32()), steps + 1)),  # [k] -> frames; empty: step masked
            ("now_s", pa.float64()),  # time of `now` by the decoder, seconds
            ("support_end_s", pa.list_(pa.float64(), steps + 1)),  # time of the last frame of each support; NaN: masked
            ("image_offset", pa.list_(pa.int64(), views)),  # of the JPEG's first byte in the tar
            ("image_size", pa.list_(pa.int32(), views)),
            ("json_offset", pa.int64()),
            ("json_size", pa.int32()),
            ("inputs_sha256", DIGEST),  # of the members' payloads, in order
            ("targets_sha256", DIGEST),  # of the row: see `shards.targets_arrow.row_digest`
        ]
    )
