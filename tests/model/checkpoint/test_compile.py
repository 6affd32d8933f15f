"""Compiled blocks: how much code there is for batches of changing shape. Slow: half a minute of compiling."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from model.checkpoint.sharding import compile_blocks
from model.vla_jepa import VLAJEPA, TrainingBatch
from model.world_model.prediction_error import prediction_errors
from pipeline.format.schema import Observation
from tests.model.helpers import robot_observation, robot_targets, small_model, video_observation, video_targets

pytestmark = pytest.mark.slow


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> Iterator[VLAJEPA]:
    """Graphs are made, and run as they are: their number does not depend on what turns them into kernels."""
    original = nn.Module.compile
    monkeypatch.setattr(nn.Module, "compile", lambda self, **options: original(self, backend="aot_eager", **options))
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    model = small_model().train()
    compile_blocks(model)
    yield model
    torch._dynamo.reset()


def graphs() -> int:
    return int(torch._dynamo.utils.counters["stats"]["unique_graphs"])


def batches(count: int, seed: int) -> tuple[TrainingBatch, TrainingBatch]:
    """Instructions of other lengths for every seed."""
    video, robot = video_observation(count, seed), robot_observation(count, seed)
    words = tuple("x" * (1 + (7 * i + 5 * seed) % 23) for i in range(count))
    return (with_words(video, words), video_targets(count, seed)), (
        with_words(robot, words),
        robot_targets(count, seed),
    )


def with_words(observation: Observation[Tensor], words: tuple[str, ...]) -> Observation[Tensor]:
    return Observation(observation.images, words, observation.state)


def train_on(model: VLAJEPA, count: int, seed: int) -> None:
    with torch.autocast("cpu", torch.bfloat16):
        losses = model(*batches(count, seed))
    torch.stack([each.total for each in losses]).sum().backward()


@torch.no_grad()
def evaluate_on(model: VLAJEPA, count: int) -> None:
    model.eval()
    with torch.autocast("cpu", torch.bfloat16):
        for observation, targets in batches(count, 1):
            prediction_errors(model, targets, model.steering(observation, targets))
    model.train()


def test_nothing_is_compiled_again_after_the_first_batches(compiled: VLAJEPA) -> None:
    train_on(compiled, 4, 0)
    first = graphs()
    for seed in range(1, 9):
        train_on(compiled, 4, seed)
    assert graphs() == first  # eight packs of other lengths
    train_on(compiled, 3, 9)  # an odd last batch
    evaluate_on(compiled, 4)
    evaluate_on(compiled, 3)
    settled = graphs()
    for count, seed in ((2, 10), (4, 11), (3, 12)):
        train_on(compiled, count, seed)
        evaluate_on(compiled, count)
    assert graphs() == settled
    assert not torch._dynamo.utils.counters["graph_break"]
