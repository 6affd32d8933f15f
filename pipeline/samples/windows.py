"""Which raw frames a sample is made of; encoder mode `clip` alone counts otherwise (`encoder/encoder_frames.py`).

With `n` = now, `s` = interval, K = steps, the tubelet of step k is the frame pair {n+(2k-1)s, n+2ks}; step 0 ends at
`now` and starts at max(0, n-s) (rule L2). A step whose last frame lies past the end of the episode has no support; the
window is then dropped, or kept with that step masked (rule L8). The same holds for actions n..n+T-1.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pipeline.format.build_settings import WindowPolicy
from pipeline.format.enums import WindowEnd


@dataclass(frozen=True)
class Window:
    """One sample's place in its episode. Frame indices are those of the source."""

    now: int
    interval: int
    steps: int
    num_frames: int
    action_count: int

    def supports(self) -> tuple[tuple[int, ...], ...]:
        """Frames of the tubelets of steps 0..K; empty where a step lies past the end of the episode."""
        ends = [self.now + 2 * step * self.interval for step in range(self.steps + 1)]
        return tuple((max(0, last - self.interval), last) if last < self.num_frames else () for last in ends)

    def key(self, episode_id: str) -> str:
        """Name of the sample; sorts by time inside an episode and holds no dot."""
        return f"{episode_id}-{self.now:06d}"


def count_windows(num_frames: int, policy: WindowPolicy, has_actions: bool) -> int:
    """How many windows an episode of this length gives."""
    return len(_nows(num_frames, policy, has_actions))


def count_tubelets(num_frames: int, policy: WindowPolicy, has_actions: bool) -> int:
    """How many distinct tubelets the windows of an episode are made of; one is known by its last frame."""
    nows, steps = _nows(num_frames, policy, has_actions), range(policy.steps + 1)
    if not isinstance(nows, range):
        ends = {now + 2 * step * policy.interval for now in nows for step in steps}
        return sum(end < num_frames for end in ends)
    # For each step an arithmetic progression. Those with the same remainder overlap, or follow each other.
    found: dict[int, range] = {}
    count = 0
    for step in steps:
        offset = 2 * step * policy.interval
        ahead = range(offset, min(offset + nows.stop, num_frames), policy.every)
        known = found.get(offset % policy.every)
        start = max(offset, known[-1] + policy.every) if known else offset
        count += len(range(start, ahead.stop, policy.every))
        found[offset % policy.every] = ahead
    return count


def enumerate_windows(num_frames: int, policy: WindowPolicy, has_actions: bool) -> Iterator[Window]:
    """Windows of an episode by rising `now`."""
    for now in _nows(num_frames, policy, has_actions):
        count = min(policy.chunk, num_frames - now) if has_actions else 0
        yield Window(now, policy.interval, policy.steps, num_frames, count)


def _nows(num_frames: int, policy: WindowPolicy, has_actions: bool) -> Sequence[int]:
    """The present frames. With `pad` at least one future step must exist."""
    reach = 2 * policy.interval * (1 if policy.end == WindowEnd.PAD else policy.steps)
    if has_actions and policy.end == WindowEnd.DROP:
        reach = max(reach, policy.chunk - 1)
    fitting = max(0, num_frames - reach)
    if policy.per_episode == 0:
        return range(0, fitting, policy.every)
    count = min(policy.per_episode, fitting)
    return [(2 * i + 1) * fitting // (2 * count) for i in range(count)]
