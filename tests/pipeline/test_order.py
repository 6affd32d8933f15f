"""The order of samples as integers: a bijection each epoch, the same for any number of ranks and any restart."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import SettingsError
from pipeline.order import Order

shard_lists = st.lists(st.integers(1, 30), min_size=1, max_size=12)

GOLDEN = "d350b4d0dce3daa153093df15391a124f925fdc288e81f2e9d32770243f4dd32"


def make(shards: list[int], batch: int = 1, seed: int = 0, fingerprint: str = "f", streams: int = 8) -> Order:
    return Order(shards, fingerprint, seed, batch, streams=streams, block_shards=3)


@given(shard_lists, st.integers(0, 3), st.integers(1, 16))
def test_an_epoch_is_a_bijection(shards: list[int], epoch: int, streams: int) -> None:
    order = make(shards, streams=streams)
    seen = order.samples_at(epoch, np.arange(order.samples))
    assert sorted(seen.tolist()) == list(range(sum(shards)))


@given(shard_lists, st.integers(1, 4), st.sampled_from([1, 2, 4, 8]), st.integers(0, 40))
def test_ranks_split_the_same_global_batch(shards: list[int], factor: int, world: int, step: int) -> None:
    batch = 8 * factor
    if sum(shards) < batch:
        return
    order = make(shards, batch)
    whole = order.batch(step)
    parts = [order.batch(step, rank, world) for rank in range(world)]
    assert sorted(np.concatenate(parts).tolist()) == sorted(whole.tolist())
    assert np.array_equal(np.stack(parts, axis=1).reshape(-1), whole)


@given(shard_lists, st.integers(1, 8))
def test_an_epoch_uses_every_sample_but_the_stated_rest(shards: list[int], batch: int) -> None:
    if sum(shards) < batch:
        return
    order = make(shards, batch)
    seen = np.concatenate([order.batch(step) for step in range(order.steps_per_epoch)])
    assert len(set(seen.tolist())) == len(seen) == order.samples - order.samples % batch


def test_every_position_can_be_reached_directly() -> None:
    order = make([5, 9, 2, 14, 7], batch=4)
    steps = range(3 * order.steps_per_epoch)
    forward = [order.batch(step).tolist() for step in steps]
    fresh = [make([5, 9, 2, 14, 7], batch=4).batch(step).tolist() for step in reversed(steps)]
    assert forward == fresh[::-1]


def test_a_rank_reads_from_its_own_streams() -> None:
    order = make([10] * 40, batch=8, streams=8)
    spread = [{int(i) // 10 for step in range(4) for i in order.batch(step, rank, 8)} for rank in range(8)]
    assert all(len(shards) <= 3 for shards in spread)  # one block of three shards each
    assert len(set().union(*spread)) > 8


def test_seed_fingerprint_and_epoch_change_the_order() -> None:
    base = make([50, 50]).samples_at(0, np.arange(100))
    assert not np.array_equal(base, make([50, 50], seed=1).samples_at(0, np.arange(100)))
    assert not np.array_equal(base, make([50, 50], fingerprint="g").samples_at(0, np.arange(100)))
    assert not np.array_equal(base, make([50, 50]).samples_at(1, np.arange(100)))
    assert np.array_equal(base, make([50, 50]).samples_at(0, np.arange(100)))


def test_the_order_is_fixed_for_good() -> None:
    """This hash may change only together with SCHEMA_VERSION: runs in progress would see other batches."""
    order = Order([7, 100, 31, 64], "fingerprint", seed=5, batch_size=8)
    content = b"".join(order.batch(step).astype("<i8").tobytes() for step in range(60))
    assert hashlib.sha256(content).hexdigest() == GOLDEN


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(SettingsError, match="3 samples, fewer than one global batch of 4"):
        make([3], batch=4)
    with pytest.raises(SettingsError, match="3 ranks must divide"):
        make([30], batch=6).check_ranks(3)
    with pytest.raises(SettingsError, match="batch_size must be at least 1, got 0"):
        make([3], batch=0)
