"""Garbage is collected at chosen steps, which changes nothing that is learned."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch

from jobs.common.policy.load_model import load_model
from jobs.training.loop.step.garbage import collected_at_steps
from jobs.training.run import train
from model.checkpoint.folders import list_checkpoints
from pipeline.format.build import Build
from tests.jobs.launch import losses_of
from tests.jobs.runs import train_config


class Circle:
    """Refers to itself: nothing but the collector frees it."""

    def __init__(self) -> None:
        self.itself = self


def test_garbage_stays_until_its_step() -> None:
    with collected_at_steps(3) as collect:
        assert not gc.isenabled()
        garbage = weakref.ref(Circle())
        collect(2)
        assert garbage() is not None
        collect(3)
        assert garbage() is None
    assert gc.isenabled()
    assert gc.get_freeze_count() == 0


def test_an_error_gives_the_collector_back() -> None:
    with pytest.raises(ZeroDivisionError), collected_at_steps(3):
        raise ZeroDivisionError
    assert gc.isenabled()


def test_python_collects_as_it_likes_where_it_is_asked_to() -> None:
    with collected_at_steps(0):
        assert gc.isenabled()


def test_a_collector_that_somebody_has_turned_off_stays_so() -> None:
    gc.disable()
    try:
        with collected_at_steps(3):
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_a_run_learns_the_same(robot_build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    collections: list[Any] = []
    collect = gc.collect
    monkeypatch.setattr(gc, "collect", lambda *generation: collections.append(generation) or collect(*generation))
    for every in (0, 2):
        train(train_config(tmp_path / str(every), [robot_build], collect_every=every))
        assert gc.isenabled()
    assert collections.count((1,)) == 3  # of six steps
    assert losses_of(tmp_path / "0") == losses_of(tmp_path / "2")
    first, second = (
        load_model(list_checkpoints(tmp_path / every / "checkpoints")[-1]).state_dict() for every in ("0", "2")
    )
    assert all(torch.equal(first[name], second[name]) for name in first)
