"""One episode of a build compared with its raw data: image, text, state, actions, times (level "source").

The video is decoded once from its first frame to its last, so a frame's number is a count and no seek.
V views, W words of a video (see `duplicates.sketch`), C side of the encoder's input.
"""

from __future__ import annotations

import contextlib
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.audit.duplicates.sketch import Sketcher
from pipeline.audit.raw.base import RawEpisode, RawError, RawSource
from pipeline.audit.rederive.images import Facts, image_differs, image_gap
from pipeline.audit.rederive.reencode import encoder_frame

CLOCK_TOLERANCE_S = 2e-3
"""Decoders report times as float32 or in container units of a millisecond."""

VECTOR_TOLERANCE = 1e-5
"""Absolute plus relative tolerance of state and action values that were computed from the raw data: two ways to compute
one rotation differ in the last bits of float32. Values that the raw data itself holds must be equal."""

_CLEARLY = 0.95
"""A neighbour is closer when its difference is this much smaller."""


@dataclass(frozen=True)
class SampleWork:
    """One sample as the shard holds it.

    images    view -> JPEG; a missing one is None
    document  KEY.json, None when malformed
    actions   float32 [T, A] and how many of them are valid; None for human video
    frames    raw frames the latents of steps 0..K come from, empty for a masked step; () unless re-encoded
    """

    key: str
    now: int
    num_frames: int
    now_s: float
    ends: tuple[int, ...]
    ends_s: tuple[float, ...]
    images: dict[str, bytes | None]
    document: dict[str, Any] | None
    actions: NDArray[np.float32] | None
    action_count: int
    frames: tuple[tuple[int, ...], ...] = ()


@dataclass(frozen=True)
class EpisodeWork:
    """All samples of one episode in one shard. `file` is the inputs shard's path."""

    episode: str
    split: str
    file: str
    samples: tuple[SampleWork, ...]


@dataclass
class EpisodeResult:
    """The result of comparing an episode.

    problems    (rule, sample, detail)
    words       uint32 [W] by view, for the search for near-duplicates;  clips  uint8 [C, C, 3] by (view, frame)
    computed    state or actions are computed from the raw data, so that they need not be equal
    """

    work: EpisodeWork
    problems: list[tuple[str, str, str]] = field(default_factory=list)
    checked: Counter[str] = field(default_factory=Counter)
    words: dict[str, NDArray[np.uint32]] = field(default_factory=dict)
    clips: dict[tuple[str, int], NDArray[np.uint8]] = field(default_factory=dict)
    computed: bool = False


def check_episode(work: EpisodeWork, facts: Facts, raw: RawSource) -> EpisodeResult:
    """Compare an episode with its raw data. Never raises on account of data."""
    result = EpisodeResult(work)
    result.checked["L6"] += 1
    split = raw.split_of(work.episode)
    if split != work.split:
        found = "does not list it" if split is None else f"marks it {split}"
        result.problems.append(("L6", "", f"episode {work.episode} is in {work.split}; the raw data {found}"))
    try:
        episode = raw.open(work.episode)
        result.computed = not (episode.exact_state and episode.exact_actions)
        _check_numbers(episode, result)
        for view in facts.views:
            _check_view(episode, view, facts, result)
    except RawError as error:
        result.problems.append(("L7", "", f"episode {work.episode} cannot be derived from the raw data: {error}"))
    return result


def _check_numbers(episode: RawEpisode, result: EpisodeResult) -> None:
    for sample in result.work.samples:
        document = sample.document
        if document is not None:
            result.checked["L9"] += 1
            text = episode.instruction(sample.now)
            if document["instruction"] != text:
                detail = f"the instruction is {document['instruction']!r:.80}, the raw data has {text!r:.80}"
                result.problems.append(("L9", sample.key, detail))
            _check_state(episode, sample, document["state"], result)
        _check_actions(episode, sample, result)


def _check_state(episode: RawEpisode, sample: SampleWork, stored: list[float] | None, result: EpisodeResult) -> None:
    result.checked["L8"] += 1
    if stored is None or episode.state is None:
        if (stored is None) != (episode.state is None):
            result.problems.append(("L8", sample.key, "state: only one of build and raw data has it"))
        return
    with np.errstate(over="ignore"):
        values = np.array(stored, np.float64).astype(np.float32)
    if values.shape != episode.state.shape[1:] or not sample.now < len(episode.state):
        result.problems.append(("L8", sample.key, f"state of {values.shape}, the raw data has {episode.state.shape}"))
    elif not _agree(values, episode.state[sample.now], episode.exact_state):
        where = _closest(values, episode.state)
        result.problems.append(("L8", sample.key, f"the state is not that of frame {sample.now}; closest: {where}"))


def _check_actions(episode: RawEpisode, sample: SampleWork, result: EpisodeResult) -> None:
    if sample.actions is None:
        return
    result.checked["L8"] += 1
    if episode.actions is None:
        result.problems.append(("L8", sample.key, "actions: the raw data has none"))
        return
    wanted = episode.actions[sample.now : sample.now + sample.action_count]
    if not _agree(sample.actions[: sample.action_count], wanted, episode.exact_actions):
        where = _closest(sample.actions[0], episode.actions) if sample.actions.shape[1:] == wanted.shape[1:] else "none"
        detail = f"the actions are not those from frame {sample.now} on; the first is closest to {where}"
        result.problems.append(("L8", sample.key, detail))


def _agree(stored: NDArray[np.float32], wanted: NDArray[np.float32], exact: bool) -> bool:
    if exact or stored.shape != wanted.shape:
        return np.array_equal(stored, wanted)
    gap = np.abs(stored.astype(np.float64) - wanted)
    return bool((gap <= VECTOR_TOLERANCE * (1 + np.abs(wanted))).all())


def _closest(values: NDArray[np.float32], rows: NDArray[np.float32]) -> str:
    gap = np.abs(rows.astype(np.float64) - values).max(axis=1)
    at = int(gap.argmin())
    return f"frame {at} (equal)" if gap[at] == 0 else f"frame {at} ({gap[at]:.3g} away)"


def _check_view(episode: RawEpisode, view: str, facts: Facts, result: EpisodeResult) -> None:
    """Decode one view and compare what the samples took from it."""
    samples = result.work.samples
    needed = {frame for sample in samples for support in sample.frames for frame in support}
    at_now: dict[int, list[SampleWork]] = defaultdict(list)
    for sample in samples:
        at_now[sample.now].append(sample)
    sketcher = Sketcher()
    seconds: list[float] = []
    recent: list[NDArray[np.uint8]] = []  # at most three frames
    accepted: list[SampleWork] = []  # images of the frame before this one
    for index, (second, frame) in enumerate(episode.frames(view)):
        recent = [*recent[-2:], frame]
        if not facts.exact:
            for sample in accepted:
                _check_neighbours(sample, view, recent, facts, result)
        accepted = []
        seconds.append(second)
        sketcher.add(frame)
        if index in needed:
            result.clips[view, index] = encoder_frame(frame, facts.encoder)
        for sample in at_now[index]:
            result.checked["L1"] += 1
            reason = image_differs(sample.images.get(view), frame, facts)
            if not reason:
                accepted.append(sample)
                continue
            rule, closest = _whose_image(episode, view, sample.images.get(view), facts)
            detail = f"{view}: the stored image is not frame {index} of the raw video ({reason}); {closest}"
            result.problems.append((rule, sample.key, detail))
    result.words[view] = sketcher.words()
    _check_times(view, np.array(seconds), facts, result)


def _check_neighbours(
    sample: SampleWork, view: str, recent: list[NDArray[np.uint8]], facts: Facts, result: EpisodeResult
) -> None:
    """Where bytes need not be equal, an image may not be closer to the frame before or after than to its own, which is
    the last but one of `recent`."""
    gaps = [image_gap(sample.images[view] or b"", frame, facts) for frame in recent]
    closest = int(np.argmin(gaps))
    if gaps[closest] < _CLEARLY * gaps[-2]:  # frames of a still scene are alike but for noise
        where = sample.now + closest - (len(gaps) - 2)
        other = f"frame {where} than to frame {sample.now} of the raw video"
        levels = f"{gaps[closest]:.2f} and {gaps[-2]:.2f} grey levels"
        result.problems.append(("L1", sample.key, f"{view}: the stored image is closer to {other} ({levels})"))


def _whose_image(episode: RawEpisode, view: str, stored: bytes | None, facts: Facts) -> tuple[str, str]:
    """Search the episode for the frame that was stored: the rule that is broken, and the place as text."""
    best = (255.0, view, -1)
    for other in facts.views if stored is not None else ():
        with contextlib.suppress(RawError):
            for index, (_, frame) in enumerate(episode.frames(other)):
                best = min(best, (image_gap(stored or b"", frame, facts), other, index))
    gap, other, index = best
    if index < 0:
        return "L1", "nothing to compare it with"
    place = f"frame {index}" if other == view else f"frame {index} of view {other}"
    return ("L1" if other == view else "L7"), f"closest is {place}, {gap:.2f} grey levels away"


def _check_times(view: str, seconds: NDArray[np.float64], facts: Facts, result: EpisodeResult) -> None:
    """The length of every view, and the times that the manifest took from the first."""
    for sample in result.work.samples:
        result.checked["L8"] += 1
        if len(seconds) != sample.num_frames:
            detail = f"{view}: num_frames is {sample.num_frames}, the raw video has {len(seconds)}"
            result.problems.append(("L8", sample.key, detail))
            continue
        claims = [(sample.now, sample.now_s), *zip(sample.ends, sample.ends_s, strict=True)]
        for frame, claim in claims if view == facts.views[0] else ():
            if 0 <= frame < len(seconds) and abs(seconds[frame] - claim) > CLOCK_TOLERANCE_S:
                detail = f"frame {frame} has time {claim} s, in the raw video {seconds[frame]:.6f} s"
                result.problems.append(("L8", sample.key, detail))
                break
