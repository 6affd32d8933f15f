"""Scaled dot-product attention with a choice of kernels.

Shapes: B batch, H heads, Q queries, L keys, C channels a head.
"""

from __future__ import annotations

import importlib
from types import ModuleType

import torch
from torch import Tensor
from torch.nn import functional

from model.settings import ATTENTION_BACKENDS
from pipeline.errors import SettingsError

_BIAS_ALIGNMENT = 8
"""xFormers wants the rows of a bias to start at multiples of 8 elements."""


def attention(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None, backend: str = "auto") -> Tensor:
    """softmax(q k^T / sqrt(C) + bias) v.

    Args:
        q: [B, H, Q, C].
        k: [B, H, L, C].
        v: [B, H, L, C].
        bias: added to the scores, broadcastable to [B, H, Q, L]; -inf forbids a pair. At least one key of each query
            must be allowed.
        backend: "xformers" (CUDA), "sdpa" (PyTorch), or "auto": xformers where it can run, else sdpa.

    Returns:
        [B, H, Q, C], dtype of `v`.

    Raises:
        SettingsError: the backend has no such name, or cannot run here.
    """
    q, k = q.to(v.dtype), k.to(v.dtype)
    if resolve_backend(backend, v.device) == "xformers":
        return _xformers(q, k, v, bias)
    return functional.scaled_dot_product_attention(q, k, v, attn_mask=None if bias is None else bias.to(v.dtype))


def resolve_backend(backend: str, device: torch.device) -> str:
    """The backend that runs on a device: "xformers" or "sdpa".

    Raises:
        SettingsError: the backend has no such name, or cannot run on this device.
    """
    if backend not in ATTENTION_BACKENDS:
        raise SettingsError(f"attention must be one of {', '.join(ATTENTION_BACKENDS)}, got {backend!r}")
    if backend == "sdpa" or (backend == "auto" and device.type != "cuda"):
        return "sdpa"
    if device.type != "cuda":
        raise SettingsError(f"attention=xformers needs CUDA tensors, got {device}; set attention=sdpa or auto")
    try:
        _xformers_ops()
    except (ImportError, OSError) as error:
        if backend == "auto":
            return "sdpa"
        raise SettingsError(f"attention=xformers: its operators cannot be imported ({error}); set sdpa") from error
    return "xformers"


def _xformers_ops() -> ModuleType:
    # Imported on first use: on a machine without CUDA the import alone prints warnings.
    return importlib.import_module("xformers.ops")


def _xformers(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None) -> Tensor:
    if bias is not None:
        bias = _aligned(bias.to(v.dtype), (q.shape[0], q.shape[1], q.shape[2], k.shape[2]))
    out = _xformers_ops().memory_efficient_attention(
        q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), attn_bias=bias
    )
    return out.transpose(1, 2)


def _aligned(bias: Tensor, shape: tuple[int, int, int, int]) -> Tensor:
    """The bias expanded to `shape`, its rows padded in memory so that each starts at an aligned address."""
    keys = shape[3]
    padded = functional.pad(bias, (0, -keys % _BIAS_ALIGNMENT))
    return padded.expand(*shape[:3], padded.shape[-1])[..., :keys]
