from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import model.attention.attention as dispatch
from model.attention.attention import (
    Mask,
    Packed,
    StepCausal,
    attention,
    packed_bias,
    resolve_backend,
    step_causal_bias,
)
from pipeline.errors import SettingsError

CPU = torch.device("cpu")

LENGTHS = st.lists(st.integers(1, 5), min_size=1, max_size=5)


def allowed_pairs(mask: Mask) -> Tensor:
    """bool [tokens, tokens]: what a mask means, written out."""
    if isinstance(mask, StepCausal):
        step = torch.arange(mask.steps).repeat_interleave(mask.tokens)
        return step[:, None] >= step[None, :]
    sequence = torch.arange(len(mask.lengths)).repeat_interleave(torch.tensor(mask.lengths))
    same = sequence[:, None] == sequence[None, :]
    return same.tril() if mask.causal else same


def plain_attention(q: Tensor, k: Tensor, v: Tensor, allowed: Tensor, scale: float) -> Tensor:
    scores = (scale * q @ k.transpose(-1, -2)).masked_fill(~allowed, -math.inf)
    return torch.softmax(scores, dim=-1) @ v


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[SimpleNamespace]:
    """xFormers' kernel replaced by attention over its own materialised biases; what it was called with."""
    seen: list[SimpleNamespace] = []

    def kernel(query: Tensor, key: Tensor, value: Tensor, attn_bias: object, scale: float | None) -> Tensor:
        seen.append(SimpleNamespace(query=query, key=key, value=value, bias=attn_bias))
        q, k, v = (x.transpose(1, 2) for x in (query, key, value))
        bias = torch.zeros(())
        if attn_bias is not None:
            bias = attn_bias.materialize((*q.shape[:3], k.shape[2]), dtype=q.dtype)  # type: ignore[attr-defined]
        scale = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
        return (torch.softmax(scale * q @ k.transpose(-1, -2) + bias, dim=-1) @ v).transpose(1, 2)

    monkeypatch.setattr(dispatch, "resolve_backend", lambda *_: "xformers")
    monkeypatch.setattr(dispatch, "_xformers_ops", lambda: SimpleNamespace(memory_efficient_attention=kernel))
    return seen


def inputs(tokens: int, batch: int = 1, heads: int = 2, shared: int = 1) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(tokens)
    q = torch.randn(batch, heads, tokens, 8, generator=generator, requires_grad=True)
    k, v = (torch.randn(batch, heads // shared, tokens, 8, generator=generator, requires_grad=True) for _ in range(2))
    return q, k, v


def assert_equals_plain(mask: Mask, batch: int, scale: float | None = None) -> None:
    """Outputs and gradients."""
    tokens = len(allowed_pairs(mask))
    q, k, v = inputs(tokens, batch)
    out = attention(q, k, v, mask, scale=scale)
    expected = plain_attention(q, k, v, allowed_pairs(mask), scale or 1 / math.sqrt(8))
    torch.testing.assert_close(out, expected, rtol=1e-4, atol=1e-5)
    weight = torch.randn(out.shape, generator=torch.Generator().manual_seed(1))
    got, want = (torch.autograd.grad((x * weight).sum(), (q, k, v)) for x in (out, expected))
    torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5)


@given(lengths=LENGTHS, causal=st.booleans())
@settings(max_examples=25, deadline=None)
def test_packed_by_slices_is_attention_within_sequences(lengths: list[int], causal: bool) -> None:
    assert_equals_plain(Packed(tuple(lengths), causal), batch=1)


@given(steps=st.integers(1, 4), tokens=st.integers(1, 4), batch=st.integers(1, 3))
@settings(max_examples=25, deadline=None)
def test_steps_by_slices_are_block_causal(steps: int, tokens: int, batch: int) -> None:
    assert_equals_plain(StepCausal(steps, tokens), batch)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("lengths", [(3,), (2, 2, 2), (1, 4, 2)])
def test_packed_through_xformers_biases(calls: list[SimpleNamespace], lengths: tuple[int, ...], causal: bool) -> None:
    assert_equals_plain(Packed(lengths, causal), batch=1)
    assert type(calls[0].bias).__name__ == ("BlockDiagonalCausalMask" if causal else "BlockDiagonalMask")


@pytest.mark.parametrize(("steps", "tokens", "batch"), [(1, 3, 2), (3, 4, 1), (3, 2, 3), (4, 1, 2)])
def test_steps_through_xformers_biases(calls: list[SimpleNamespace], steps: int, tokens: int, batch: int) -> None:
    assert_equals_plain(StepCausal(steps, tokens), batch, scale=0.3)
    call = calls[0]
    assert call.query.shape == (1, batch * steps * tokens, 2, 8)
    assert call.key.shape == (1, batch * tokens * steps * (steps + 1) // 2, 2, 8)
    assert type(call.bias).__name__ == "BlockDiagonalMask"


def test_biases_are_of_kinds_that_flash_kernels_take_forward_and_backward() -> None:
    from xformers.ops.fmha import flash

    for bias in (
        packed_bias(Packed((2, 3)), CPU),
        packed_bias(Packed((2, 3), causal=True), CPU),
        step_causal_bias(StepCausal(2, 2), 1, CPU),
    ):
        assert type(bias) in flash.FwOp.SUPPORTED_ATTN_BIAS_TYPES
        assert type(bias) in flash.BwOp.SUPPORTED_ATTN_BIAS_TYPES


def test_xformers_gets_one_dtype_and_its_own_layout(calls: list[SimpleNamespace]) -> None:
    q, k, v = inputs(6, heads=4, shared=2)  # grouped-query attention; norms leave q and k in float32 under autocast
    out = attention(q, k, v.bfloat16(), Packed((2, 4), causal=True))
    assert out.shape == (1, 4, 6, 8)
    call = calls[0]
    assert {call.query.dtype, call.key.dtype, call.value.dtype} == {torch.bfloat16}
    assert call.query.shape == call.key.shape == call.value.shape == (1, 6, 4, 8)


def test_without_a_mask_everyone_sees_everyone(calls: list[SimpleNamespace]) -> None:
    q, k, v = inputs(5, batch=2)
    everyone = torch.ones(5, 5, dtype=torch.bool)
    expected = plain_attention(q, k, v, everyone, 1 / math.sqrt(8))
    torch.testing.assert_close(attention(q, k, v), expected)
    assert calls[0].bias is None
    torch.testing.assert_close(dispatch._sdpa(q, k, v, None, None), expected)


def test_key_heads_are_shared_by_neighbouring_query_heads() -> None:
    q, k, v = inputs(3, heads=4, shared=2)
    repeated = (x.repeat_interleave(2, dim=1) for x in (k, v))
    assert torch.equal(attention(q, k, v), attention(q, *repeated))


def test_queries_take_the_dtype_of_the_values() -> None:
    q, k, v = inputs(2)
    assert attention(q, k, v.bfloat16(), backend="sdpa").dtype == torch.bfloat16


def test_a_mask_that_does_not_describe_the_tensors_is_refused() -> None:
    q, k, v = inputs(5)
    with pytest.raises(ValueError, match=r"describes 6 tokens, got queries \(1, 2, 5, 8\)"):
        attention(q, k, v, Packed((2, 4)))
    q, k, v = inputs(4, batch=2)
    with pytest.raises(ValueError, match="describes 4 tokens"):
        attention(q, k, v, Packed((2, 2)))


def test_auto_on_the_cpu_is_sdpa_and_imports_no_xformers() -> None:
    loaded = "xformers.ops" in sys.modules
    assert resolve_backend("auto", CPU) == "sdpa"
    assert ("xformers.ops" in sys.modules) == loaded


def test_xformers_on_the_cpu_is_refused_with_the_fix() -> None:
    q = torch.randn(1, 1, 2, 4)
    with pytest.raises(SettingsError, match=r"needs CUDA tensors, got cpu; set attention=sdpa or auto"):
        attention(q, q, q, None, "xformers")


@pytest.fixture
def on_cuda(monkeypatch: pytest.MonkeyPatch) -> Iterator[torch.device]:
    """A CUDA device as far as the choice of a backend is concerned."""
    monkeypatch.setattr(dispatch, "_one_token", lambda _device, dtype, channels: torch.zeros(1, channels, dtype=dtype))
    dispatch._xformers_problem.cache_clear()
    yield torch.device("cuda")
    dispatch._xformers_problem.cache_clear()


def test_missing_operators_are_refused_but_auto_falls_back(
    on_cuda: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "xformers.ops", None)  # makes the import fail
    with pytest.warns(RuntimeWarning, match="xFormers is not used, its operators cannot be imported"):
        assert resolve_backend("auto", on_cuda) == "sdpa"
    with pytest.raises(SettingsError, match="operators cannot be imported"):
        resolve_backend("xformers", on_cuda)


def test_operators_built_for_another_cuda_are_found_out_before_the_first_step(
    on_cuda: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """xFormers 0.0.35 (CUDA 12) beside PyTorch 2.11 (CUDA 13): it is imported, the first call says so."""

    def kernel(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        if query.dtype == torch.bfloat16 or query.shape[-1] % 8:
            raise NotImplementedError("No operator found: xFormers wasn't build with CUDA support")
        return value

    monkeypatch.setattr(dispatch, "_xformers_ops", lambda: SimpleNamespace(memory_efficient_attention=kernel))
    with pytest.warns(
        RuntimeWarning, match="no operator for torch.bfloat16, 64 channels, on cuda .*wasn't build with CUDA"
    ):
        assert resolve_backend("auto", on_cuda) == "sdpa"
    assert resolve_backend("auto", on_cuda) == "sdpa"  # looked up: no second warning
    with pytest.raises(SettingsError, match="install the xFormers built for this CUDA, or set sdpa"):
        resolve_backend("xformers", on_cuda)
    assert resolve_backend("xformers", on_cuda, torch.float32) == "xformers"
    with pytest.warns(RuntimeWarning, match="12 channels"):
        assert resolve_backend("auto", on_cuda, torch.float32, channels=12) == "sdpa"


def test_an_unknown_backend_is_refused_with_the_choice() -> None:
    with pytest.raises(SettingsError, match="auto, sdpa, xformers, got 'flash'"):
        resolve_backend("flash", CPU)
