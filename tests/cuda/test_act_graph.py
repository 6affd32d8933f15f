"""Actions by CUDA graphs against those that are computed as they come, for other images and numbers of robots."""

from __future__ import annotations

from dataclasses import replace

import torch

from model.act_graph import ActGraphs
from model.vla_jepa import build_model
from tests.model.helpers import SIZES, STATS, robot_observation, small_settings


def test_recorded_actions_are_those_of_the_model() -> None:
    model = build_model(small_settings(), SIZES, STATS).eval().cuda()
    graphs = ActGraphs(model)
    for seed, count in ((0, 4), (1, 4), (2, 1), (3, 4)):
        observation = robot_observation(count, seed)
        assert observation.state is not None
        observation = replace(observation, images=observation.images.cuda(), state=observation.state.cuda())
        start = torch.randn(count, SIZES.chunk, SIZES.action, device="cuda")
        with torch.autocast("cuda", torch.bfloat16):
            expected = model.act(observation, start=start)
        found = graphs.act(observation, start)
        assert float((found - expected).abs().max() / (expected.max() - expected.min())) < 3e-2
    again = graphs.act(observation, start)
    assert torch.equal(again, found)
