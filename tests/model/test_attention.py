from __future__ import annotations

import math
import sys

import pytest
import torch

from model.attention import _aligned, attention, resolve_backend
from pipeline.errors import SettingsError


def test_sdpa_is_softmax_attention_with_the_bias() -> None:
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, 3, n, 8, generator=generator) for n in (5, 6, 6))
    bias = torch.zeros(1, 1, 5, 6)
    bias[..., 2, 1:] = -math.inf
    out = attention(q, k, v, bias, "sdpa")
    expected = torch.softmax(q @ k.transpose(-1, -2) / math.sqrt(8) + bias, dim=-1) @ v
    torch.testing.assert_close(out, expected)
    assert torch.equal(out[:, :, 2], v[:, :, 0])


def test_queries_take_the_dtype_of_the_values() -> None:
    q, k = torch.randn(1, 1, 2, 4), torch.randn(1, 1, 2, 4)
    v = torch.randn(1, 1, 2, 4, dtype=torch.bfloat16)
    assert attention(q, k, v, torch.zeros(2, 2), "sdpa").dtype == torch.bfloat16


def test_auto_on_the_cpu_is_sdpa_and_imports_no_xformers() -> None:
    loaded = "xformers.ops" in sys.modules
    assert resolve_backend("auto", torch.device("cpu")) == "sdpa"
    assert ("xformers.ops" in sys.modules) == loaded


def test_xformers_on_the_cpu_is_refused_with_the_fix() -> None:
    q = torch.randn(1, 1, 2, 4)
    with pytest.raises(SettingsError, match=r"needs CUDA tensors, got cpu; set attention=sdpa or auto"):
        attention(q, q, q, None, "xformers")


def test_missing_operators_are_refused_but_auto_falls_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "xformers.ops", None)  # makes the import fail
    cuda = torch.device("cuda")
    assert resolve_backend("auto", cuda) == "sdpa"
    with pytest.raises(SettingsError, match="operators cannot be imported"):
        resolve_backend("xformers", cuda)


def test_an_unknown_backend_is_refused_with_the_choice() -> None:
    with pytest.raises(SettingsError, match="auto, sdpa, xformers, got 'flash'"):
        resolve_backend("flash", torch.device("cpu"))


def test_an_aligned_bias_keeps_its_values_and_starts_rows_at_multiples_of_eight() -> None:
    bias = torch.arange(5 * 13, dtype=torch.float32).reshape(1, 1, 5, 13)
    aligned = _aligned(bias, (2, 3, 5, 13))
    assert torch.equal(aligned, bias.expand(2, 3, 5, 13))
    assert aligned.stride(-2) % 8 == 0
