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

from model.attention import attention as dispatch
from model.attention import backend as backends
from model.attention import packed as operator
from model.attention.attention import StepCausal, attention
from model.attention.backend import resolve_backend
from model.attention.packed import Packed, packed_attention
from model.settings import AttentionBackend
from pipeline.errors import SettingsError

CPU = torch.device("cpu")

LENGTHS = st.lists(st.integers(1, 5), min_size=1, max_size=5)


def allowed_pairs(mask: Packed | StepCausal) -> Tensor:
    """bool [tokens, tokens]: what a mask means, written out."""
    if isinstance(mask, StepCausal):
        step = torch.arange(mask.steps).repeat_interleave(mask.tokens)
        return step[:, None] >= step[None, :]
    lengths = mask.starts.diff()
    sequence = torch.arange(len(lengths)).repeat_interleave(lengths)
    same = sequence[:, None] == sequence[None, :]
    return same.tril() if mask.causal else same


def plain_attention(q: Tensor, k: Tensor, v: Tensor, allowed: Tensor, scale: float) -> Tensor:
    scores = (scale * q @ k.transpose(-1, -2)).masked_fill(~allowed, -math.inf)
    return torch.softmax(scores, dim=-1) @ v


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[SimpleNamespace]:
    """xFormers' kernels replaced by attention over its own materialised biases; what they were called with."""
    seen: list[SimpleNamespace] = []

    def forward(query: Tensor, key: Tensor, value: Tensor, attn_bias: object, scale: float) -> tuple[Tensor, Tensor]:
        seen.append(SimpleNamespace(query=query, key=key, value=value, bias=attn_bias))
        q, k, v = (_heads(x) for x in (query, key, value))
        scores = scale * q @ k.transpose(-1, -2) + _materialised(attn_bias, q, k)
        out = (torch.softmax(scores, dim=-1) @ v).transpose(1, 2).reshape(query.shape)
        return out, torch.logsumexp(scores, dim=-1)

    def backward(
        grad: Tensor, output: Tensor, lse: Tensor, q: Tensor, k: Tensor, v: Tensor, attn_bias: object, scale: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        g, q_, k_, v_ = (_heads(x) for x in (grad, q, k, v))
        p = (scale * q_ @ k_.mT + _materialised(attn_bias, q_, k_) - lse[..., None]).exp()
        d = scale * p * (g @ v_.mT - (g * _heads(output)).sum(dim=-1, keepdim=True))
        dq, dk, dv = (x.transpose(1, 2) for x in (d @ k_, d.mT @ q_, p.mT @ g))
        return dq.reshape(q.shape), dk.reshape(k.shape), dv.reshape(v.shape)

    ops = SimpleNamespace(
        memory_efficient_attention_forward_requires_grad=forward, memory_efficient_attention_backward=backward
    )
    for module in (dispatch, operator):
        monkeypatch.setattr(module, "resolve_backend", lambda *_: AttentionBackend.XFORMERS)
    monkeypatch.setattr(operator, "xformers_ops", lambda: ops)
    return seen


def _heads(x: Tensor) -> Tensor:
    """[1, T, H, C] or [1, T, G, H / G, C] -> [1, H, T, C]."""
    return x.flatten(2, -2).transpose(1, 2)


def _materialised(bias: object, q: Tensor, k: Tensor) -> Tensor:
    """Of a bias with all its lengths on the host, which materialising takes and the kernels do not."""
    for info in (bias.q_seqinfo, bias.k_seqinfo):  # type: ignore[attr-defined]
        info.seqstart_py = info.seqstart.tolist()
    shape = (1, 1, q.shape[2], k.shape[2])
    return bias.materialize(shape, dtype=q.dtype)  # type: ignore[attr-defined, no-any-return]


def inputs(tokens: int, batch: int = 1, heads: int = 2, shared: int = 1) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(tokens)
    q = torch.randn(batch, heads, tokens, 8, generator=generator, requires_grad=True)
    k, v = (torch.randn(batch, heads // shared, tokens, 8, generator=generator, requires_grad=True) for _ in range(2))
    return q, k, v


def attend(
    q: Tensor, k: Tensor, v: Tensor, mask: Packed | StepCausal, scale: float | None = None, backend: str = "auto"
) -> Tensor:
    """Through the function for the kind of mask, [B, H, Q, C] for both."""
    if isinstance(mask, StepCausal):
        return attention(q, k, v, mask, backend, scale)
    q, k, v = (x[0].transpose(0, 1) for x in (q, k, v))
    return packed_attention(q, k, v, mask, backend, scale).transpose(0, 1)[None]


def assert_equals_plain(mask: Packed | StepCausal, batch: int, scale: float | None = None, shared: int = 1) -> None:
    """Outputs and gradients."""
    tokens = len(allowed_pairs(mask))
    q, k, v = inputs(tokens, batch, heads=2 * shared, shared=shared)
    out = attend(q, k, v, mask, scale)
    keys, values = (x.repeat_interleave(shared, dim=1) for x in (k, v))
    expected = plain_attention(q, keys, values, allowed_pairs(mask), scale or 1 / math.sqrt(8))
    torch.testing.assert_close(out, expected, rtol=1e-4, atol=1e-5)
    weight = torch.randn(out.shape, generator=torch.Generator().manual_seed(1))
    got, want = (torch.autograd.grad((x * weight).sum(), (q, k, v)) for x in (out, expected))
    torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5)


@given(lengths=LENGTHS, causal=st.booleans(), shared=st.integers(1, 2))
@settings(max_examples=25, deadline=None)
def test_packed_is_attention_within_sequences(lengths: list[int], causal: bool, shared: int) -> None:
    assert_equals_plain(Packed.of(lengths, causal), batch=1, shared=shared)


def test_the_packed_operator_keeps_its_promises_to_the_compiler() -> None:
    q, k, v = (x[0].transpose(0, 1) for x in inputs(6, heads=4, shared=2))
    starts = Packed.of((2, 4)).starts
    torch.library.opcheck(
        torch.ops.vla_jepa.packed_attention.default, (q, k, v, starts, starts, 64, 64, True, 0.3, "sdpa")
    )


def test_the_bound_on_lengths_is_the_same_for_many_packs() -> None:
    assert {Packed.of((length, 3)).longest for length in range(1, 65)} == {64}
    assert Packed.of((65,)).longest == 128


@given(steps=st.integers(1, 4), tokens=st.integers(1, 4), batch=st.integers(1, 3))
@settings(max_examples=25, deadline=None)
def test_steps_by_slices_are_block_causal(steps: int, tokens: int, batch: int) -> None:
    assert_equals_plain(StepCausal(steps, tokens), batch)


@pytest.mark.parametrize("shared", [1, 2])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("lengths", [(3,), (2, 2, 2), (1, 4, 2)])
def test_packed_through_xformers_biases(
    calls: list[SimpleNamespace], lengths: tuple[int, ...], causal: bool, shared: int
) -> None:
    assert_equals_plain(Packed.of(lengths, causal), batch=1, shared=shared)
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

    starts = Packed.of((2, 3)).starts
    for causal in (False, True):
        bias = operator._xformers_bias(starts, starts, 64, 64, (5, 5), causal)
        assert type(bias) in flash.FwOp.SUPPORTED_ATTN_BIAS_TYPES
        assert type(bias) in flash.BwOp.SUPPORTED_ATTN_BIAS_TYPES


def test_xformers_gets_one_dtype_and_its_own_layout(calls: list[SimpleNamespace]) -> None:
    q, k, v = inputs(6, heads=4, shared=2)  # grouped-query attention; norms leave q and k in float32 under autocast
    out = attend(q, k, v.bfloat16(), Packed.of((2, 4), causal=True))
    assert out.shape == (1, 4, 6, 8)
    call = calls[0]
    assert {call.query.dtype, call.key.dtype, call.value.dtype} == {torch.bfloat16}
    assert call.query.shape == call.key.shape == call.value.shape == (1, 6, 2, 2, 8)
    assert call.key.untyped_storage().nbytes() == k.numel() * 2  # shared heads are not copied


def test_without_a_mask_everyone_sees_everyone(calls: list[SimpleNamespace]) -> None:
    q, k, v = inputs(5, batch=2)
    everyone = torch.ones(5, 5, dtype=torch.bool)
    expected = plain_attention(q, k, v, everyone, 1 / math.sqrt(8))
    torch.testing.assert_close(attention(q, k, v), expected)
    assert calls[0].bias.q_seqinfo.seqstart.tolist() == [0, 5, 10]
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
        attention(q, k, v, StepCausal(3, 2))


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
    monkeypatch.setattr(backends, "_one_token", lambda _device, dtype, channels: torch.zeros(1, channels, dtype=dtype))
    backends._xformers_problem.cache_clear()
    yield torch.device("cuda")
    backends._xformers_problem.cache_clear()


def test_missing_operators_are_refused_but_auto_falls_back(
    on_cuda: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "xformers.ops.fmha", None)  # makes the import fail
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

    monkeypatch.setattr(backends, "xformers_ops", lambda: SimpleNamespace(memory_efficient_attention=kernel))
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
