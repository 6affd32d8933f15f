"""The forward pass of V-JEPA 2's and 2.1's encoder on CUDA, over clips of several lengths one after the other.

It computes what the modules compute, with another rounding: patches by one matrix product, queries, keys and values by
one, attention within each clip by the attention the model is set to, and in the last layer only the tokens that are
kept. Layers are compiled: a layer is one function of tensors, so that all share a graph, one for each size of a pack.

Letters: T tubelets of a pack, M kept ones, C input side, N tokens a tubelet, D width, H heads.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from pipeline.encoder.device_frames import to_device
from pipeline.encoder.encoder_weights import Affine, EncoderModel, LayerWeights, weights_of
from pipeline.encoder.packs import Pack
from pipeline.encoder.pixels import imagenet, scaled
from pipeline.encoder.rotary_tables import kept_tables, turn

GRAPHS = 64
"""Shapes that a process may compile a layer for: three sizes, twice for the last layer, for each number of steps."""

Backend: TypeAlias = str | Callable[..., Any]
"""As `torch.compile` takes it."""

Record: TypeAlias = Callable[[Callable[..., Tensor]], Callable[..., Tensor]]
"""Makes a function that runs as a CUDA graph of one that does not wait for the device; its result is overwritten by the
next call."""


@dataclass(frozen=True)
class Clips:
    """Where the clips of a pack lie, in tokens.

    starts, kept_starts  int32 [T + 1]: the first of each clip, and their number; of all tokens, of those kept
    kept                 int64 [M]: tubelets that are kept; None: all are
    longest              no clip has more
    """

    starts: Tensor
    kept_starts: Tensor
    kept: Tensor | None
    longest: int


class PackedForward:
    """Frames -> latents.

    Args:
        model: on its device, set to an attention that takes lengths as `cu_seq_lens_q` and `cu_seq_lens_k`. The weights
            of its queries, keys and values become views of one tensor.
        dtype: of autocast; float32: none.
        backend: compiles patches and layers; None: nothing is compiled.
        record: how the whole is recorded; None: it is not.
    """

    def __init__(
        self, model: EncoderModel, dtype: torch.dtype, backend: Backend | None = None, record: Record | None = None
    ) -> None:
        config = model.config
        self._weights, self._dtype, self._compiled = weights_of(model), dtype, backend is not None
        self._patch, self._eps = config.patch_size, config.layer_norm_eps
        self._tokens = (config.crop_size // config.patch_size) ** 2
        self._mean, self._std = imagenet(model.device)
        self._attention = self._weights.attention
        self._attend = ALL_ATTENTION_FUNCTIONS.get_interface(config._attn_implementation, None)
        self._embed, self._layer = (_compiled(part, backend) for part in (self._embed_tubelets, self._one_layer))
        self._run = self._forward if record is None else record(self._forward)

    def __call__(self, frames: Tensor, pack: Pack) -> Tensor:
        """Latents of the kept tubelets; the next call may write to them.

        Args:
            frames: uint8 [T, 2, C, C, 3], RGB.

        Returns:
            float16 [M, N, D].
        """
        device = frames.device
        clips = Clips(
            to_device(self._starts(pack.lengths), device),
            to_device(self._starts(pack.kept_lengths), device),
            to_device(pack.kept, device) if len(pack.kept) < len(pack.rows) else None,
            pack.longest * self._tokens,
        )
        tables = kept_tables(clips.longest, self._weights.rotary, device)
        return self._run(frames, to_device(pack.positions, device), tables, clips)

    def _starts(self, lengths: NDArray[np.int32]) -> NDArray[np.int32]:
        return (self._tokens * np.concatenate([[0], lengths.cumsum()])).astype(np.int32)

    def _forward(self, frames: Tensor, positions: Tensor, tables: tuple[Tensor, Tensor], clips: Clips) -> Tensor:
        with self._context():
            # [T * N, 1, D / H] of a table of the longest clip's tokens
            cosines, sines = (
                table.unflatten(0, (-1, self._tokens))[positions].flatten(0, 1)[:, None] for table in tables
            )
            x = self._embed(frames)
            y, last = torch.zeros_like(x), len(self._weights.layers) - 1
            for i, weights in enumerate(self._weights.layers):
                own = (clips.kept_starts, clips.kept) if i == last else (clips.starts, None)
                x, y = self._layer(x, y, cosines, sines, weights, clips.starts, *own, clips.longest)
            latents = self._norm(y + x, self._weights.final)
        return latents.unflatten(0, (-1, self._tokens)).to(torch.float16)

    def _embed_tubelets(self, frames: Tensor) -> Tensor:
        """uint8 [T, 2, C, C, 3] -> [T * N, D]."""
        # [T, 2, 3, rows, P, columns, P] -> [T * rows * columns, 3 * 2 * P * P], as the convolution's weights lie
        parts = scaled(frames, self._mean, self._std).unflatten(4, (-1, self._patch)).unflatten(3, (-1, self._patch))
        patches = parts.permute(0, 3, 5, 2, 1, 4, 6).flatten(3).flatten(0, 2)
        projection, modality = self._weights.patches, self._weights.modality
        embedded = functional.linear(patches, projection.weight.flatten(1), projection.bias)
        return embedded if modality is None else embedded + modality[0].to(embedded.dtype)

    def _one_layer(
        self,
        x: Tensor,
        y: Tensor,
        cosines: Tensor,
        sines: Tensor,
        weights: LayerWeights,
        starts: Tensor,
        own_starts: Tensor,
        kept: Tensor | None,
        longest: int,
    ) -> tuple[Tensor, Tensor]:
        """Tokens x + y [T * N, D] -> those of the next layer, also as a sum, of the kept tubelets.

        A layer's last addition is left to the next one, where it is one kernel with the norm.
        """
        x = y + x
        normed = self._norm(x, weights.norm1)
        if kept is None:
            query, key, value = functional.linear(normed, *weights.qkv).chunk(3, dim=-1)
            own_cosines, own_sines = cosines, sines
        else:
            of_query, of_others = _query_and_others(weights.qkv)
            key, value = functional.linear(normed, *of_others).chunk(2, dim=-1)
            x, own, own_cosines, own_sines = (self._tubelets(part, kept) for part in (x, normed, cosines, sines))
            query = functional.linear(own, *of_query)
        query, key = turn(self._heads(query), own_cosines, own_sines), turn(self._heads(key), cosines, sines)
        mixed = self._mixed(query, key, self._heads(value), own_starts, starts, longest)
        x = functional.linear(mixed, *weights.proj) + x
        hidden = self._weights.activation(functional.linear(self._norm(x, weights.norm2), *weights.fc1))
        return x, functional.linear(hidden, *weights.fc2)

    def _mixed(
        self, query: Tensor, key: Tensor, value: Tensor, own_starts: Tensor, starts: Tensor, longest: int
    ) -> Tensor:
        """[tokens, H, D / H] each -> [tokens of the queries, D], by the model's attention function."""
        batched = (part.transpose(0, 1)[None] for part in (query, key, value))
        lengths = {"cu_seq_lens_q": own_starts, "cu_seq_lens_k": starts}
        limits = {"max_length_q": longest, "max_length_k": longest}
        options = {"is_causal": False, "scaling": self._attention.scaling, "dropout": 0.0}
        mixed: Tensor = self._attend(self._attention, *batched, None, **lengths, **limits, **options)[0]
        return mixed[0].flatten(1)

    def _heads(self, x: Tensor) -> Tensor:
        """[tokens, D] -> [tokens, H, D / H]."""
        return x.unflatten(-1, (-1, self._attention.attention_head_size))

    def _tubelets(self, x: Tensor, kept: Tensor) -> Tensor:
        """The tokens of some tubelets: [T * N, ...] -> [M * N, ...]."""
        return x.unflatten(0, (-1, self._tokens)).index_select(0, kept).flatten(0, 1)

    def _norm(self, x: Tensor, norm: Affine) -> Tensor:
        return functional.layer_norm(x, x.shape[-1:], *norm, self._eps)

    def _context(self) -> AbstractContextManager[Any]:
        """Autocast, and for compiled layers room for their graphs and an error past that, in place of slow code."""
        context = ExitStack()
        reduced = self._dtype is not torch.float32
        # Weights are cast already; what else autocast would keep belongs to one recording alone.
        context.enter_context(torch.autocast(self._mean.device.type, self._dtype, enabled=reduced, cache_enabled=False))
        if self._compiled:
            from torch import _dynamo  # takes a second, which a CPU has no use for

            limits = _dynamo.config.patch(recompile_limit=GRAPHS, fail_on_recompile_limit_hit=True)
            context.enter_context(limits)
        return context


def _compiled(function: Callable[..., Any], backend: Backend | None) -> Callable[..., Any]:
    return function if backend is None else torch.compile(function, backend=backend, dynamic=False)


def _query_and_others(qkv: Affine) -> tuple[Affine, Affine]:
    """Views of the part for queries, and of that for keys and values."""
    width = len(qkv.weight) // 3
    bias = qkv.bias
    return (
        Affine(qkv.weight[:width], None if bias is None else bias[:width]),
        Affine(qkv.weight[width:], None if bias is None else bias[width:]),
    )
