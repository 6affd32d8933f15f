"""Which attention kernels run on a device: PyTorch's own, or xFormers'."""

from __future__ import annotations

import functools
import importlib
import warnings
from typing import Any

import torch
from torch import Tensor

from model.settings import AttentionBackend
from pipeline.errors import SettingsError


def resolve_backend(
    backend: str, device: torch.device, dtype: torch.dtype = torch.bfloat16, channels: int = 64
) -> AttentionBackend:
    """The backend that runs on a device for heads of so many channels: SDPA or XFORMERS.

    "auto" is the quickest that was measured (`model.attention.quickest`), or xFormers where nothing was. Where it has
    to do without xFormers on CUDA, a warning says once why.

    Raises:
        SettingsError: the backend has no such name, or cannot run on this device.
    """
    if backend not in list(AttentionBackend):
        raise SettingsError(f"attention must be one of {', '.join(AttentionBackend)}, got {backend!r}")
    if backend == AttentionBackend.SDPA or (backend == AttentionBackend.AUTO and device.type != "cuda"):
        return AttentionBackend.SDPA
    if device.type != "cuda":
        raise SettingsError(f"attention=xformers needs CUDA tensors, got {device}; set attention=sdpa or auto")
    problem = _xformers_problem(device, dtype, channels)
    if backend == AttentionBackend.AUTO:
        return AttentionBackend.SDPA if problem else _quickest(dtype, channels)
    if not problem:
        return AttentionBackend.XFORMERS
    raise SettingsError(f"attention=xformers: {problem}; install the xFormers built for this CUDA, or set sdpa")


def available_backends(device: torch.device, dtype: torch.dtype, channels: int) -> list[AttentionBackend]:
    """The backends that run on a device."""
    more = device.type == "cuda" and not _xformers_problem(device, dtype, channels)
    return [AttentionBackend.SDPA, *([AttentionBackend.XFORMERS] if more else [])]


def remember_quickest(dtype: torch.dtype, channels: int, backend: AttentionBackend) -> None:
    """What "auto" takes from here on in this process, before anything is compiled."""
    _measured[dtype, channels] = backend


_measured: dict[tuple[torch.dtype, int], AttentionBackend] = {}


@torch.compiler.assume_constant_result
def _quickest(dtype: torch.dtype, channels: int) -> AttentionBackend:
    return _measured.get((dtype, channels), AttentionBackend.XFORMERS)


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
            xformers_ops().memory_efficient_attention(token, token, token)
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


def xformers_ops() -> Any:
    """The module `xformers.ops.fmha`, imported on first use: without CUDA the import alone prints warnings."""
    return importlib.import_module("xformers.ops.fmha")


def xformers_biases() -> Any:
    """The module of xFormers' masks."""
    return importlib.import_module("xformers.ops.fmha.attn_bias")
