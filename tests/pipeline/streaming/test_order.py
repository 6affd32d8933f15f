"""The order of samples as integers: a bijection each epoch, the same for any number of ranks and any restart."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import SettingsError
from pipeline.streaming.order import Order

shard_lists = st.lists(st.integers(1, 30), min_size=1, max_size=12)

GOLDEN = "d350b4d0dce3daa153093df15391a124f925fdc288e81f2e9d32770243f4dd32"


def make(shards: list[int], seed: int = 0, fingerprint: str = "f", streams: int = 8) -> Order:
    return Order(shards, fingerprint, seed, streams=streams, block_shards=3)


@given(shard_lists, st.integers(0, 3), st.integers(1, 16))
def test_an_epoch_is_a_bijection(shards: list[int], epoch: int, streams: int) -> None:
    order = make(shards, streams=streams)
    seen = order.samples_at(epoch, np.arange(order.samples))
    assert sorted(seen.tolist()) == list(range(sum(shards)))


@given(shard_lists, st.integers(1, 4), st.sampled_from([1, 2, 4, 8]), st.integers(0, 40))
def test_ranks_split_the_same_global_batch(shards: list[int], factor: int, world: int, step: int) -> None:
    batch = 8 * factor
    order = make(shards)
    whole = order.take(step * batch, batch)
    parts = [order.take(step * batch, batch, rank, world) for rank in range(world)]
    assert np.array_equal(np.stack(parts, axis=1).reshape(-1), whole)


@given(shard_lists, st.integers(1, 8), st.integers(1, 3))
def test_epochs_follow_each_other_without_a_gap(shards: list[int], batch: int, epochs: int) -> None:
    """Batches of any size hold every sample once an epoch, nothing is left out between epochs."""
    order, samples = make(shards), sum(shards)
    steps = -(-epochs * samples // batch)
    seen = np.concatenate([order.take(step * batch, batch) for step in range(steps)])
    for epoch in range(epochs):
        part = seen[epoch * samples : (epoch + 1) * samples]
        assert sorted(part.tolist()) == list(range(samples))


def test_every_position_can_be_reached_directly() -> None:
    shards = [5, 9, 2, 14, 7]
    order = make(shards)
    steps = range(30)
    forward = [order.take(4 * step, 4).tolist() for step in steps]
    fresh = [make(shards).take(4 * step, 4).tolist() for step in reversed(steps)]
    assert forward == fresh[::-1]


def test_a_rank_reads_from_its_own_streams() -> None:
    order = make([10] * 40, streams=8)
    spread = [{int(i) // 10 for step in range(4) for i in order.take(8 * step, 8, rank, 8)} for rank in range(8)]
    assert all(len(shards) <= 3 for shards in spread)  # one block of three shards each
    assert len(set().union(*spread)) > 8


def test_seed_fingerprint_and_epoch_change_the_order() -> None:
    base = make([50, 50]).samples_at(0, np.arange(100))
    assert not np.array_equal(base, make([50, 50], seed=1).samples_at(0, np.arange(100)))
    assert not np.array_equal(base, make([50, 50], fingerprint="g").samples_at(0, np.arange(100)))
    assert not np.array_equal(base, make([50, 50], streams=4).samples_at(0, np.arange(100)))
    assert not np.array_equal(base, make([50, 50]).samples_at(1, np.arange(100)))
    assert np.array_equal(base, make([50, 50]).samples_at(0, np.arange(100)))


def test_the_order_is_fixed_for_good() -> None:
    """This hash may change only together with SCHEMA_VERSION: runs in progress would see other batches.

    It is of the first 200 of 202 samples of two epochs and of 80 of a third, in batches of 8.
    """
    order = Order([7, 100, 31, 64], "fingerprint", seed=5, streams=64, block_shards=4)
    positions = [(step // 25, np.arange(8) + step % 25 * 8) for step in range(60)]
    content = b"".join(order.samples_at(epoch, within).astype("<i8").tobytes() for epoch, within in positions)
    assert hashlib.sha256(content).hexdigest() == GOLDEN


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(SettingsError, match="8 streams cannot be divided among 3 ranks"):
        make([30]).check_ranks(3)
    with pytest.raises(SettingsError, match="streams must be at least 1, got 0"):
        make([3], streams=0)
    with pytest.raises(SettingsError, match="samples must be at least 1, got 0"):
        make([])
