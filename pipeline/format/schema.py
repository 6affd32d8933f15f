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

from dataclasses import dataclass
from typing import Generic, TypeVar

SCHEMA_VERSION = 2
"""Changes whenever the bytes of a shard or the columns of the manifest change their meaning."""

SPLITS = ("train", "val", "test")


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

    skipped  samples whose rows are zeros with all masks False, because the run goes on without them
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
