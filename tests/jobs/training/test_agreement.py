"""Ranks that would train on other builds or from other weights than the run says."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from jobs.common.policy.robot_interface import without_words
from jobs.training import run
from jobs.training.agreement import require_agreement, weights_digest
from jobs.training.loop.ranks import Ranks
from pipeline.errors import RunError
from pipeline.format.build import Build
from tests.jobs.runs import train_config

STATE = {"builds": {"robot": "a"}, "build_sha256": {"robot": "12"}}


class Two:
    """Stands for the ranks of two processes, of which the other one has this to say."""

    def __init__(self, other: dict[str, Any]) -> None:
        self._other = other

    def gather(self, value: Any) -> list[Any]:
        return [value, self._other]


def agree(other: dict[str, Any]) -> None:
    ranks: Any = Two(other)
    require_agreement(ranks, STATE, "w")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            {"build_sha256": {"robot": "34"}},
            r"rank 1 is not in the same run .*: build_sha256.robot was '12', now '34'",
        ),
        ({"weights": "v"}, "rank 1 .*: weights was 'w', now 'v'"),
        ({"trainer": {"seed": 1}}, "rank 1 .*: trainer"),
    ],
)
def test_a_rank_of_another_run_is_refused(change: dict[str, Any], says: str) -> None:
    agree({**STATE, "weights": "w"})
    with pytest.raises(RunError, match=says):
        agree({**STATE, "weights": "w"} | change)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_the_digest_is_of_every_bit_but_of_what_is_left_out(dtype: torch.dtype) -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)).to(dtype)
    other = deepcopy(model)
    assert weights_digest(model) == weights_digest(other)
    with torch.no_grad():
        other[0].weight.view(torch.uint8)[1, 2] ^= 1
    assert weights_digest(model) != weights_digest(other)
    assert weights_digest(model, ("0.",)) == weights_digest(other, ("0.",))


def test_a_run_asks_its_ranks(video_build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def gather(self: Ranks, value: Any) -> list[Any]:
        return [value, value | {"build_sha256": {}}] if isinstance(value, dict) and "build_sha256" in value else [value]

    monkeypatch.setattr(Ranks, "gather", gather)
    with pytest.raises(RunError, match=r"rank 1 .*: build_sha256\."):
        run.train(train_config(tmp_path / "run", [video_build]))
    assert not (tmp_path / "run").exists()


def test_words_for_channels_are_not_compared() -> None:
    state = {"robot": {"state": 2, "state_channels": [{"names": ["x", "y"]}], "action_channels": []}, "model": 1}
    worded = {**state, "robot": {**state["robot"], "state_channels": []}}
    assert without_words(state) == without_words(worded) == {"robot": {"state": 2}, "model": 1}
    assert without_words({"robot": None}) == {"robot": None}
