"""`VLAJEPA.act` as CUDA graphs, one for each number of robots and of padded tokens."""

from __future__ import annotations

import torch
from torch import Tensor

from model.recording import Recorded
from model.student.backbone import StudentInput
from model.vla_jepa import VLAJEPA
from pipeline.format.schema import Observation

TOKENS = 64
"""Packed prompts are padded to a multiple of it, so that instructions share graphs."""


class ActGraphs:
    """Actions of a model in eval mode on a CUDA device, computed in bfloat16."""

    def __init__(self, model: VLAJEPA) -> None:
        self._model = model
        self._recorded = Recorded(self._act)

    @torch.no_grad()
    def act(self, observation: Observation[Tensor], start: Tensor) -> Tensor:
        """As `VLAJEPA.act` under autocast. The first call of a size records, which takes some calls' time."""
        assert observation.state is not None
        prepared = self._model.student.prepare(observation, padded_to=TOKENS)
        return self._recorded(prepared, observation.state, start).clone()

    def _act(self, prepared: StudentInput, state: Tensor, start: Tensor) -> Tensor:
        # A kept cast would belong to one graph alone.
        with torch.autocast("cuda", torch.bfloat16, cache_enabled=False):
            return self._model.act_prepared(prepared, state, start)
