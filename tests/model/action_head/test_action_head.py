from __future__ import annotations

import pytest
import torch
from torch import Tensor

from model.action_head.action_head import ActionHead
from model.settings import ActionHeadSettings

SETTINGS = ActionHeadSettings(
    layers=2, heads=2, head_width=8, dropout=0.0, hidden_size=12, future_tokens=3, max_positions=8, repeats=4
)
COUNT, CHUNK, WIDTH, STATE = 3, 5, 4, 6


@pytest.fixture(scope="module")
def head() -> ActionHead:
    torch.manual_seed(0)
    return ActionHead(SETTINGS, 10, WIDTH, STATE, CHUNK, "sdpa").eval()


def _inputs() -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    shapes = ((COUNT, 7, 10), (COUNT, STATE), (COUNT, CHUNK, WIDTH))
    context, state, actions = (torch.randn(shape, generator=generator) for shape in shapes)
    return context, state, actions


@torch.no_grad()
def test_masked_actions_do_not_count(head: ActionHead) -> None:
    context, state, actions = _inputs()
    noise, time = torch.randn_like(actions), torch.tensor([0.1, 0.5, 0.9])
    mask = torch.ones(COUNT, CHUNK, dtype=torch.bool)
    mask[1, 3:] = False
    mask[2] = False
    velocity = head.velocity(
        (1 - time[:, None, None]) * noise + time[:, None, None] * actions, (time * 1000).long(), context, state
    )
    error = (velocity - (actions - noise)).square().mean(dim=2)
    expected = (error[0].sum() + error[1, :3].sum()) / 8
    torch.testing.assert_close(head.loss(context, state, actions, mask, noise, time), expected)
    full = head.loss(context, state, actions, None, noise, time)
    torch.testing.assert_close(full, error.mean())
    assert head.loss(context, state, actions, torch.zeros_like(mask), noise, time) == 0


@torch.no_grad()
def test_the_training_loss_averages_over_repeats(head: ActionHead) -> None:
    context, state, actions = _inputs()
    mask = torch.ones(COUNT, CHUNK, dtype=torch.bool)
    loss = head.training_loss(context, state, actions, mask, torch.Generator().manual_seed(3))
    generator = torch.Generator().manual_seed(3)
    noise = torch.randn(4 * COUNT, CHUNK, WIDTH, generator=generator)
    time = head.draw_time(4 * COUNT, torch.device("cpu"), generator)
    each = [
        head.loss(context, state, actions, mask, noise[i : i + COUNT], time[i : i + COUNT])
        for i in range(0, 4 * COUNT, COUNT)
    ]
    torch.testing.assert_close(loss, torch.stack(each).mean())


def test_times_follow_the_beta_law(head: ActionHead) -> None:
    time = head.draw_time(200_000, torch.device("cpu"), torch.Generator().manual_seed(0))
    assert float(time.min()) >= 0
    assert float(time.max()) < 1
    # E[Beta(1.5, 1)] = 0.6, so E[t] = 1 - 0.6 / 0.999; and P(t > 1/2) = 0.4995 ** 1.5.
    assert float(time.mean()) == pytest.approx(1 - 0.6 / 0.999, abs=2e-3)
    assert float((time > 0.5).float().mean()) == pytest.approx(0.4995**1.5, abs=4e-3)


@torch.no_grad()
def test_context_and_state_matter_and_samples_do_not_mix(head: ActionHead) -> None:
    context, state, start = _inputs()
    before = head.sample(context, state, start)
    context[0] += 1.0
    state[1] += 1.0
    after = head.sample(context, state, start)
    assert not torch.equal(after[0], before[0])
    assert not torch.equal(after[1], before[1])
    assert torch.equal(after[2], before[2])


@torch.no_grad()
def test_sampling_is_euler_integration(head: ActionHead) -> None:
    context, state, start = _inputs()
    half = start + head.velocity(start, torch.zeros(COUNT, dtype=torch.long), context, state) / 2
    expected = half + head.velocity(half, torch.full((COUNT,), 500), context, state) / 2
    torch.testing.assert_close(head.sample(context, state, start, steps=2), expected)


def test_a_chunk_longer_than_the_positions_is_refused() -> None:
    with pytest.raises(ValueError, match="at least the chunk of 9 actions: 8"):
        ActionHead(SETTINGS, 10, WIDTH, STATE, 9)
