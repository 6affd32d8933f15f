from __future__ import annotations

import torch

from model.losses import masked_mean, masked_step_mean, merge_views, step_errors


def test_views_are_merged_within_their_sample() -> None:
    """Each number spells sample, step, view, token, channel."""
    b, k, v, n, d = 2, 3, 2, 4, 5
    index = torch.cartesian_prod(*(torch.arange(size) for size in (b, k, v, n, d)))
    latents = (index * torch.tensor([10000, 1000, 100, 10, 1])).sum(dim=1).reshape(b, k, v, n, d)
    merged = merge_views(latents)
    assert merged.shape == (b, k * n, v * d)
    for sample in range(b):
        for step in range(k):
            for token in range(n):
                expected = [10000 * sample + 1000 * step + 100 * w + 10 * token + c for w in range(v) for c in range(d)]
                assert merged[sample, step * n + token].tolist() == expected


def test_errors_are_per_sample_and_step() -> None:
    target = torch.zeros(2, 6, 4)
    predicted = torch.zeros(2, 6, 4)
    predicted[1, 2:4] = 3.0  # sample 1, step 1 of 3
    predicted[0, 5] = -1.0  # sample 0, step 2, half of its tokens
    assert step_errors(predicted, target, 3).tolist() == [[0, 0, 0.5], [0, 3, 0]]


def test_masked_means_ignore_even_a_nan() -> None:
    values = torch.tensor([[1.0, float("nan")], [3.0, 5.0]])
    mask = torch.tensor([[True, False], [True, True]])
    assert masked_mean(values, mask) == 3.0
    assert masked_step_mean(values, mask).tolist() == [2.0, 5.0]
    assert masked_mean(values, torch.zeros_like(mask)) == 0
    assert masked_step_mean(values, torch.zeros_like(mask)).isnan().all()
