"""Later frames as averages, ways, distances and at changing lags are found; honest dynamics beside them are not.

Fields that only some episodes have hide nothing, and a build that has many keeps a bounded number of them.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pytest

from pipeline.audit.finding import Report
from pipeline.audit.lookahead.channel_names import ChannelNames
from pipeline.audit.lookahead.numbers.episode_groups import GROUPS
from pipeline.audit.lookahead.numbers.field_numbers import MOST_CHANNELS
from pipeline.audit.lookahead.search import LookaheadSearch, examine
from pipeline.audit.raw.base import Numbers, RawEpisode
from tests.leakage.robot_sets import Values

EPISODES, SUBSTEPS, TAIL = 24, 8, 40
LENGTHS = [(36, 6), (90, 12)]
"""Frames of an episode, and how far these differ: 5 Hz and 15 Hz."""


@dataclass(frozen=True)
class Motion:
    """A joint with the noise of its sensor, longer than its episode. fine: SUBSTEPS exact values a frame."""

    rng: np.random.Generator
    frames: int
    fine: Values

    @property
    def x(self) -> Values:
        """[N + TAIL], at the frames."""
        return self.fine[::SUBSTEPS] + 1e-4 * np.random.default_rng(self.frames).normal(size=len(self.fine) // SUBSTEPS)


Channel = Callable[[Motion], Values]


def _motion(rng: np.random.Generator, frames: int) -> Motion:
    speed = rng.normal(size=(frames + TAIL) * SUBSTEPS + 12 * SUBSTEPS)
    kernel = np.hanning(12 * SUBSTEPS + 1)
    speed = np.convolve(speed, kernel / np.sqrt((kernel**2).sum()), "valid")
    return Motion(rng, frames, np.cumsum(speed) * 0.1 / SUBSTEPS + rng.normal())


def _episodes(
    channel: Channel,
    frames: int,
    spread: int,
    others: Callable[[int, int], Sequence[Numbers]] = lambda e, n: (),
    count: int = EPISODES,
) -> list[RawEpisode]:
    """State: a joint on time, another one, and the channel."""
    made = []
    for number in range(count):
        rng = np.random.default_rng([frames, number])
        motion = _motion(rng, frames + int(rng.integers(-spread, spread + 1)))
        beside, n = _motion(rng, motion.frames).x, motion.frames
        state = np.stack([values[:n] for values in (motion.x, beside, channel(motion))], axis=1).astype(np.float32)
        made.append(RawEpisode(str(number), "train", {}, (), state, None, others=tuple(others(number, n))))
    return made


def _found(episodes: Sequence[RawEpisode], parts: int = 1) -> tuple[list[str], tuple[str, ...]]:
    """Details of the findings, and claims; the episodes in some parts that are merged last first."""
    whole = LookaheadSearch()
    for part in reversed(range(parts)):
        search = LookaheadSearch()
        for episode in episodes[part::parts]:
            search.add(episode.id, examine(episode, {}))
        whole.merge(_from_ray(search))
    report = Report()
    whole.report(report, ChannelNames())
    assert {finding.rule for finding in report.findings} <= {"L8"}
    return [finding.detail for finding in report.findings], whole.claims


def _from_ray(search: LookaheadSearch) -> LookaheadSearch:
    """As another process of a cluster hands it over: arrays cannot be written to."""
    buffers: list[pickle.PickleBuffer] = []
    content = pickle.dumps(search, protocol=5, buffer_callback=buffers.append)
    found: LookaheadSearch = pickle.loads(content, buffers=[bytes(buffer) for buffer in buffers])
    return found


def _kernel(first: int, weights: Values) -> Channel:
    """Weights of the frames n+first and those that follow it."""
    return lambda m: np.convolve(np.pad(m.x, (max(0, -first), 0), mode="edge"), weights[::-1], "valid")[max(0, first) :]


def _backwards(share: float) -> Channel:
    def channel(motion: Motion) -> Values:
        made = motion.x.copy()
        for n in range(len(made) - 2, -1, -1):
            made[n] = share * made[n] + (1 - share) * made[n + 1]
        return made

    return channel


def _own_lag(motion: Motion) -> Values:
    lag = int(motion.rng.integers(1, 14))
    return float(motion.rng.choice([-1, 1])) * motion.x[lag:]


ASYMMETRIC = np.array([0.05, 0.05, 0.1, 0.1, 0.1, 0.15, 0.15, 0.15, 0.15])
LEAKS: dict[str, tuple[str, Channel]] = {
    "the next five": ("frames n+1 to n+5", _kernel(1, np.ones(5) / 5)),
    "this one and the next ten": ("frames n+0 to n+10", _kernel(0, np.ones(11) / 11)),
    "the next 24": ("frames n+1 to n+24", _kernel(1, np.ones(24) / 24)),
    "around n": ("frames n-4 to n+4", _kernel(-4, np.ones(9) / 9)),
    "mostly later ones": ("frames n-2 to n+6", _kernel(-2, ASYMMETRIC)),
    "backwards": ("averaged over the frames n+0", _backwards(0.4)),
    "backwards, hardly": ("runs backwards", _backwards(0.05)),
    "backwards, turned over": ("runs backwards", lambda m: 1 - 3 * _backwards(0.15)(m)),
    "between n+9 and n+10": ("frames n+9 to n+10", _kernel(9, np.array([0.5, 0.5]))),
    "a negative sum": ("frames n+0 to n+6", _kernel(0, -np.ones(7))),
    "way of ten frames": ("as the way between the frames n+0 to n+10", lambda m: m.x[10:] - m.x[:-10]),
    "way from before to after": (
        "as the way between the frames n-3 to n+9",
        lambda m: m.x[9:] - np.r_[[m.x[0]] * 3, m.x][: len(m.x) - 9],
    ),
    "distance to the last pose": ("of the last, less that of the first", lambda m: m.x[m.frames - 1] - m.x),
    "less its own mean": ("on average over all frames, less that of the first", lambda m: m.x - m.x[: m.frames].mean()),
    "another lag and sign in each": ("of ", _own_lag),
}


@pytest.mark.parametrize(("frames", "spread"), LENGTHS)
@pytest.mark.parametrize("name", LEAKS)
def test_later_frames_are_found(name: str, frames: int, spread: int) -> None:
    message, channel = LEAKS[name]
    details, _ = _found(_episodes(channel, frames, spread))
    assert any(detail.startswith("state channel 2") and message in detail for detail in details), details


DROPPED_OUT = [
    "the next five",
    "mostly later ones",
    "backwards, hardly",
    "way of ten frames",
    "distance to the last pose",
]
MANY = 120


def _drop_out(episodes: Sequence[RawEpisode], numbers: Sequence[int]) -> None:
    """The joint beside the channel, as the raw data has it, lost frames in these episodes."""
    for number in numbers:
        state = episodes[number].state
        assert state is not None
        state[[0, len(state) // 2, -1], 0] = -300.0


@pytest.mark.parametrize("name", DROPPED_OUT)
def test_a_sensor_that_drops_out_in_some_episodes_hides_nothing(name: str) -> None:
    episodes = _episodes(LEAKS[name][1], 36, 6, count=MANY)
    _drop_out(episodes, (17, 60))
    details, _ = _found(episodes, 3)
    assert any(detail.startswith("state channel 2") and "groups of episodes" in detail for detail in details), details


def _follows(lag: float, damping: float = 1.0, delay: int = 0) -> Callable[[Values], Values]:
    """A system of second order that is driven: what moves follows its command by about `lag` frames."""

    def moved(fine: Values) -> Values:
        rate, place, speed, made = 2 / (lag * SUBSTEPS), fine[0], 0.0, np.empty_like(fine)
        for at in range(len(fine)):
            command = fine[max(0, at - delay * SUBSTEPS)]
            speed += rate**2 * (command - place) - 2 * damping * rate * speed
            place += speed
            made[at] = place
        return made

    return moved


def _at_frames(make: Callable[[Values], Values]) -> Channel:
    return lambda m: make(m.fine)[::SUBSTEPS]


def _steps(motion: Motion) -> Values:
    return np.repeat(motion.rng.normal(size=len(motion.x) // 5 + 2), 5)[: len(motion.x)]


HONEST: dict[str, Channel] = {
    "velocity": _at_frames(np.gradient),
    "velocity of the last substep": _at_frames(lambda fine: np.diff(fine, prepend=fine[:1])),
    "acceleration": _at_frames(lambda fine: np.gradient(np.gradient(fine))),
    "what follows it at once": _at_frames(_follows(1.0)),
    "what follows it late": _at_frames(_follows(5.0, delay=3)),
    "what rings": _at_frames(_follows(3.0, damping=0.2)),
    "mean of the last ten": _kernel(-9, np.ones(10) / 10),
    "smoothed by its past": lambda m: _backwards(0.1)(replace(m, fine=m.fine[::-1]))[::-1],
    "waves": lambda m: np.sin(np.arange(len(m.x)) / 7 + m.frames),
    "a sum over time": lambda m: np.cumsum(m.x),
    "a sensor that is better": lambda m: m.fine[::SUBSTEPS],
    "a sensor that is worse": lambda m: m.x + 1e-3 * m.rng.normal(size=len(m.x)),
    "a coarse encoder": lambda m: np.round(m.x, 2),
    "a command held for five frames": _steps,
    "a gripper that opens and closes": lambda m: (np.cumsum(m.rng.random(len(m.x)) < 0.05) % 2).astype(float),
    "the way of the last ten frames": lambda m: m.x - np.r_[np.full(10, m.x[0]), m.x[:-10]],
    "the distance from the first pose": lambda m: m.x - m.x[0],
    "idle for a part": lambda m: np.where(np.arange(len(m.x)) < m.frames // 2, m.x[0], m.x),
    "constant": lambda m: np.full(len(m.x), m.rng.normal()),
}


@pytest.mark.parametrize(("frames", "spread"), LENGTHS)
@pytest.mark.parametrize("name", HONEST)
def test_honest_dynamics_have_no_finding(name: str, frames: int, spread: int) -> None:
    assert _found(_episodes(HONEST[name], frames, spread)) == ([], ())


@pytest.mark.slow
@pytest.mark.parametrize("dropped_out", [(), (17, 60)])
@pytest.mark.parametrize("frames", [24, 36])
@pytest.mark.parametrize("name", HONEST)
def test_many_episodes_of_honest_dynamics_have_no_finding(name: str, frames: int, dropped_out: Sequence[int]) -> None:
    episodes = _episodes(HONEST[name], frames, 6, count=MANY)
    _drop_out(episodes, dropped_out)
    assert _found(episodes) == ([], ())


@pytest.mark.parametrize("frames", [36, 90])
def test_what_drives_the_joint_has_no_finding(frames: int) -> None:
    """The channel is the command, and the joints on time follow it."""
    made = []
    for episode in _episodes(lambda m: np.zeros(len(m.x)), frames, 6):
        assert episode.state is not None
        rng = np.random.default_rng([7, int(episode.id)])
        command = _motion(rng, len(episode.state))
        columns = [_at_frames(_follows(lag, delay=delay))(command) for lag, delay in ((1.0, 0), (3.0, 0), (5.0, 6))]
        state = np.stack([command.x, *columns], axis=1)[: len(episode.state)].astype(np.float32)
        made.append(RawEpisode(episode.id, "train", {}, (), state, None))
    assert _found(made) == ([], ())


def _touch(name: str, width: int = 1) -> Callable[[int, int], Numbers]:
    return lambda e, n: Numbers(f"observation/{name}", False, np.random.default_rng(e).normal(size=(n, width)))


FIELDS: dict[str, Callable[[int, int], Sequence[Numbers]]] = {
    "in the first episode alone": lambda e, n: [_touch("tactile")(e, n)] if e == 0 else [],
    "in all but the first": lambda e, n: [_touch("tactile")(e, n)] if e else [],
    "with another name in each": lambda e, n: [_touch(f"run_{e}")(e, n)],
    "with another width in each": lambda e, n: [_touch("touch", 1 + e % 5)(e, n)],
    "not finite in half of them": lambda e, n: [Numbers("obs/x", False, np.full((n, 1), np.nan if e % 2 else 0.0))],
    "more than are kept": lambda e, n: [_touch(f"run_{e}", 40)(e, n)],
}


@pytest.mark.parametrize("name", FIELDS)
def test_a_field_of_some_episodes_hides_nothing(name: str) -> None:
    episodes = _episodes(lambda m: np.full(len(m.x), m.x[m.frames - 1]), 36, 6, FIELDS[name])
    details, claims = _found(episodes)
    assert details == [
        f"state channel 2 of the first frame of an episode gives state channel 0 of the last ({EPISODES} episodes)"
    ]
    assert bool(claims) == (name == "more than are kept")
    for parts in (3, EPISODES):
        assert _found(episodes, parts) == (details, claims)


def test_a_later_frame_of_a_field_of_half_the_episodes_is_found() -> None:
    """Beside a field of its own in each episode."""

    def others(e: int, n: int) -> list[Numbers]:
        rng = np.random.default_rng([36, e])
        rng.integers(-6, 7)
        shown = Numbers("observation/raw", False, _motion(rng, n).x[:n, None])
        return [_touch(f"run_{e}")(e, n), *([shown] if e % 2 else [])]

    made = []
    for episode in _episodes(lambda m: m.x, 90, 6, others):
        assert episode.state is not None
        raw = [other.values[:, 0] for other in episode.others if other.name == "observation/raw"]
        column = raw[0] if raw else episode.state[:, 1]
        state = np.concatenate([episode.state[:, :1], np.roll(column, -4)[:, None]], axis=1).astype(np.float32)[:-4]
        made.append(
            RawEpisode(
                episode.id,
                "train",
                {},
                (),
                state,
                None,
                others=tuple(Numbers(other.name, False, other.values[:-4]) for other in episode.others),
            )
        )
    details, _ = _found(made, 4)
    assert any("state channel 1" in detail and "observation/raw channel 0 of frame n+4" in detail for detail in details)


def test_the_fields_of_many_episodes_need_bounded_memory() -> None:
    """Those with the first names are kept, in whatever order episodes come."""
    sizes, claims = [], []
    count = 2 * GROUPS * (MOST_CHANNELS // 40 + 1)
    episodes = _episodes(lambda m: m.x, 20, 2, FIELDS["more than are kept"], count)
    for order in (episodes, episodes[::-1], episodes + episodes):
        search = LookaheadSearch()
        for episode in order:
            search.add(episode.id, examine(episode, {}))
        sizes.append(len(pickle.dumps(search)))
        claims.append(search.claims)
    assert max(sizes) < 1.02 * min(sizes)
    kept = MOST_CHANNELS // 40
    assert claims[0] == claims[1]
    assert claims[0][0].startswith(f"{count - kept} fields of numbers")
