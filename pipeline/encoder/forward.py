"""The forward pass of V-JEPA 2's and 2.1's encoder over the weights of their modules.

On the CPU it computes what transformers' V-JEPA 2 computes, operation by operation, so bytes are the same. On CUDA it
is made for speed: patches are projected by one matrix product, the last layer computes only the tokens that are asked
for, and layers are compiled. A layer is one function of tensors: all layers share a graph, one for each shape of a
batch.

Letters: B clips, F sampled frames, T = F/2 tubelets, C input side, N tokens a tubelet, D width, H heads.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from pipeline.encoder.encoder_weights import Affine, EncoderModel, LayerWeights, weights_of
from pipeline.encoder.rotary_tables import kept_tables, turn

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

GRAPHS = 128
"""Shapes that a process may compile a layer for: prefix lengths, times two batch sizes, times two for the last layer.
Dynamo's own limit of 8 is less than K = 3 needs; past its limit it would go on uncompiled."""


Backend = str | Callable[..., Any]
"""As `torch.compile` takes it."""


class ForwardPass:
    """Frames -> latents.

    Args:
        model: on its device; its attention is the one that its configuration names.
        dtype: of autocast; float32: none.
        exact: the module's own operations, as on the CPU. False: fewer, whose rounding may differ.
        backend: compiles patches and layers; None: nothing is compiled.
    """

    def __init__(self, model: EncoderModel, dtype: torch.dtype, exact: bool, backend: Backend | None) -> None:
        config = model.config
        self._weights, self._dtype, self._exact = weights_of(model), dtype, exact
        self._patch, self._eps = config.patch_size, config.layer_norm_eps
        self._attention = self._weights.attention
        self._attend = ALL_ATTENTION_FUNCTIONS.get_interface(config._attn_implementation, None)
        self._mean, self._std = (
            torch.tensor(values, device=model.device).view(3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD)
        )
        self._compiled = backend is not None
        self._embed, self._layer = self._compile(self._embed_frames, backend), self._compile(self._one_layer, backend)

    def __call__(self, frames: Tensor, tubelets: int) -> Tensor:
        """Latents of the last so many tubelets of each clip.

        Args:
            frames: uint8 [B, F, C, C, 3], RGB.

        Returns:
            float16 [B, tubelets * N, D].
        """
        with self._context():
            x = self._embed(frames)
            wanted = x.shape[1] // (frames.shape[1] // 2) * tubelets
            tables, last = self._tables(x), len(self._weights.layers) - 1
            y = torch.zeros_like(x)
            for i, weights in enumerate(self._weights.layers):
                kept = wanted if i == last and not self._exact else x.shape[1]
                x, y = self._layer(x, y, *tables, weights, kept)
            latents: Tensor = self._norm((y + x)[:, -wanted:], self._weights.final)
        return latents.to(torch.float16)

    def _embed_frames(self, frames: Tensor) -> Tensor:
        """uint8 [B, F, C, C, 3] -> [B, T * N, D]."""
        pixels = (frames.permute(0, 1, 4, 2, 3).float() / 255 - self._mean) / self._std
        if self._exact:
            embedded: Tensor = self._weights.embeddings(pixels)
            return embedded
        # [B, T, 2, 3, rows, P, columns, P] -> [B, T * rows * columns, 3 * 2 * P * P], as the convolution's weights lie
        parts = pixels.unflatten(4, (-1, self._patch)).unflatten(3, (-1, self._patch)).unflatten(1, (-1, 2))
        patches = parts.permute(0, 1, 4, 6, 3, 2, 5, 7).flatten(4).flatten(1, 3)
        projection, modality = self._weights.patches, self._weights.modality
        embedded = functional.linear(patches, projection.weight.flatten(1), projection.bias)
        return embedded if modality is None else embedded + modality.to(embedded.dtype)

    def _one_layer(
        self, x: Tensor, y: Tensor, cosines: Tensor, sines: Tensor, weights: LayerWeights, kept: int
    ) -> tuple[Tensor, Tensor]:
        """Tokens x + y [B, tokens, D] -> those of the next layer, also as a sum, of the last `kept` tokens.

        A layer's last addition is left to the next one, where it is one kernel with the norm.
        """
        x = y + x
        normed = self._norm(x, weights.norm1)
        query = self._heads(functional.linear(normed[:, -kept:], *weights.query))
        key = self._heads(functional.linear(normed, *weights.key))
        value = self._heads(functional.linear(normed, *weights.value))
        mixed, _ = self._attend(
            self._attention,
            turn(query, cosines[-kept:], sines[-kept:]),
            turn(key, cosines, sines),
            value,
            None,
            is_causal=False,
            scaling=self._attention.scaling,
            dropout=0.0,
        )
        x = functional.linear(mixed.flatten(2), *weights.proj) + x[:, -kept:]
        hidden = self._weights.activation(functional.linear(self._norm(x, weights.norm2), *weights.fc1))
        return x, functional.linear(hidden, *weights.fc2)

    @staticmethod
    def _compile(function: Callable[..., Any], backend: Backend | None) -> Callable[..., Any]:
        return function if backend is None else torch.compile(function, backend=backend, dynamic=False)

    def _heads(self, x: Tensor) -> Tensor:
        """[B, tokens, D] -> [B, H, tokens, D/H]."""
        return x.unflatten(-1, (-1, self._attention.attention_head_size)).transpose(1, 2)

    def _norm(self, x: Tensor, norm: Affine) -> Tensor:
        return functional.layer_norm(x, x.shape[-1:], *norm, self._eps)

    def _tables(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return kept_tables(x.shape[1], self._weights.rotary, x.device)

    def _context(self) -> AbstractContextManager[Any]:
        """Autocast, and for compiled layers room for their graphs and an error past that, in place of slow code."""
        context = ExitStack()
        context.enter_context(
            torch.autocast(self._mean.device.type, self._dtype, enabled=self._dtype is not torch.float32)
        )
        if self._compiled:
            from torch import _dynamo  # takes a second, which a CPU has no use for

            limits = _dynamo.config.patch(recompile_limit=GRAPHS, fail_on_recompile_limit_hit=True)
            context.enter_context(limits)
        return context
