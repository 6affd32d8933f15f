"""A perturbed copy differs after its last honest frame, and nowhere else."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.audit.rederive.perturbed_episode import PerturbedEpisode, black, frames_of, noise
from pipeline.sources.lerobot.source import LeRobotSource
from tests.conftest import SampleData


@pytest.mark.parametrize(
    "name", ["noise", *(pytest.param(name, marks=pytest.mark.slow) for name in ("black", "another"))]
)
def test_only_later_frames_differ(sample_data: SampleData, name: str) -> None:
    source = LeRobotSource(root=str(sample_data.lerobot), name="robot")
    first, second = source.index().refs[:2]
    with source.open(first) as episode, source.open(second) as other:
        replace = {"noise": noise, "black": black, "another": frames_of(other)}[name]
        copy = PerturbedEpisode(episode, 20, replace)
        for view in first.data["videos"]:
            honest, found = episode.frames(view, [5, 20, 21, 40]), copy.frames(view, [5, 20, 21, 40])
            np.testing.assert_array_equal(found[:2], honest[:2])
            assert (found[2:] != honest[2:]).any(axis=(1, 2, 3)).all()
        np.testing.assert_array_equal(copy.state(20), episode.state(20))
        assert (copy.state(21) != episode.state(21)).all()  # type: ignore[union-attr]
        honest_actions, actions = episode.actions(18, 24), copy.actions(18, 24)
        assert honest_actions is not None
        assert actions is not None
        np.testing.assert_array_equal(actions[:3], honest_actions[:3])
        assert (actions[3:] != honest_actions[3:]).all()
        assert copy.instruction(20) == episode.instruction(20) != copy.instruction(21)
        assert copy.num_frames == episode.num_frames


def test_frames_of_another_size_fill_the_shape_at_hand(sample_data: SampleData) -> None:
    source = LeRobotSource(root=str(sample_data.lerobot), name="robot")
    ref = source.index().refs[0]
    view = next(iter(ref.data["videos"]))
    with source.open(ref) as episode:
        large = np.zeros((100, 90, 3), np.uint8)
        found = frames_of(episode)(view, 1000, large)
        assert found.shape == large.shape
        assert found.any()


def test_noise_is_the_same_every_time() -> None:
    frame = np.zeros((8, 8, 3), np.uint8)
    np.testing.assert_array_equal(noise("a", 3, frame), noise("a", 3, frame))
    assert (noise("a", 3, frame) != noise("a", 4, frame)).any()
