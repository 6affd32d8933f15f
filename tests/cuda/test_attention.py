"""Both kernels on the device against float64 on the CPU: results and gradients."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from model.attention.attention import StepCausal, attention
from model.attention.backend import resolve_backend
from model.attention.packed import Packed
from tests.model.attention.test_attention import allowed_pairs, attend, plain_attention

CUDA = torch.device("cuda")
LENGTHS = (3, 17, 17, 64, 1, 200)
MASKS: dict[str, Packed | StepCausal | None] = {
    "everyone": None,
    "packed": Packed.of(LENGTHS),
    "packed-causal": Packed.of(LENGTHS, causal=True),
    "step-causal": StepCausal(steps=4, tokens=49),
}
ERROR = {torch.float32: 2e-3, torch.bfloat16: 1.5e-2}
"""Relative, of the norm: float32 kernels may use the tensor cores' 10-bit mantissa."""


def tensors(mask: Packed | StepCausal | None, channels: int, shared: int) -> tuple[Tensor, Tensor, Tensor]:
    """float64 on the CPU: 4 query heads, 4 / `shared` key-value heads."""
    tokens = 196 if mask is None or isinstance(mask, StepCausal) else sum(LENGTHS)
    batch = 1 if isinstance(mask, Packed) else 3
    shapes = [(batch, heads, tokens, channels) for heads in (4, 4 // shared, 4 // shared)]
    q, k, v = (torch.randn(shape, dtype=torch.float64) for shape in shapes)
    return q, k, v


def relative_error(found: Tensor, expected: Tensor) -> float:
    return float((found.double().cpu() - expected).norm() / expected.norm())


@pytest.mark.parametrize("channels", [32, 64, 128])
@pytest.mark.parametrize("shared", [1, 2])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("name", MASKS)
@pytest.mark.parametrize("backend", ["sdpa", "xformers"])
def test_results_and_gradients(backend: str, name: str, dtype: torch.dtype, shared: int, channels: int) -> None:
    if backend == "xformers" and resolve_backend("auto", CUDA, dtype) != "xformers":
        pytest.skip("xFormers has no operators here; the warning says why")
    torch.manual_seed(channels)
    mask = MASKS[name]
    exact = [x.to(dtype).double().requires_grad_() for x in tensors(mask, channels, shared)]
    q, k, v = exact
    tokens = q.shape[2]
    allowed = torch.ones(tokens, tokens, dtype=torch.bool) if mask is None else allowed_pairs(mask)
    keys, values = (x.repeat_interleave(shared, dim=1) for x in (k, v))
    expected = plain_attention(q, keys, values, allowed, channels**-0.5)
    upstream = torch.randn_like(expected).to(dtype).double()
    expected.backward(upstream)
    found_inputs = [x.detach().to(CUDA, dtype).requires_grad_() for x in exact]
    if isinstance(mask, Packed):
        found = attend(*found_inputs, replace(mask, starts=mask.starts.to(CUDA)), backend=backend)
    else:
        found = attention(*found_inputs, mask=mask, backend=backend)
    found.backward(upstream.to(CUDA, dtype))
    assert found.dtype == dtype
    assert relative_error(found.detach(), expected.detach()) < ERROR[dtype]
    for ours, theirs in zip(found_inputs, exact, strict=True):
        assert ours.grad is not None
        assert theirs.grad is not None
        assert relative_error(ours.grad, theirs.grad) < 2 * ERROR[dtype]


def test_auto_is_a_backend_that_runs() -> None:
    q = torch.randn(2, 4, 33, 64, device=CUDA, dtype=torch.bfloat16)
    assert attention(q, q, q, backend="auto").isfinite().all()
