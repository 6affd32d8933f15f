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

from pipeline.audit.duplicates.numbers import number_marks
from pipeline.audit.duplicates.sketch import Sketcher
from pipeline.audit.lookahead.cameras.thumbnails import SIDE, thumbnail
from pipeline.audit.lookahead.search import EpisodeLookahead, examine
from pipeline.audit.raw.base import RawEpisode, RawError, RawSource
from pipeline.audit.rederive.images import GHOST_DEVIATIONS, Facts, ImageMatch, ghost, image_gap, match_image
from pipeline.audit.rederive.reencode import encoder_frame


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
    words       uint32 [W] by view, for the search for near-duplicates;  thumbnails  uint8 [F, S, S] by view
    clips         uint8 [C, C, 3] by (view, frame)
    images_apart  images whose bytes differ within the bounds of an inexact audit
    numbers     uint64 [M], of its state and actions, for the search for episodes with the same numbers
    lookahead   what the raw episode says about inputs that show the future; None when it cannot be read
    """

    work: EpisodeWork
    problems: list[tuple[str, str, str]] = field(default_factory=list)
    checked: Counter[str] = field(default_factory=Counter)
    words: dict[str, NDArray[np.uint32]] = field(default_factory=dict)
    thumbnails: dict[str, NDArray[np.uint8]] = field(default_factory=dict)
    clips: dict[tuple[str, int], NDArray[np.uint8]] = field(default_factory=dict)
    images_apart: int = 0
    numbers: NDArray[np.uint64] = field(default_factory=lambda: np.zeros(0, np.uint64))
    lookahead: EpisodeLookahead | None = None


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
        result.checked["L7"] += 1
        if not episode.wanted:
            detail = f"episode {work.episode} has samples; settings.source.wanted asks for no such episode"
            result.problems.append(("L7", "", detail))
        result.numbers = number_marks(episode.state, episode.actions, work.split)
        _check_numbers(episode, result)
        _check_idle(episode, facts, result)
        for view in facts.views:
            _check_view(episode, view, facts, result)
        result.lookahead = examine(episode, {**_other_cameras(episode, facts), **result.thumbnails}, facts.views)
    except RawError as error:
        result.problems.append(("L7", "", f"episode {work.episode} cannot be derived from the raw data: {error}"))
    return result


def _other_cameras(episode: RawEpisode, facts: Facts) -> dict[str, NDArray[np.uint8]]:
    """Thumbnails of the cameras that are no inputs, which an input may be ahead of; uint8 [F, S, S] by camera."""
    found: dict[str, NDArray[np.uint8]] = {}
    for camera in sorted(set(episode.frame_readers) - {*facts.views}):
        with contextlib.suppress(RawError):
            small = [thumbnail(frame) for _, frame in episode.frames(camera)]
            found[camera] = np.array(small, np.uint8).reshape(-1, SIDE, SIDE)
    return found


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


def _check_idle(episode: RawEpisode, facts: Facts, result: EpisodeResult) -> None:
    """The windows are those of all that `settings.window` leaves. Without skip_idle level manifest knows them."""
    samples = result.work.samples
    if facts.windows is None or not facts.windows[1].frames or not samples:
        return
    result.checked["L7"] += 1
    rule, idle = facts.windows
    found, computed = [sample.now for sample in samples], episode.state_ties is not None
    if wrong := idle.difference(rule.nows(samples[0].num_frames), found, episode.state, computed):
        detail = f"episode {episode.id}: by settings.window.skip_idle and the states before them, {wrong}"
        result.problems.append(("L7", "", detail))


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
    elif not _agree(values, episode.state, episode.state_ties, slice(sample.now, sample.now + 1)):
        where = _closest(values, episode.state)
        result.problems.append(("L8", sample.key, f"the state is not that of frame {sample.now}; closest: {where}"))


def _check_actions(episode: RawEpisode, sample: SampleWork, result: EpisodeResult) -> None:
    if sample.actions is None:
        return
    result.checked["L8"] += 1
    if episode.actions is None:
        result.problems.append(("L8", sample.key, "actions: the raw data has none"))
        return
    frames, stored = slice(sample.now, sample.now + sample.action_count), sample.actions[: sample.action_count]
    if not _agree(stored, episode.actions, episode.actions_ties, frames):
        same = stored.shape[1:] == episode.actions.shape[1:]
        where = _closest(sample.actions[0], episode.actions) if same else "none"
        detail = f"the actions are not those from frame {sample.now} on; the first is closest to {where}"
        result.problems.append(("L8", sample.key, detail))


def _agree(
    stored: NDArray[np.float32], rows: NDArray[np.float32], ties: NDArray[np.float32] | None, frames: slice
) -> bool:
    """Whether each value is, to the bit, that of the raw data at these frames, or its other neighbour at a tie."""
    wanted, other = rows[frames], (rows if ties is None else ties)[frames]
    found = stored.reshape(-1, stored.shape[-1])
    if found.shape != wanted.shape:
        return False
    bits, *allowed = (np.ascontiguousarray(values).view(np.uint32) for values in (found, wanted, other))
    return bool(((bits == allowed[0]) | (bits == allowed[1])).all())


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
    small: list[NDArray[np.uint8]] = []
    seconds: list[float] = []
    before: NDArray[np.uint8] | None = None
    differing: list[tuple[SampleWork, ImageMatch]] = []  # passed, but with other bytes: no other frame may explain it
    for index, (second, frame) in enumerate(episode.frames(view)):
        seconds.append(second)
        sketcher.add(frame)
        small.append(thumbnail(frame))
        if index in needed:
            result.clips[view, index] = encoder_frame(frame, facts.encoder)
        for sample, match in differing:
            if index in _compared_frames(sample):
                _check_ghost(sample, match, view, index, frame, facts, result)
        for sample in at_now[index]:
            match = _check_image(episode, sample, view, frame, facts, result)
            if match.difference is not None:
                differing.append((sample, match))
                if before is not None:
                    _check_ghost(sample, match, view, index - 1, before, facts, result)
        before = frame
    result.words[view] = sketcher.words()
    result.thumbnails[view] = np.array(small, np.uint8).reshape(-1, SIDE, SIDE)
    _check_times(view, np.array(seconds), facts, result)


def _check_image(
    episode: RawEpisode, sample: SampleWork, view: str, frame: NDArray[np.uint8], facts: Facts, result: EpisodeResult
) -> ImageMatch:
    """Compare a sample's image with the frame at its `now`."""
    result.checked["L1"] += 1
    match = match_image(sample.images.get(view), frame, facts)
    result.images_apart += match.difference is not None
    if match.problem:
        rule, closest = _whose_image(episode, view, sample.images.get(view), facts)
        what = f"{view}: the stored image is not frame {sample.now} of the raw video"
        result.problems.append((rule, sample.key, f"{what} ({match.problem}); {closest}"))
    return match


def _compared_frames(sample: SampleWork) -> set[int]:
    """Later frames of which an image may hold no ghost. Those between are alike to one of them."""
    steps = {sample.now + 2**power for power in range(16) if sample.now + 2**power < sample.num_frames}
    return steps | {end for end in sample.ends if end > sample.now} | {sample.num_frames - 1} - {sample.now}


def _check_ghost(
    sample: SampleWork,
    match: ImageMatch,
    view: str,
    index: int,
    frame: NDArray[np.uint8],
    facts: Facts,
    result: EpisodeResult,
) -> None:
    deviations = ghost(match, frame, facts)
    if deviations > GHOST_DEVIATIONS:
        what = f"{view}: what differs from frame {sample.now} in the stored image follows frame {index}"
        limit = f"{deviations:.1f} standard deviations, {GHOST_DEVIATIONS:g} allowed"
        result.problems.append(("L1", sample.key, f"{what} of the raw video ({limit})"))


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
            if 0 <= frame < len(seconds) and seconds[frame] != claim:
                detail = f"frame {frame} has time {claim} s, in the raw video {seconds[frame]} s"
                result.problems.append(("L8", sample.key, detail))
                break
