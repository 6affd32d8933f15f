"""Pixels drawn from latents, and the figure of two futures of one picture."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass

import numpy as np
import pytest
from PIL import Image

from jobs.report.pixel_decoder import fit_pixels
from jobs.report.two_futures import Present, draw_two_futures, find_twins
from pipeline.format.build import Build
from pipeline.format.schema import Batch, Observation, Targets
from pipeline.streaming.stream import NumpyBatch

TOKENS, WIDTH, SIDE = 4, 24, 16


@dataclass(frozen=True)
class _World:
    """Pictures whose patches are a linear function of their latents."""

    map: np.ndarray
    rng: np.random.Generator

    @classmethod
    def make(cls) -> _World:
        rng = np.random.default_rng(0)
        return cls(rng.normal(0, 12, (WIDTH, 8 * 8 * 3)), rng)

    def latents(self, count: int) -> np.ndarray:
        return self.rng.normal(0, 1, (count, TOKENS, WIDTH)).astype(np.float32)

    def pictures(self, latents: np.ndarray) -> np.ndarray:
        patches = (latents @ self.map + 128).reshape(len(latents), 2, 2, 8, 8, 3)
        return patches.swapaxes(2, 3).reshape(len(latents), SIDE, SIDE, 3).round().clip(0, 255).astype(np.uint8)


def test_pixels_that_follow_from_latents_are_drawn_in_new_samples() -> None:
    world = _World.make()
    latents = world.latents(80)
    decoder = fit_pixels(latents, world.pictures(latents))
    assert decoder.explained > 0.9
    fresh = world.latents(3)
    for each, picture in zip(fresh, world.pictures(fresh), strict=True):
        assert np.abs(decoder.draw(each).astype(int) - picture).mean() < 12
        assert np.abs(decoder.draw(each[::-1]).astype(int) - picture).mean() > 40  # the places of tokens count


def test_pixels_that_latents_do_not_tell_are_the_mean() -> None:
    world = _World.make()
    pictures = world.pictures(world.latents(80))
    decoder = fit_pixels(world.latents(80), pictures)
    assert decoder.explained < 0.05
    drawn = np.stack([decoder.draw(each) for each in world.latents(20)]).astype(int)
    assert np.abs(drawn - 128).mean() < 20


@pytest.mark.parametrize(
    ("latents", "reason"),
    [
        (np.zeros((3, 4, 5), np.float32), "4 samples"),
        (np.zeros((8, 3, 5), np.float32), "square"),
        (np.full((8, 4, 5), np.nan, np.float32), "finite"),
    ],
)
def test_what_cannot_be_fitted_is_refused(latents: np.ndarray, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        fit_pixels(latents, np.zeros((len(latents), SIDE, SIDE, 3), np.uint8))


def test_a_figure_shows_both_futures_of_the_twins_that_differ_most(robot_build: Build) -> None:
    world = _World.make()
    contexts = world.latents(40)
    build_views = len(robot_build.views)
    pictures = world.pictures(contexts)
    true = world.latents(4 * 3).reshape(4, 3, TOKENS, WIDTH)
    true[1] = true[0] + 0.01  # the futures of the first twins hardly differ
    first = np.array([pictures[0], pictures[0], pictures[1], pictures[1]])
    batch = _batch(first, ["left", "up", "left", "right"], true, build_views)
    by_view = np.repeat(true[:, :, None], build_views, axis=2)
    at = find_twins(batch, by_view)
    assert at == 2
    present = Present(
        np.repeat(contexts[:, None], build_views, axis=1), np.repeat(pictures[:, None], build_views, axis=1)
    )
    assert len(present.without(batch.observation.images[2]).images) == 39
    figures = draw_two_futures(robot_build.name, robot_build.views, batch, at, by_view, by_view * 0, present)
    assert [figure.view for figure in figures] == list(robot_build.views)
    futures = figures[0].futures
    assert [(future.instruction, future.what) for future in futures] == [
        (words, what) for words in ("left", "right") for what in ("true", "told by the model")
    ]
    for future, place in ((futures[0], 2), (futures[2], 3)):
        shown = _pixels(future.steps[0])[::2, ::2].astype(int)
        assert np.abs(shown - world.pictures(true[place])[0]).mean() < 14
        assert future.steps[2] is None  # masked
    assert futures[1].steps == futures[3].steps  # the same latents were told
    few = Present(present.context[:4], present.images[:4])  # one of them is the twins' picture
    assert draw_two_futures(robot_build.name, robot_build.views, batch, at, by_view, by_view * 0, few) == []


def test_other_neighbours_are_no_twins() -> None:
    world = _World.make()
    pictures, true = world.pictures(world.latents(2)), world.latents(6).reshape(2, 3, TOKENS, WIDTH)
    assert find_twins(_batch(pictures, ["left", "up"], true, 1), true[:, :, None]) is None
    assert find_twins(_batch(pictures[[0, 0]], ["left", "left"], true, 1), true[:, :, None]) is None


def _batch(pictures: np.ndarray, instructions: list[str], true: np.ndarray, views: int) -> NumpyBatch:
    mask = np.ones((len(pictures), 3), bool)
    mask[:, 2] = False
    images = np.repeat(pictures[:, None], views, axis=1)
    targets = Targets(context=true[:, :1], latents=true[:, :, None], latent_mask=mask, actions=None, action_mask=None)
    return Batch(tuple("abcd"[: len(pictures)]), Observation(images, tuple(instructions), None), targets)


def _pixels(uri: str | None) -> np.ndarray:
    assert uri is not None
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1]))))
