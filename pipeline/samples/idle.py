"""Windows whose present frame is idle: `window.skip_idle`. A function of states up to `now` alone (rule L1).

Whether a robot is about to move is what a policy has to tell. A rule that looked ahead to leave out windows would
choose inputs by what follows them; this one is handed nothing later than the present.

S channels of state.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.format.build_settings import WindowPolicy
from pipeline.sources.episode.truncated import TruncatedEpisode


def is_idle(past: TruncatedEpisode, policy: WindowPolicy) -> bool:
    """Whether no channel of the state changed by more than `idle_change` over the `skip_idle` frames before `now` and
    `now` itself. An episode's first `skip_idle` frames have too short a past and are never idle."""
    if policy.skip_idle == 0 or past.now < policy.skip_idle:
        return False
    states = past.states(policy.skip_idle)
    return states is not None and extent(states) <= policy.idle_change


def extent(states: NDArray[np.float32]) -> float:
    """Largest difference between two values of a channel of float32 [N, S]; computed in float64."""
    return float(np.ptp(states.astype(np.float64), axis=0).max(initial=0.0))
