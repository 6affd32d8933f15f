"""Attention within sequences that lie one after the other, without padding: one operator, whatever their lengths.

Lengths reach the kernel as a tensor, so that code compiled once serves every batch, and PyTorch's compiler sees one
operator of its own. CUDA runs flash attention, PyTorch's or xFormers'; elsewhere each run of equally long sequences is
a batch.

Shapes: T tokens of all sequences, H query heads, G key-value heads (H a multiple of G), C channels a head,
N sequences.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.flop_counter import register_flop_formula

from model.attention.backend import resolve_backend, xformers_biases, xformers_ops
from model.settings import AttentionBackend

ROUNDED_TO = 64
"""Of `Packed.longest`: kernels take it as an upper bound, and compiled code is made anew for each value."""


@dataclass(frozen=True)
class Packed:
    """Sequences one after the other; none sees another.

    starts   int32 [N + 1]: the first token of each sequence, and T; on the tokens' device
    longest  an upper bound of their lengths
    causal   whether a token sees no later one
    """

    starts: Tensor
    longest: int
    causal: bool = False

    @classmethod
    def of(cls, lengths: Sequence[int], causal: bool = False) -> Packed:
        """Of sequences of such lengths, on the CPU."""
        starts = torch.tensor([0, *lengths]).cumsum(0).int()
        return cls(starts, -(-max(lengths) // ROUNDED_TO) * ROUNDED_TO, causal)


def packed_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    packed: Packed,
    backend: str = "auto",
    scale: float | None = None,
    keys: Packed | None = None,
) -> Tensor:
    """softmax(scale * q k^T) v within each sequence.

    Args:
        q: [T, H, C].
        k: [T, G, C], each head shared by H / G neighbouring query heads.
        v: as k.
        packed: which tokens belong together.
        backend: see `model.attention.backend`.
        scale: None: 1 / sqrt(C).
        keys: where sequences have other lengths in k and v than in q; a sequence without queries may have some.

    Returns:
        [T, H, C], dtype of `v`.

    Raises:
        SettingsError: the backend has no such name, or cannot run here.
    """
    chosen = resolve_backend(backend, v.device, v.dtype, v.shape[-1])
    return attend_within(q.to(v.dtype), k.to(v.dtype), v, packed, keys or packed, chosen, scale)


def attend_within(
    q: Tensor, k: Tensor, v: Tensor, queries: Packed, keys: Packed, backend: AttentionBackend, scale: float | None
) -> Tensor:
    """The same of one dtype, where query sequence i sees key sequence i; `causal` wants equal lengths."""
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    lengths = (queries.starts, keys.starts, queries.longest, keys.longest, queries.causal)
    out: Tensor = _forward(q, k, v, *lengths, scale, str(backend))[0]
    return out


@torch.library.custom_op("vla_jepa::packed_attention", mutates_args=())
def _forward(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    q_starts: Tensor,
    k_starts: Tensor,
    q_longest: int,
    k_longest: int,
    causal: bool,
    scale: float,
    backend: str,
) -> tuple[Tensor, Tensor]:
    """The result, and float32 [H, T], the logarithm of each softmax's denominator, where the backward pass needs it."""
    if backend == AttentionBackend.XFORMERS:
        q_, k_, v_ = _xformers_layout(q, k, v)
        bias = _xformers_bias(q_starts, k_starts, q_longest, k_longest, (len(q), len(k)), causal)
        out, denominators = xformers_ops().memory_efficient_attention_forward_requires_grad(
            q_, k_, v_, attn_bias=bias, scale=scale
        )
        return out.reshape(q.shape), denominators.clone()
    if _has_flash(q):
        out, denominators, *_ = torch.ops.aten._flash_attention_forward(
            q, k, v, q_starts, k_starts, q_longest, k_longest, 0.0, causal, False, scale=scale
        )
        return out, denominators
    parts = []
    for queries, keys in _runs(q_starts, k_starts):
        q_, k_, v_ = _batched(q, *queries), _batched(k, *keys), _batched(v, *keys)
        part = functional.scaled_dot_product_attention(q_, k_, v_, is_causal=causal, scale=scale, enable_gqa=True)
        parts.append(part.transpose(1, 2).flatten(0, 1))
    return torch.cat(parts), q.new_empty(0, dtype=torch.float32)


@_forward.register_fake
def _(q: Tensor, k: Tensor, v: Tensor, *others: Any) -> tuple[Tensor, Tensor]:
    if others[-1] == AttentionBackend.XFORMERS:
        shape: tuple[int, ...] = (1, q.shape[1], q.shape[0])
    else:
        shape = (q.shape[1], q.shape[0]) if _has_flash(q) else (0,)
    return torch.empty_like(q, memory_format=torch.contiguous_format), q.new_empty(shape, dtype=torch.float32)


@torch.library.custom_op("vla_jepa::packed_attention_backward", mutates_args=())
def _backward(
    gradient: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    out: Tensor,
    denominators: Tensor,
    q_starts: Tensor,
    k_starts: Tensor,
    q_longest: int,
    k_longest: int,
    causal: bool,
    scale: float,
    backend: str,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of q, k, v, each of its shape."""
    gradient = gradient.contiguous()
    if backend == AttentionBackend.XFORMERS:
        q_, k_, v_, out_, gradient_ = _xformers_layout(q, k, v, out, gradient)
        bias = _xformers_bias(q_starts, k_starts, q_longest, k_longest, (len(q), len(k)), causal)
        found = xformers_ops().memory_efficient_attention_backward(
            gradient_, out_, denominators, q_, k_, v_, attn_bias=bias, scale=scale
        )
        return _gradients_of_shared_heads(found, q, k)
    if _has_flash(q):
        unused = torch.empty(0, dtype=torch.uint64, device=q.device)
        state = torch.zeros(2, dtype=torch.uint64, device=q.device)  # of dropout, of which there is none
        dq, dk, dv = torch.ops.aten._flash_attention_backward(
            *(gradient, q, k, v, out, denominators, q_starts, k_starts, q_longest, k_longest, 0.0, causal),
            *(state, unused),
            scale=scale,
        )
        return dq, dk, dv
    found = tuple(torch.zeros_like(x, memory_format=torch.contiguous_format) for x in (q, k, v))
    for queries, keys in _runs(q_starts, k_starts):
        tokens = (queries, queries, keys, keys, queries)
        batched = [_batched(x, *at) for x, at in zip((gradient, q, k, v, out), tokens, strict=True)]
        parts = _plain_backward(batched, causal, scale)
        for whole, part, (first, count, length) in zip(found, parts, tokens[1:4], strict=True):
            whole[first : first + count * length] = part.transpose(1, 2).flatten(0, 1)
    return found[0], found[1], found[2]


@_backward.register_fake
def _(gradient: Tensor, q: Tensor, k: Tensor, v: Tensor, *others: Any) -> tuple[Tensor, Tensor, Tensor]:
    dq, dk, dv = (torch.empty_like(x, memory_format=torch.contiguous_format) for x in (q, k, v))
    return dq, dk, dv


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    *tensors, ctx.q_longest, ctx.k_longest, ctx.causal, ctx.scale, ctx.backend = inputs
    ctx.save_for_backward(*tensors[:3], *output, *tensors[3:])


def _differentiate(ctx: Any, gradient: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
    others = (ctx.q_longest, ctx.k_longest, ctx.causal, ctx.scale, ctx.backend)
    return (*_backward(gradient, *ctx.saved_tensors, *others), *[None] * 7)


_forward.register_autograd(_differentiate, setup_context=_keep)


@register_flop_formula(torch.ops.vla_jepa.packed_attention, get_raw=True)
def _flops(q: Tensor, k: Tensor, v: Tensor, q_starts: Tensor, k_starts: Tensor, *_: Any, **__: Any) -> int:
    """Two products of every query with the keys of its sequence, masked ones too, as PyTorch counts them."""
    pairs = int((q_starts.diff().long() * k_starts.diff().long()).sum())
    return 4 * pairs * q.shape[1] * q.shape[2]


@register_flop_formula(torch.ops.vla_jepa.packed_attention_backward, get_raw=True)
def _backward_flops(gradient: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, *others: Any, **__: Any) -> int:
    """Five products: scores again, and the gradients of probabilities, queries, keys and values."""
    return _flops(q, k, v, *others[1:3]) * 5 // 2


def _has_flash(x: Tensor) -> bool:
    return x.device.type == "cuda" and x.dtype in (torch.bfloat16, torch.float16)


Run = tuple[int, int, int]
"""First token, sequences, tokens of each."""


def _runs(q_starts: Tensor, k_starts: Tensor) -> Iterator[tuple[Run, Run]]:
    """Queries and keys of neighbours that have the same lengths."""
    q_first = k_first = 0
    lengths = zip(q_starts.diff().tolist(), k_starts.diff().tolist(), strict=True)
    for (q_length, k_length), group in groupby(lengths):
        count = len(list(group))
        if q_length:
            yield (q_first, count, q_length), (k_first, count, k_length)
        q_first, k_first = q_first + count * q_length, k_first + count * k_length


def _batched(x: Tensor, first: int, count: int, length: int) -> Tensor:
    """Of [T, H, C], sequences of one length as a batch: [count, H, length, C]."""
    return x[first : first + count * length].unflatten(0, (count, length)).transpose(1, 2)


def _plain_backward(tensors: Sequence[Tensor], causal: bool, scale: float) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of q, k, v by attention's own formula, in float32 or more.

    Args:
        tensors: gradient of the output, q, k, v, output; [B, heads, L, C].
    """
    gradient, q, k, v, out = tensors
    exact = torch.promote_types(q.dtype, torch.float32)
    shared = q.shape[1] // k.shape[1]
    g, q_, o = (x.to(exact) for x in (gradient, q, out))
    k_, v_ = (x.to(exact).repeat_interleave(shared, dim=1) for x in (k, v))
    scores = scale * q_ @ k_.mT
    if causal:
        later = torch.ones(scores.shape[-2:], dtype=torch.bool, device=q.device).triu(1)
        scores = scores.masked_fill(later, -torch.inf)
    p = scores.softmax(dim=-1)
    d = scale * p * (g @ v_.mT - (g * o).sum(dim=-1, keepdim=True))
    dk, dv = (x.unflatten(1, (-1, shared)).sum(dim=2) for x in (d.mT @ q_, p.mT @ g))
    return (d @ k_).to(q.dtype), dk.to(k.dtype), dv.to(v.dtype)


def _xformers_layout(q: Tensor, k: Tensor, v: Tensor, *like_q: Tensor) -> list[Tensor]:
    """[1, T, H, C] of all; or [1, T, G, H / G, C] where heads are shared, without a copy of keys and values."""
    groups = k.shape[1]
    if q.shape[1] == groups:
        return [x[None] for x in (q, k, v, *like_q)]
    shape = (groups, q.shape[1] // groups)
    first, *others = (x.unflatten(1, shape)[None] for x in (q, *like_q))
    shared = [x[None, :, :, None].expand(first.shape) for x in (k, v)]
    return [first, *shared, *others]


def _gradients_of_shared_heads(found: Sequence[Tensor], q: Tensor, k: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    dq, dk, dv = found
    if q.shape[1] != k.shape[1]:
        dk, dv = (x.sum(dim=3) for x in (dk, dv))
    return dq.reshape(q.shape), dk.reshape(k.shape), dv.reshape(k.shape)


def _xformers_bias(
    q_starts: Tensor, k_starts: Tensor, q_longest: int, k_longest: int, tokens: tuple[int, int], causal: bool
) -> Any:
    """xFormers' mask, made of the tensors of starts as they are: the kernels read no lengths on the host."""
    biases = xformers_biases()
    kind = biases.BlockDiagonalCausalMask if causal else biases.BlockDiagonalMask
    queries, keys = (
        biases._SeqLenInfo(seqstart=starts, max_seqlen=longest, min_seqlen=1, seqstart_py=[0, count])
        for starts, longest, count in zip((q_starts, k_starts), (q_longest, k_longest), tokens, strict=True)
    )
    return kind(q_seqinfo=queries, k_seqinfo=keys)
