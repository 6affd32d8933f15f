"""Pipelines that put the wrong pixels, numbers or words before the student. Files and manifest are in order."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.format.input_sample import InputSample
from pipeline.planning import recipe
from pipeline.samples import inputs
from pipeline.sources.base import HashedSplitSettings
from pipeline.sources.episode.opened import OpenedEpisode
from pipeline.sources.episode.truncated import TruncatedEpisode
from tests.leakage.pipelines.pipeline import LeakyPipeline
from tests.leakage.world import World

Pixels = NDArray[np.uint8]
Repaint = Callable[[TruncatedEpisode, str, Pixels], Pixels]


def _repaint(world: World, paint: Repaint) -> None:
    """Give every view's image other pixels."""
    honest = inputs.build_input

    def leaky(past: TruncatedEpisode, key: str, episode: str, source: str, views: Any, settings: Any) -> InputSample:
        sample = honest(past, key, episode, source, views, settings)
        frames = [paint(past, view, past.frames(view, [past.now])[0]) for view in views]
        return replace(sample, images=tuple(inputs.encode_jpeg(frame, settings) for frame in frames))

    world.patch.setattr(recipe, "build_input", leaky)


def _frame(offset: int) -> Repaint:
    def paint(past: TruncatedEpisode, view: str, frame: Pixels) -> Pixels:
        at = min(max(0, past.now + offset), past._episode.num_frames - 1)
        return past._episode.frames(view, [at])[0]

    return paint


def future_frame_as_input(world: World) -> None:
    _repaint(world, _frame(4))


def off_by_one_in_now(world: World) -> None:
    _repaint(world, _frame(1))


def frame_before_now(world: World) -> None:
    _repaint(world, _frame(-1))


def last_frame_as_input(world: World) -> None:
    _repaint(world, _frame(10_000))


def bgr_inputs(world: World) -> None:
    _repaint(world, lambda past, view, frame: np.ascontiguousarray(frame[..., ::-1]))


def future_in_the_lowest_bits(world: World) -> None:
    """The image looks the same: one bit of each value is that of a later frame."""
    _repaint(world, lambda past, view, frame: (frame & 0xFE) | (_frame(4)(past, view, frame) >> 7))


def future_blended_in(world: World) -> None:
    _repaint(world, lambda past, view, frame: (0.95 * frame + 0.05 * _frame(4)(past, view, frame)).astype(np.uint8))


def views_swapped(world: World) -> None:
    def paint(past: TruncatedEpisode, view: str, frame: Pixels) -> Pixels:
        other = next(v for v in past._episode.frame_readers if v != view)  # type: ignore[attr-defined]
        return past._episode.frames(other, [past.now])[0]

    _repaint(world, paint)


def images_of_the_previous_sample(world: World) -> None:
    held: dict[str, Pixels] = {}

    def paint(past: TruncatedEpisode, view: str, frame: Pixels) -> Pixels:
        before = held.get(view, frame)
        held[view] = frame
        return before

    _repaint(world, paint)


def cropped_instead_of_squashed(world: World) -> None:
    _repaint(world, lambda past, view, frame: np.ascontiguousarray(frame[4:-4, 4:-4]))


def _state(world: World, frame: Callable[[OpenedEpisode, int], int]) -> None:
    honest = OpenedEpisode.state
    world.patch.setattr(OpenedEpisode, "state", lambda self, index: honest(self, frame(self, index)))


def state_of_the_last_frame_with_a_clean_manifest(world: World) -> None:
    _state(world, lambda episode, index: episode.num_frames - 1)


def state_of_the_next_frame(world: World) -> None:
    _state(world, lambda episode, index: index + 1)


def actions_in_the_state(world: World) -> None:
    honest = OpenedEpisode.state

    def leaky(self: OpenedEpisode, index: int) -> NDArray[np.float32]:
        state, actions = honest(self, index), self.actions(index, index + 1)
        assert state is not None
        assert actions is not None
        state[: actions.shape[1]] = actions[0]
        return state

    world.patch.setattr(OpenedEpisode, "state", leaky)


def actions_one_frame_late(world: World) -> None:
    honest = OpenedEpisode.actions

    def leaky(self: OpenedEpisode, start: int, stop: int) -> NDArray[np.float32] | None:
        return honest(self, start + 1, stop + 1)

    world.patch.setattr(OpenedEpisode, "actions", leaky)


def _relabel(world: World, change: Callable[[str], str]) -> None:
    """The build is made from label files that say something else than the auditor's."""
    world.made_from = world.copy_raw()
    path = world.made_from / "labels/train.json"
    rows = json.loads(path.read_text())
    path.write_text(json.dumps([{**row, "label": change(row["label"])} for row in rows]))


def outcome_words_in_the_instruction(world: World) -> None:
    _relabel(world, lambda text: f"{text}, and it falls off the table")


def filler_labels(world: World) -> None:
    _relabel(world, lambda text: "do the task")


def test_split_labels(world: World) -> None:
    """A test clip, labelled by another file, is trained on."""
    world.made_from = world.copy_raw()
    train, test = (world.made_from / f"labels/{name}.json" for name in ("train", "test"))
    (clip,) = json.loads(test.read_text())
    rows = json.loads(train.read_text())
    train.write_text(json.dumps([*rows, {**rows[0], "id": clip["id"]}]))
    test.write_text("[]")


def validation_episodes_hashed_into_train(world: World) -> None:
    """The settings promise a share for validation; the code gives it to training."""
    world.patch.setattr(HashedSplitSettings, "split_of", lambda self, episode: "train")


def unlisted_clip(world: World) -> None:
    world.made_from = world.copy_raw()
    videos: Path = world.made_from / "20bn-something-something-v2"
    labels = world.made_from / "labels/train.json"
    rows = json.loads(labels.read_text())
    (videos / "777777.webm").write_bytes((videos / f"{rows[0]['id']}.webm").read_bytes())
    labels.write_text(json.dumps([*rows, {**rows[0], "id": "777777"}]))


PIPELINES = (
    LeakyPipeline(future_frame_as_input, "video", "L1", "source", "closest is frame"),
    LeakyPipeline(future_frame_as_input, "robot", "L1", "source", "closest is frame"),
    LeakyPipeline(off_by_one_in_now, "video", "L1", "source", "closest is frame"),
    LeakyPipeline(frame_before_now, "video", "L1", "source", "closest is frame"),
    LeakyPipeline(last_frame_as_input, "video", "L1", "source", "closest is frame"),
    LeakyPipeline(bgr_inputs, "video", "L1", "source", "its bytes differ"),
    LeakyPipeline(future_in_the_lowest_bits, "video", "L1", "source", "its bytes differ"),
    LeakyPipeline(future_blended_in, "video", "L1", "source", "its bytes differ"),
    LeakyPipeline(views_swapped, "robot", "L7", "source", "of view"),
    LeakyPipeline(images_of_the_previous_sample, "video", "L1", "source", "is not frame"),
    LeakyPipeline(cropped_instead_of_squashed, "video", "L1", "source", "its bytes differ"),
    LeakyPipeline(state_of_the_last_frame_with_a_clean_manifest, "robot", "L8", "source", "the state is not that of"),
    LeakyPipeline(state_of_the_next_frame, "robot", "L8", "source", "the state is not that of"),
    LeakyPipeline(actions_in_the_state, "robot", "L8", "source", "the state is not that of"),
    LeakyPipeline(actions_one_frame_late, "robot", "L8", "source", "the actions are not those from"),
    LeakyPipeline(outcome_words_in_the_instruction, "video", "L9", "source", "falls off the table"),
    LeakyPipeline(filler_labels, "video", "L9", "source", "'do the task'"),
    LeakyPipeline(test_split_labels, "video", "L6", "source", "the raw data marks it test"),
    LeakyPipeline(validation_episodes_hashed_into_train, "robot", "L6", "source", "the raw data marks it val"),
    LeakyPipeline(unlisted_clip, "video", "L6", "source", "the raw data does not list it"),
)
