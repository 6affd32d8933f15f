"""Shifted pictures: whole pixels, the edge repeated, each view and sample on its own."""

from __future__ import annotations

import torch

from model.student.augment import shifted


def _pictures(batch: int = 3, views: int = 2, height: int = 7, width: int = 9) -> torch.Tensor:
    """Each pixel tells its row, its column, and whose it is."""
    picture = torch.zeros(batch, views, height, width, 3, dtype=torch.uint8)
    picture[..., 0] = torch.arange(height)[:, None]
    picture[..., 1] = torch.arange(width)
    picture[..., 2] = torch.arange(batch * views).reshape(batch, views, 1, 1)
    return picture


def test_every_picture_is_moved_by_whole_pixels_and_keeps_its_place_in_the_batch() -> None:
    before = _pictures()
    after = shifted(before, 2, torch.Generator().manual_seed(0))
    assert after.dtype == torch.uint8
    assert torch.equal(after[..., 2], before[..., 2])
    seen = set()
    for sample in range(3):
        for view in range(2):
            down = after[sample, view, 3, 4, 0].item() - 3
            right = after[sample, view, 3, 4, 1].item() - 4
            seen.add((down, right))
            assert torch.equal(after[sample, view, :, 4, 0], (torch.arange(7) + down).clamp(0, 6).to(torch.uint8))
            assert torch.equal(after[sample, view, 3, :, 1], (torch.arange(9) + right).clamp(0, 8).to(torch.uint8))
    assert len(seen) > 1


def test_every_motion_up_to_the_most_occurs_and_none_beyond() -> None:
    after = shifted(_pictures(batch=200, views=1), 2, torch.Generator().manual_seed(1))
    down = after[:, 0, 3, 4, 0].long() - 3
    right = after[:, 0, 3, 4, 1].long() - 4
    assert set(down.tolist()) == set(right.tolist()) == {-2, -1, 0, 1, 2}
    assert not torch.equal(down, right)


def test_the_seed_decides_and_nothing_moves_by_zero() -> None:
    before = _pictures()
    first, again = (shifted(before, 3, torch.Generator().manual_seed(2)) for _ in range(2))
    assert torch.equal(first, again)
    assert torch.equal(shifted(before, 0), before)
