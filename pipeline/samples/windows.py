"""Which raw frames a sample is made of; encoder mode `clip` alone counts otherwise (`encoder/encoder_frames.py`).

With `n` = now, `s` = interval, K = steps, the tubelet of step k is the frame pair {n+(2k-1)s, n+2ks}; step 0 ends at
`now` and starts at max(0, n-s) (rule L2). A step whose last frame lies past the end of the episode has no support; the
window is then dropped, or kept with that step masked (rule L8). The same holds for actions n..n+T-1.
"""

from __future__ import annotations

from collections.abc import Iterator
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

    def support(self, step: int) -> tuple[int, ...]:
        """Frames of the tubelet of step 0..K; empty when the step lies past the end of the episode."""
        last = self.now + 2 * step * self.interval
        if last >= self.num_frames:
            return ()
        return (max(0, last - self.interval), last)

    def supports(self) -> tuple[tuple[int, ...], ...]:
        """Tubelets of steps 0..K."""
        return tuple(self.support(k) for k in range(self.steps + 1))

    def key(self, episode_id: str) -> str:
        """Name of the sample; sorts by time inside an episode and holds no dot."""
        return f"{episode_id}-{self.now:06d}"


def count_windows(num_frames: int, policy: WindowPolicy, has_actions: bool) -> int:
    """How many windows an episode of this length gives."""
    fitting = _fitting(num_frames, policy, has_actions)
    if policy.per_episode:
        return min(policy.per_episode, fitting)
    return -(-fitting // policy.every)


def count_tubelets(num_frames: int, policy: WindowPolicy, has_actions: bool) -> int:
    """How many distinct tubelets the windows of an episode are made of; one is known by its last frame."""
    nows = list(_nows(_fitting(num_frames, policy, has_actions), policy))
    ends = {now + 2 * step * policy.interval for now in nows for step in range(policy.steps + 1)}
    return sum(end < num_frames for end in ends)


def enumerate_windows(num_frames: int, policy: WindowPolicy, has_actions: bool) -> Iterator[Window]:
    """Windows of an episode by rising `now`."""
    fitting = _fitting(num_frames, policy, has_actions)
    for now in _nows(fitting, policy):
        count = min(policy.chunk, num_frames - now) if has_actions else 0
        yield Window(now, policy.interval, policy.steps, num_frames, count)


def _fitting(num_frames: int, policy: WindowPolicy, has_actions: bool) -> int:
    """Frames 0..result-1 may be `now`. With `pad` at least one future step must exist."""
    if policy.end == WindowEnd.PAD:
        return max(0, num_frames - 2 * policy.interval)
    by_latents = num_frames - 2 * policy.steps * policy.interval
    by_actions = num_frames - policy.chunk + 1 if has_actions else num_frames
    return max(0, min(by_latents, by_actions))


def _nows(fitting: int, policy: WindowPolicy) -> Iterator[int]:
    if policy.per_episode == 0:
        yield from range(0, fitting, policy.every)
        return
    count = min(policy.per_episode, fitting)
    for i in range(count):
        yield (2 * i + 1) * fitting // (2 * count)
