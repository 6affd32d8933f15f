"""Chunks that go on from the one before, on a flow whose two answers are known."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from model.action_head.continuing import GUIDANCE, continued, guidance_weight, soft_mask
from tests.model.helpers import SIZES, small_model

CHUNK, STEPS = 10, 8


def two_ways(noisy: Tensor, time: float) -> Tensor:
    """A flow to all actions at -1 or all at 1, whichever is nearer."""
    way = torch.tanh(6 * noisy.mean((1, 2), keepdim=True)).expand_as(noisy)
    return (way - noisy) / (1 - time)


def plain(start: Tensor) -> Tensor:
    actions = start
    for i in range(STEPS):
        actions = actions + two_ways(actions, i / STEPS) / STEPS
    return actions


def test_the_mask_is_the_papers() -> None:
    found = soft_mask(delay=2, known=6, chunk=8)
    wanted = [1.0, 1.0]
    for i in range(2, 6):
        c = (6 - i) / (6 - 2 + 1)
        wanted.append(c * (math.exp(c) - 1) / (math.e - 1))
    torch.testing.assert_close(found, torch.tensor([*wanted, 0.0, 0.0]))
    assert (found.diff() <= 0).all()
    assert soft_mask(3, 3, 4).tolist() == [1.0, 1.0, 1.0, 0.0]


def test_the_guidance_is_clipped_where_it_would_grow_beyond_bounds() -> None:
    assert guidance_weight(0.0) == guidance_weight(0.01) == guidance_weight(0.999) == GUIDANCE
    assert guidance_weight(0.5) == pytest.approx(0.5 / (0.5 * 0.5))


def test_the_joins_are_smoother_than_without() -> None:
    """Noise that would lead to the other answer than the chunk that is carried out."""
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(16, CHUNK, 2, generator=generator)
    alone = plain(start)
    earlier = -alone[:, :1].sign().expand_as(alone).contiguous()  # the other way of the two
    led = continued(two_ways, start, earlier, soft_mask(2, 6, CHUNK).expand(16, CHUNK), STEPS)
    jump = [(chunk[:, 2] - earlier[:, 1]).abs().mean() for chunk in (alone, led)]
    assert jump[0] > 1.5
    assert jump[1] < 0.5 * jump[0]


def test_a_row_without_weights_is_as_without_guidance() -> None:
    start = torch.randn(3, CHUNK, 2, generator=torch.Generator().manual_seed(1))
    weights = torch.stack([torch.zeros(CHUNK), soft_mask(1, 4, CHUNK), torch.zeros(CHUNK)])
    led = continued(two_ways, start, torch.ones(3, CHUNK, 2), weights, STEPS)
    torch.testing.assert_close(led[[0, 2]], plain(start)[[0, 2]])
    assert not torch.allclose(led[1], plain(start)[1])


def test_the_head_goes_on_and_keeps_no_gradients() -> None:
    model = small_model().eval()
    head = model.action_head
    assert head is not None
    generator = torch.Generator().manual_seed(2)
    context = torch.randn(2, 3, model.student.width, generator=generator)
    state = torch.randn(2, SIZES.state, generator=generator)
    start = torch.randn(2, SIZES.chunk, SIZES.action, generator=generator)
    earlier = torch.full_like(start, 0.5)
    without = torch.zeros(2, SIZES.chunk)
    torch.testing.assert_close(
        head.continue_chunk(context, state, start, earlier, without), head.sample(context, state, start)
    )
    led = head.continue_chunk(context, state, start, earlier, soft_mask(1, SIZES.chunk, SIZES.chunk).expand(2, -1))
    apart = [(chunk[:, 0] - earlier[:, 0]).abs().mean() for chunk in (head.sample(context, state, start), led)]
    assert apart[1] < 0.5 * apart[0]
    assert not led.requires_grad
    assert all(parameter.grad is None for parameter in model.parameters())
