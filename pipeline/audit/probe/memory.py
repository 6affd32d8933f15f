"""Whether a function remembers what it was shown: then a change of later frames need not show in one process.

A cache under the present frame answers every change of the frames behind with what it made first. (One under later
frames too makes all anew once all of these are replaced.) So the clip is encoded twice, each time by a process that has
not seen it: alone, and after other futures of it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from pipeline.audit.probe.encoding import Encoding
from pipeline.audit.probe.experiment import (
    ClipResult,
    ProbeClip,
    ProbedFunction,
    call_function,
    changes_of,
    with_noise,
)
from pipeline.audit.probe.result import ProbeResult, moved, percent
from pipeline.errors import RunError


def encode_alone(function: ProbedFunction, clip: ProbeClip) -> Encoding:
    """What the function makes of a clip. Raises RunError if it fails."""
    return call_function(function, clip, clip.frames)


def encode_after_others(function: ProbedFunction, clip: ProbeClip) -> Encoding:
    """The same after other futures of the clip, one of them longer, whose encodings are thrown away. Raises RunError if
    the function fails."""
    other = with_noise(clip.frames, range(clip.now + 1, len(clip.frames)))
    for frames in (np.concatenate([other, other[-1:]]), other):
        call_function(function, clip, frames)
    return encode_alone(function, clip)


def without_memory(
    result: ProbeResult, clips: Sequence[ClipResult], alone: Sequence[Encoding], after: Sequence[Encoding]
) -> ProbeResult:
    """The result of a function that remembers nothing; what it changes between processes counts as its own change.

    Args:
        alone: of each clip, see `encode_alone`, by a process of its own;  after: see `encode_after_others`, likewise.

    Raises:
        RunError: the context depends on what the function was shown before, or on the process without bound.
    """
    own = dict(result.repeated)
    for clip, apart, later in zip(clips, alone, after, strict=True):
        between, remembered = changes_of(apart, clip.made), changes_of(later, apart)
        for name in clip.context:
            if not math.isfinite(between[name]):
                raise RunError(f"{clip.clip}, now={clip.now}: {name} is another in another process: nothing is shown")
            if moved(remembered[name], max(clip.repeated[name], between[name])):
                raise RunError(
                    f"{clip.clip}, now={clip.now}: {name} differs by {percent(remembered[name])} once the function has "
                    "seen the clip with other later frames; it remembers (a cache?), so the probe shows nothing; let "
                    "it start from nothing at each call"
                )
        own |= {name: max(own[name], between.get(name, 0.0)) for name in own}
    return replace(result, repeated=own)
