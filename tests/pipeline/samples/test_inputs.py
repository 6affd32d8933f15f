"""The inputs job sees a truncated episode and writes exactly what the format says (rules L1, L9, L10)."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pipeline.errors import EpisodeError
from pipeline.format.build_settings import InputSettings
from pipeline.format.schema import INPUT_JSON_KEYS
from pipeline.samples.inputs import build_input, state_to_json
from pipeline.sources.episode.truncated import TruncatedEpisode
from tests.pipeline.fake_episode import FakeEpisode

SETTINGS = InputSettings(image_size=32)


def test_a_truncated_episode_refuses_the_future() -> None:
    past = TruncatedEpisode(FakeEpisode(10), 4)
    assert past.frames("front", [0, 4]).shape[0] == 2
    with pytest.raises(ValueError, match=r"truncated at frame 4; frames \[5\]"):
        past.frames("front", [4, 5])
    with pytest.raises(ValueError, match=r"now=10 is outside 0\.\.9"):
        TruncatedEpisode(FakeEpisode(10), 10)


@pytest.mark.parametrize("now", [0, 3, 9])
def test_inputs_do_not_change_when_the_future_does(now: int) -> None:
    def make(episode: FakeEpisode) -> bytes:
        sample = build_input(TruncatedEpisode(episode, now), "k", "e", "s", ("front", "wrist"), SETTINGS)
        return b"".join((*sample.images, sample.json))

    clean = make(FakeEpisode(10))
    assert make(FakeEpisode(10, noise_from=now + 1)) == clean
    assert make(FakeEpisode(10, noise_from=now)) != clean


def test_the_json_is_canonical() -> None:
    sample = build_input(TruncatedEpisode(FakeEpisode(10), 3), "e-000003", "e", "src", ("front", "wrist"), SETTINGS)
    content = json.loads(sample.json)
    assert tuple(content) == INPUT_JSON_KEYS
    assert content["state"] == [3.0, np.float32(0.1)]
    assert content["instruction"] == "räume den Würfel weg"
    assert sample.json == json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def test_the_jpeg_holds_pixels_alone() -> None:
    sample = build_input(TruncatedEpisode(FakeEpisode(10), 3), "k", "e", "s", ("front",), SETTINGS)
    image = Image.open(io.BytesIO(sample.images[0]))
    assert image.size == (32, 32)
    assert image.mode == "RGB"
    assert not image.getexif()
    assert "comment" not in image.info
    assert sample.images[0].endswith(b"\xff\xd9")
    colour = np.asarray(image).reshape(-1, 3).mean(axis=0)
    assert np.abs(colour - FakeEpisode.colour("front", 3)).max() < 3


def test_an_episode_without_text_is_left_out() -> None:
    with pytest.raises(EpisodeError, match="no-instruction"):
        build_input(TruncatedEpisode(FakeEpisode(10, text="  "), 3), "k", "e", "s", ("front",), SETTINGS)


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1))
def test_state_reads_back_to_the_same_float32(values: list[float]) -> None:
    state = np.array(values, np.float32)
    text = json.dumps(state_to_json(state))
    assert np.array_equal(np.array(json.loads(text), np.float32), state)
