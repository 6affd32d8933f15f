"""`VLAJEPA.act` as CUDA graphs: one launch for the thousands of small kernels between images and actions."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from model.recording import copied, fill, shapes_of, warm_up
from model.student.backbone import StudentInput
from model.vla_jepa import VLAJEPA
from pipeline.format.schema import Observation

TOKENS = 64
"""Packed prompts are padded to a multiple of it, so that instructions share graphs."""

KEPT = 16
"""Graphs that are kept, those used last: one for each number of robots and of padded tokens."""

_Given = tuple[StudentInput, Tensor, Tensor]
"""What the student reads, state and noise."""


@dataclass(frozen=True)
class RecordedAct:
    """A recorded call: where it reads, and what it writes."""

    graph: torch.cuda.CUDAGraph
    inputs: _Given
    actions: Tensor


class ActGraphs:
    """Actions of a model in eval mode on a CUDA device, computed in bfloat16."""

    def __init__(self, model: VLAJEPA) -> None:
        self._model = model
        self._recorded: OrderedDict[Any, RecordedAct] = OrderedDict()
        self._pool = torch.cuda.graph_pool_handle()

    @torch.no_grad()
    def act(self, observation: Observation[Tensor], start: Tensor) -> Tensor:
        """As `VLAJEPA.act` under autocast. The first call of a size records, which takes some calls' time."""
        assert observation.state is not None
        given = (self._model.student.prepare(observation, padded_to=TOKENS), observation.state, start)
        key = shapes_of(given)
        if key not in self._recorded:
            self._recorded[key] = self._record(copied(given))
            if len(self._recorded) > KEPT:
                self._recorded.popitem(last=False)
        self._recorded.move_to_end(key)
        recorded = self._recorded[key]
        fill(recorded.inputs, given)
        recorded.graph.replay()
        return recorded.actions.clone()

    def _record(self, given: _Given) -> RecordedAct:
        def act() -> Tensor:
            # A kept cast would belong to one graph alone.
            with torch.autocast("cuda", torch.bfloat16, cache_enabled=False):
                return self._model.act_prepared(*given)

        warm_up(act)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
            actions = act()
        return RecordedAct(graph, given, actions)
