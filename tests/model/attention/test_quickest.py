"""Which kernel attention=auto takes, by measured times, without a device."""

from __future__ import annotations

import pytest
import torch

from model.attention import backend as backends
from model.attention import quickest
from model.attention.backend import resolve_backend
from model.attention.packed import packed_attention
from model.attention.quickest import PackedShape, choose_quickest, measure_attention
from model.settings import AttentionBackend
from tests.model.helpers import small_model

CUDA, SDPA, XFORMERS = torch.device("cuda"), AttentionBackend.SDPA, AttentionBackend.XFORMERS


def shape(name: str, channels: int) -> PackedShape:
    return PackedShape(name, sequences=2, tokens=5, heads=4, shared=2, channels=channels, causal=True)


def measured_as(monkeypatch: pytest.MonkeyPatch, times: dict[tuple[str, AttentionBackend], float]) -> None:
    """As on a device where both kernels run."""
    monkeypatch.setattr(backends, "_xformers_problem", lambda *_: "")
    monkeypatch.setattr(backends, "_measured", {})
    monkeypatch.setattr(quickest, "_time", lambda one, backend, _: times[one.name, backend])


def test_auto_takes_what_was_quickest_over_all_shapes_of_a_width(monkeypatch: pytest.MonkeyPatch) -> None:
    times = {("images", SDPA): 1.0, ("images", XFORMERS): 2.0, ("prompts", SDPA): 5.0, ("prompts", XFORMERS): 3.0}
    measured_as(monkeypatch, times)
    assert resolve_backend("auto", CUDA) == XFORMERS
    said = choose_quickest(measure_attention([shape("images", 64), shape("prompts", 64)], CUDA))
    assert "images (2 x 5 tokens): sdpa 1 ms, xformers 2 ms" in said
    assert said.endswith("xformers for heads of 64 channels")
    assert resolve_backend("auto", CUDA, channels=64) == XFORMERS
    said = choose_quickest(measure_attention([shape("images", 32), shape("prompts", 128)], CUDA))
    assert said.endswith("sdpa for heads of 32 channels, xformers for heads of 128 channels")
    assert resolve_backend("auto", CUDA, channels=32) == SDPA
    assert resolve_backend("auto", CUDA, channels=128) == XFORMERS
    assert resolve_backend("xformers", CUDA, channels=32) == XFORMERS  # a named one is not measured


def test_on_the_cpu_nothing_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quickest, "_time", lambda *_: pytest.fail("it was measured"))
    found = measure_attention([shape("images", 64)], torch.device("cpu"))
    assert found == []
    assert choose_quickest(found) == ""


def test_what_is_timed_is_a_pass_forward_and_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of sequences of the shape, by the backend."""
    seen = []

    def noted(q: torch.Tensor, k: torch.Tensor, *others: object) -> torch.Tensor:
        seen.append((tuple(q.shape), tuple(k.shape), others[-1]))
        return packed_attention(q, k, *others)  # type: ignore[arg-type]

    def timed(step: object) -> float:
        step()  # type: ignore[operator]
        return float(len(seen))

    monkeypatch.setattr(quickest, "packed_attention", noted)
    monkeypatch.setattr(quickest, "_milliseconds", timed)
    found = quickest._time(shape("images", 8), SDPA, torch.device("cpu"))
    assert found == quickest.WARM_UP + (quickest.RUNS + 1) / 2
    assert set(seen) == {((10, 4, 8), (10, 2, 8), SDPA)}


def test_the_shapes_are_those_of_the_model() -> None:
    student = small_model().student
    images, prompts = student.packed_shapes(samples=3, views=2, robot=True)
    text = student.model.config.text_config
    assert images.sequences == 6
    assert images.tokens == (student.image_size // student.model.config.vision_config.patch_size) ** 2
    assert (prompts.sequences, prompts.causal) == (3, True)
    assert prompts.tokens > 2 * images.tokens // 4
    assert (prompts.heads, prompts.shared) == (text.num_attention_heads, text.num_key_value_heads)
