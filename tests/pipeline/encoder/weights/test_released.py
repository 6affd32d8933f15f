"""The released encoders: names, shapes and sizes of Meta's files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from jobs.preprocess.settings import BuildConfig
from pipeline.encoder.encoder import Encoder
from pipeline.encoder.weights.loading import build_on_meta, released_config
from pipeline.encoder.weights.names import meta_shapes
from pipeline.encoder.weights.released import RELEASED, release_of
from pipeline.format.enums import FloatDtype, Release
from tests.jobs.composed import compose_settings
from tests.pipeline.encoder.test_encoder import TINY


def recorded(reference_dir: Path) -> dict[str, Any]:
    files: dict[str, Any] = json.loads((reference_dir / "vjepa2_state_dicts.json").read_text())["files"]
    return files


def test_every_released_file_is_a_choice(reference_dir: Path) -> None:
    assert {known.file for known in RELEASED.values()} == {f"{name}.pt" for name in recorded(reference_dir)}
    assert set(RELEASED) == set(Release) - {Release.ANY}


@pytest.mark.parametrize("release", RELEASED)
def test_names_and_shapes_are_those_of_the_file(reference_dir: Path, release: Release) -> None:
    known = RELEASED[release]
    file = recorded(reference_dir)[known.file.removesuffix(".pt")]
    expected = {}
    for name, shape in file["tensors"].items():
        blocks = range(file["depth"]) if name.startswith("blocks.0.") else range(1)
        expected |= {name.replace("blocks.0.", f"blocks.{i}."): tuple(shape) for i in blocks}
    assert meta_shapes(build_on_meta(released_config(release))) == expected
    assert (known.heads, known.layers, known.width) == (file["heads"], file["depth"], file["width"])


@pytest.mark.parametrize("release", RELEASED)
def test_a_choice_of_the_command_line_is_its_release(release: Release) -> None:
    words = ("out=/o", "source=lerobot", "source.root=/s", f"encoder={release}")
    found = compose_settings("plan", BuildConfig, words).encoder
    assert (found.release, found.dtype) == (release, FloatDtype.BFLOAT16)
    assert ("vjepa2_1" in release) == (found.name_or_path == "")


@pytest.mark.parametrize("release", RELEASED)
def test_a_build_tells_which_release_made_it(release: Release) -> None:
    known = RELEASED[release]
    claim = {"class": known.model, "crop_size": known.crop_size, "width": known.width, "layers": known.layers}
    assert release_of(claim) == release
    assert release_of(claim | {"layers": 3}) == Release.ANY
    assert release_of(Encoder(TINY, "cpu").identity()) == Release.ANY
