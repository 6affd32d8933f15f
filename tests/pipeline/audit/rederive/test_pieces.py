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


def test_no_piece_is_safe_from_the_choice() -> None:
    """The last pieces are chosen more often, as enough samples must be found among them."""
    sizes = [5, 1, 9, 5, 1, 9] * 5
    pieces, count = _pieces(sizes), [0] * len(sizes)
    for seed in range(2000):
        for piece in PieceChoice(sum(sizes), seed, 30).take(pieces):
            count[pieces.index(piece)] += 1
    assert min(count) > 0.7 * 2000 * 30 / sum(sizes)
