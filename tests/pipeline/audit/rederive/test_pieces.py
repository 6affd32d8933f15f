"""The random share in whole pieces."""

from __future__ import annotations

import pytest

from pipeline.audit.rederive.pieces import Piece, PieceChoice


def _pieces(sizes: list[int]) -> list[Piece]:
    return [Piece(range(sum(sizes[:i]), sum(sizes[: i + 1])), True) for i in range(len(sizes))]


@pytest.mark.parametrize("wanted", [0, 1, 16, 40, 100])
@pytest.mark.parametrize("seed", range(20))
def test_at_least_the_wanted_samples_are_chosen_and_not_many_more(wanted: int, seed: int) -> None:
    shards = [_pieces([6, 6, 3]), _pieces([1] * 40), _pieces([20, 6, 2, 17])]
    total = sum(len(piece.rows) for pieces in shards for piece in pieces)
    choice = PieceChoice(total, seed, wanted)
    chosen = [piece for pieces in shards for piece in choice.take(pieces)]
    found = sum(len(piece.rows) for piece in chosen)
    assert found == total if wanted == total else wanted <= found < wanted + 20


def test_each_piece_is_chosen_as_often_as_another() -> None:
    sizes = [5, 1, 9, 5, 1, 9] * 5
    count = [0] * len(sizes)
    for seed in range(3000):
        for piece in PieceChoice(sum(sizes), seed, 30).take(_pieces(sizes)):
            count[_pieces(sizes).index(piece)] += 1
    wide, narrow = count[2::3], count[1::3]
    assert min(count) > 0.75 * sum(count) / len(count)
    assert max(count) < 1.25 * sum(count) / len(count)
    assert abs(sum(wide) - sum(narrow)) < 0.1 * sum(count) / 3
