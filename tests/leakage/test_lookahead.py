"""Inputs that show later frames are found before a build (`plan`, `inspect`) and by the audit; honest data is not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.audit.finding import Report
from pipeline.audit.lookahead.cameras.thumbnails import thumbnail
from pipeline.audit.lookahead.channel_names import ChannelNames
from pipeline.audit.lookahead.search import LookaheadSearch, examine
from pipeline.audit.raw.base import Numbers, RawEpisode
from pipeline.inspection.lookahead import find_lookahead
from pipeline.sources.base import EpisodeRef
from tests.leakage.robot_sets import LEAKY, SETS, RobotEpisode, RobotSet, the_same_camera_twice
from tests.pipeline.fake_episode import FakeEpisode


class _Episode(FakeEpisode):
    def __init__(self, made: RobotEpisode) -> None:
        super().__init__(len(made.state))
        self._made, self.frame_readers = made, made.cameras

    def frames(self, view: str, indices: Sequence[int]) -> NDArray[np.uint8]:
        return self._made.cameras[view][list(indices)]

    def state(self, index: int) -> NDArray[np.float32]:
        return self._made.state[index].astype(np.float32)

    def actions(self, start: int, stop: int) -> NDArray[np.float32]:
        return self._made.actions[start:stop].astype(np.float32)


@dataclass(frozen=True)
class _Source:
    made: RobotSet
    root: str = ""

    def index(self) -> None: ...

    def open(self, ref: EpisodeRef) -> _Episode:
        return _Episode(self.made[int(ref.id)])


def planned(made: RobotSet) -> list[tuple[str, str]]:
    """Rules and details by the search of `plan`."""
    refs = [EpisodeRef(str(number), "train", (), None) for number in range(len(made))]
    found = find_lookahead(_Source(made), refs)  # type: ignore[arg-type]
    assert found.episodes == len(made)
    return [(finding.rule, finding.detail) for finding in found.findings]


def audited(made: RobotSet) -> list[tuple[str, str]]:
    """Rules and details by the audit's search."""
    search, report = LookaheadSearch(), Report()
    for number, episode in enumerate(made):
        small = {view: np.stack([thumbnail(frame) for frame in film]) for view, film in episode.cameras.items()}
        state, actions = episode.state.astype(np.float32), episode.actions.astype(np.float32)
        search.add(str(number), examine(RawEpisode(str(number), "train", {}, (), state, actions), small))
    search.report(report, ChannelNames())
    assert (report.checked["L1"], report.checked["L8"]) == (len(made), len(made))
    return [(finding.rule, finding.detail) for finding in report.findings]


@pytest.mark.parametrize("search", [planned, audited])
@pytest.mark.parametrize("name", SETS)
def test_honest_data_has_no_finding(name: str, search: object) -> None:
    assert search(SETS[name]()) == []  # type: ignore[operator]


@pytest.mark.parametrize("search", [planned, audited])
@pytest.mark.parametrize("name", LEAKY)
def test_what_looks_ahead_is_found(name: str, search: object) -> None:
    rule, message, make = LEAKY[name]
    found = search(make())  # type: ignore[operator]
    assert any(rule == by and message in detail for by, detail in found), found


def _some(made: RobotSet, honest: RobotSet) -> Iterator[RobotEpisode]:
    yield from (leaky if number == 4 else clean for number, (leaky, clean) in enumerate(zip(made, honest, strict=True)))


def test_one_leaky_episode_among_honest_ones_is_found_by_the_audit() -> None:
    found = audited(list(_some(LEAKY["a_joint_of_the_next_frame"][2](), SETS["position_control"]())))
    assert [(rule, "in episode 4" in detail) for rule, detail in found] == [("L8", True)]


@pytest.mark.parametrize(("frames", "found"), [(-1, True), (1, True), (-40, False)])
def test_a_camera_of_nearly_the_same_length_is_compared(frames: int, found: bool) -> None:
    made = []
    for episode in the_same_camera_twice():
        film = episode.cameras["front"][3:]
        longer = np.concatenate([film, np.repeat(film[-1:], 3 + max(0, frames), axis=0)])
        wrist = longer[: len(episode.state) + frames]
        made.append(replace(episode, cameras={"front": episode.cameras["front"], "wrist": wrist}))
    assert any(rule == "L1" and "camera wrist shows later frames" in text for rule, text in audited(made)) == found


@pytest.mark.parametrize("row", [0, -1, 20])
def test_a_sensor_that_drops_out_hides_nothing(row: int) -> None:
    search, report = LookaheadSearch(), Report()
    rng = np.random.default_rng(3)
    for number in range(10):
        joints = np.cumsum(np.cumsum(rng.normal(size=(63, 4)), axis=0) * 0.01 + rng.normal(size=(63, 4)) * 0.02, axis=0)
        late, seen = joints[3:].astype(np.float32), joints[:60].copy()
        seen[row, 0] = np.nan
        others = (Numbers("observation.joints", False, seen),)
        episode = RawEpisode(str(number), "train", {}, ("x",), late, None, others=others)
        search.add(str(number), examine(episode, {}))
    search.report(report, ChannelNames())
    assert {finding.detail[:24] for finding in report.findings} == {f"state channel {i} of frame" for i in range(4)}
