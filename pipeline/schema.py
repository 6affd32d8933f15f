"""What a sample is: the two halves that never meet before the loss, and their names on disk.

Shapes
------
B  samples in a batch        V  views (cameras)            H, W  image height and width
K  future steps              N  latent tokens a step       D     latent width
S  state width               T  actions in a chunk         A     action width

``Observation`` is all the student may see. It has no field for a target (rule L3). ``Targets`` is supervision: it
reaches losses alone, and the predictor's teacher-forced context (rules L4, L5).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import pyarrow as pa

SCHEMA_VERSION = 1
"""Changes whenever the bytes of a shard or the columns of the manifest change their meaning."""

SPLITS = ("train", "val", "test")

SHARD_FILES = ("inputs", "targets", "latents")
"""Files of a shard, by their key in build.json; the last is there in encoder mode `tubelet` alone."""

LATENT_DTYPES = ("float16", "int8")
"""How latents lie on disk; int8 with a float32 scale for each token."""

ArrayT = TypeVar("ArrayT")
"""numpy.ndarray on the way from disk, torch.Tensor in the model."""


@dataclass(frozen=True)
class Observation(Generic[ArrayT]):
    """The student's input at the present frame `now`.

    images       uint8   [B, V, H, W, 3]  RGB, 0..255
    instruction  B strings
    state        float32 [B, S]           in the source's units, at `now`; None for a build without actions
    """

    images: ArrayT
    instruction: tuple[str, ...]
    state: ArrayT | None


@dataclass(frozen=True)
class Targets(Generic[ArrayT]):
    """Supervision computed ahead of training.

    context        float16 [B, V, N, D]     z_0, the latent of the present; int8 on the way from an int8 build
    latents        float16 [B, K, V, N, D]  z_1..z_K; likewise
    latent_mask    bool    [B, K]           False where the step would lie past the end of the episode
    actions        float32 [B, T, A]        a_n..a_{n+T-1} in the source's units; None for human video
    action_mask    bool    [B, T]           False where the action would lie past the end of the episode
    context_scale  float32 [B, V, N]        what int8 values are multiplied by; None with float16 ones
    latents_scale  float32 [B, K, V, N]     likewise. In the model both are None: `model.batch` has multiplied
    """

    context: ArrayT
    latents: ArrayT
    latent_mask: ArrayT
    actions: ArrayT | None
    action_mask: ArrayT | None
    context_scale: ArrayT | None = None
    latents_scale: ArrayT | None = None


@dataclass(frozen=True)
class Skipped:
    """A sample that could not be read: its key, and why, with the file and what it should hold."""

    key: str
    reason: str


@dataclass(frozen=True)
class Batch(Generic[ArrayT]):
    """`keys[i]` names row i of both halves; it was compared on both sides before this object was made (rule L7).

    skipped  samples whose rows are zeros with all masks False, because the run was told to go on without them
    """

    keys: tuple[str, ...]
    observation: Observation[ArrayT]
    targets: Targets[ArrayT]
    skipped: tuple[Skipped, ...] = ()


@dataclass(frozen=True)
class Sizes:
    """The sizes of a build; the letters are those of the module's legend. `actions` is 0 for human video."""

    views: int
    image_size: int
    steps: int
    tokens: int
    width: int
    state: int
    chunk: int
    action: int


INPUT_JSON_KEYS = ("episode", "instruction", "key", "now", "source", "state", "views")
"""Keys of a sample's KEY.json, in the order written. `state` is a list of numbers, or null for human video."""


def image_member(key: str, view: str) -> str:
    """Name of the tar member with the current frame of one view."""
    return f"{key}.{view}.jpg"


def json_member(key: str) -> str:
    """Name of the tar member with instruction, state and provenance."""
    return f"{key}.json"


def member_names(key: str, views: Sequence[str]) -> list[str]:
    """All members of a sample, in the order they stand in the tar."""
    return [image_member(key, view) for view in views] + [json_member(key)]


def inputs_file(split: str, index: int) -> str:
    """Path of an inputs shard inside a build."""
    return f"{split}/inputs-{index:06d}.tar"


def latents_file(split: str, index: int) -> str:
    """Path of a latents shard inside a build of encoder mode `tubelet`."""
    return f"{split}/latents-{index:06d}.arrow"


def targets_file(split: str, index: int) -> str:
    """Path of a targets shard inside a build."""
    return f"{split}/targets-{index:06d}.arrow"


def latent_columns(sizes: Sizes, dtype: str) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Element type and shape of a row in the columns that hold latents, in their order, which is that of the digest.

    Args:
        dtype: one of LATENT_DTYPES.
    """
    token = (sizes.views, sizes.tokens)
    shapes = {"context": token, "latents": (sizes.steps, *token)}
    if dtype == "float16":
        return {name: ("float16", (*shape, sizes.width)) for name, shape in shapes.items()}
    return {
        column: entry
        for name, shape in shapes.items()
        for column, entry in ((name, ("int8", (*shape, sizes.width))), (f"{name}_scale", ("float32", shape)))
    }


def tubelet_columns(sizes: Sizes, dtype: str) -> dict[str, tuple[str, tuple[int, ...]]]:
    """As `latent_columns`, for the rows of a latents shard (encoder mode `tubelet`)."""
    token = (sizes.views, sizes.tokens)
    columns: dict[str, tuple[str, tuple[int, ...]]] = {"latent": (dtype, (*token, sizes.width))}
    return columns if dtype == "float16" else {**columns, "scale": ("float32", token)}


def latents_schema(sizes: Sizes, metadata: dict[str, str], dtype: str = "float16") -> pa.Schema:
    """Arrow schema of a latents shard: episode, last frame and latent of each distinct tubelet."""
    fields = [pa.field("episode", pa.string(), nullable=False), pa.field("frame", pa.int32(), nullable=False)]
    return pa.schema([*fields, *_tensor_fields(tubelet_columns(sizes, dtype))], metadata=metadata)


def targets_schema(sizes: Sizes, metadata: dict[str, str], dtype: str = "float16", tubelets: bool = False) -> pa.Schema:
    """Arrow schema of a targets shard. Human video (``sizes.action == 0``) has no action columns.

    Args:
        sizes: the build's sizes.
        metadata: stored in the schema: ``fingerprint``, ``schema_version``, ``shard``.
        dtype: of the latents; "int8" has the columns ``context_scale`` and ``latents_scale`` as well.
        tubelets: latents lie in a file of their own, and the columns ``context_row`` and ``latent_rows`` say where.
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
            ("inputs_sha256", pa.string()),  # of the members' payloads, in order
            ("targets_sha256", pa.string()),  # of the row: see shards.row_digest
        ]
    )
