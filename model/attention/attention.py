"""Scaled dot-product attention with a choice of kernels and masks that need no matrix.

A mask is a description (`Packed`, `StepCausal`), which each backend turns into its fastest form: slices without any
mask for PyTorch, block-diagonal biases with cumulative lengths for xFormers.

Shapes: B batch, H heads, Q queries, L keys, C channels a head.
"""

from __future__ import annotations

import functools
import importlib
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from model.settings import AttentionBackend
from pipeline.errors import SettingsError


@dataclass(frozen=True)
class Packed:
    """Sequences one after the other in a batch of one; none sees another. `causal`: a token sees no later one."""

    lengths: tuple[int, ...]
    causal: bool = False

    def runs(self) -> Iterator[tuple[int, int, int]]:
        """(first token, sequences, length) of neighbours that have the same length."""
        first = 0
        for length, group in groupby(self.lengths):
            count = len(list(group))
            yield first, count, length
            first += count * length


@dataclass(frozen=True)
class StepCausal:
    """Steps of equally many tokens: full attention within a step and to all earlier ones (rule L4)."""

    steps: int
    tokens: int


Mask = Packed | StepCausal


def attention(
    q: Tensor, k: Tensor, v: Tensor, mask: Mask | None = None, backend: str = "auto", scale: float | None = None
) -> Tensor:
    """softmax(scale * q k^T) v over the pairs a mask allows.

    Args:
        q: [B, H, Q, C].
        k: [B, H, L, C], or with fewer heads, each shared by H / (its heads) neighbouring query heads.
        v: as k.
        mask: who sees whom; None: everyone. A mask wants Q = L, `Packed` also B = 1.
        backend: "xformers" (CUDA), "sdpa" (PyTorch), or "auto": xformers where it can run, else sdpa.
        scale: None: 1 / sqrt(C).

    Returns:
        [B, H, Q, C], dtype of `v`.

    Raises:
        SettingsError: the backend has no such name, or cannot run here.
        ValueError: the mask does not describe the tensors.
    """
    _check(q, k, mask)
    groups = q.shape[1] // k.shape[1]
    if groups > 1:
        k, v = k.repeat_interleave(groups, dim=1), v.repeat_interleave(groups, dim=1)
    run = _xformers if resolve_backend(backend, v.device, v.dtype, v.shape[-1]) == "xformers" else _sdpa
    return run(q.to(v.dtype), k.to(v.dtype), v, mask, scale)


def resolve_backend(backend: str, device: torch.device, dtype: torch.dtype = torch.bfloat16, channels: int = 64) -> str:
    """The backend that runs on a device for heads of so many channels: "xformers" or "sdpa".

    Where "auto" has to do without xFormers on CUDA, a warning says once why.

    Raises:
        SettingsError: the backend has no such name, or cannot run on this device.
    """
    if backend not in list(AttentionBackend):
        raise SettingsError(f"attention must be one of {', '.join(AttentionBackend)}, got {backend!r}")
    if backend == "sdpa" or (backend == "auto" and device.type != "cuda"):
        return "sdpa"
    if device.type != "cuda":
        raise SettingsError(f"attention=xformers needs CUDA tensors, got {device}; set attention=sdpa or auto")
    problem = _xformers_problem(device, dtype, channels)
    if not problem:
        return "xformers"
    if backend == "auto":
        return "sdpa"
    raise SettingsError(f"attention=xformers: {problem}; install the xFormers built for this CUDA, or set sdpa")


def _check(q: Tensor, k: Tensor, mask: Mask | None) -> None:
    if mask is None:
        return
    tokens = sum(mask.lengths) if isinstance(mask, Packed) else mask.steps * mask.tokens
    if q.shape[2] != tokens or k.shape[2] != tokens or (isinstance(mask, Packed) and len(q) != 1):
        raise ValueError(f"the mask describes {tokens} tokens, got queries {tuple(q.shape)} and keys {tuple(k.shape)}")


def _sdpa(q: Tensor, k: Tensor, v: Tensor, mask: Mask | None, scale: float | None) -> Tensor:
    attend = functools.partial(functional.scaled_dot_product_attention, scale=scale)
    if mask is None:
        return attend(q, k, v)
    if isinstance(mask, StepCausal):
        # The queries of a step see all keys up to its end: slices of the keys, and no mask.
        ends = [mask.tokens * (step + 1) for step in range(mask.steps)]
        steps = [attend(q[:, :, end - mask.tokens : end], k[:, :, :end], v[:, :, :end]) for end in ends]
        return torch.cat(steps, dim=2)
    parts = []
    for first, count, length in mask.runs():
        # [1, H, count * length, C] -> [count, H, length, C]
        q_, k_, v_ = (
            x[0, :, first : first + count * length].unflatten(1, (count, length)).transpose(0, 1) for x in (q, k, v)
        )
        parts.append(attend(q_, k_, v_, is_causal=mask.causal).transpose(0, 1).flatten(1, 2))
    return torch.cat(parts, dim=1)[None]


def _xformers(q: Tensor, k: Tensor, v: Tensor, mask: Mask | None, scale: float | None) -> Tensor:
    """xFormers takes [B, Q, H, C], and block-diagonal biases over a batch of one."""
    shape = q.transpose(1, 2).shape
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    bias = None
    if isinstance(mask, Packed):
        bias = packed_bias(mask, q.device)
    elif isinstance(mask, StepCausal):
        bias = step_causal_bias(mask, len(q), q.device)
        q, k, v = q.reshape(1, -1, *shape[2:]), _prefixes(k, mask), _prefixes(v, mask)
    out: Tensor = _xformers_ops().memory_efficient_attention(q, k, v, attn_bias=bias, scale=scale)
    return out.reshape(shape).transpose(1, 2)


def _prefixes(x: Tensor, mask: StepCausal) -> Tensor:
    """Of x [B, L, H, C] the tokens up to each step's end, for every step of every sample: [1, B * sum, H, C]."""
    parts = [x[:, : mask.tokens * (step + 1)] for step in range(mask.steps)]
    return torch.cat(parts, dim=1).flatten(0, 1)[None]


@functools.lru_cache(maxsize=64)
def packed_bias(mask: Packed, device: torch.device) -> Any:
    """xFormers' bias of a `Packed` mask. Kept, since every layer of a forward pass asks for the same one."""
    biases = _xformers_biases()
    kind = biases.BlockDiagonalCausalMask if mask.causal else biases.BlockDiagonalMask
    return kind.from_seqlens(list(mask.lengths), device=device)


@functools.lru_cache(maxsize=64)
def step_causal_bias(mask: StepCausal, batch: int, device: torch.device) -> Any:
    """xFormers' bias of a `StepCausal` mask over keys laid out by `_prefixes`.

    Each step of each sample is a block of its own whose keys are repeated up to that step's end. Repeating costs
    (steps + 1) / 2 times the keys; in return no additive bias is read, which would exclude the flash kernels.
    """
    queries = [mask.tokens] * mask.steps * batch
    keys = [mask.tokens * (step + 1) for step in range(mask.steps)] * batch
    return _xformers_biases().BlockDiagonalMask.from_seqlens(queries, keys, device=device)


@torch.compiler.assume_constant_result
@functools.lru_cache(maxsize=64)
def _xformers_problem(device: torch.device, dtype: torch.dtype, channels: int) -> str:
    """Why xFormers cannot run on a device, or nothing; found by running it once.

    Its import says too little: a package built for another CUDA is imported and has no operators, and those there are
    take some widths alone.
    """
    try:
        with torch.inference_mode(False), torch.enable_grad():
            token = _one_token(device, dtype, channels)
            _xformers_ops().memory_efficient_attention(token, token, token)
        return ""
    except (ImportError, OSError) as error:
        problem = f"its operators cannot be imported ({error})"
    except NotImplementedError as error:
        problem = (
            f"it has no operator for {dtype}, {channels} channels, on {device} ({' '.join(str(error).split()[-60:])})"
        )
    warnings.warn(f"attention: xFormers is not used, {problem}", RuntimeWarning, stacklevel=2)
    return problem


def _one_token(device: torch.device, dtype: torch.dtype, channels: int) -> Tensor:
    return torch.zeros(1, 1, 1, channels, device=device, dtype=dtype, requires_grad=True)


def _xformers_ops() -> Any:
    # Imported on first use: on a machine without CUDA the import alone prints warnings.
    return importlib.import_module("xformers.ops")


def _xformers_biases() -> Any:
    return importlib.import_module("xformers.ops.fmha.attn_bias")
