"""Near-duplicates: copies are found however they were changed, different films never are."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from pipeline.audit.duplicates.films import FilmReader
from pipeline.audit.duplicates.search import DuplicateSearch
from pipeline.audit.raw.decoding.tfrecord import parse_example, read_record
from pipeline.audit.raw.decoding.video import read_video
from tests.pipeline.audit.duplicates.changes import CHANGES, Frames, reencoded
from tests.pipeline.audit.duplicates.films import demonstrations, matches, real_clips

RELATIONS = {
    "negative": "negative",
    "mirrored": "mirrored",
    "upside down": "mirrored",
    "reversed in time": "time-reversed",
}
QUICK = ("turned by 90 degrees", "upside down", "cropped to 80 %", "every second frame")


@pytest.fixture(scope="module")
def clips(shared_data: Path) -> list[Frames]:
    return real_clips(shared_data)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in QUICK else [pytest.mark.slow]) for name in CHANGES]
)
def test_a_changed_copy_is_found(clips: list[Frames], tmp_path: Path, name: str) -> None:
    copy = reencoded(CHANGES[name](clips[5]), tmp_path / "copy.mp4", crf=33 if name == "compressed" else 23)
    (match,) = matches({"copy": copy}, {f"train-{number}": clips[number] for number in (4, 5, 6)})
    assert (match.other, match.relation) == ("train-5", RELATIONS.get(name, "copy"))


@pytest.mark.slow
def test_no_real_clip_is_a_duplicate_of_another(clips: list[Frames]) -> None:
    names = {f"{number}": clip for number, clip in enumerate(clips)}
    even = {name: clip for name, clip in names.items() if int(name) % 2 == 0}
    assert matches(even, {name: clip for name, clip in names.items() if name not in even}) == []


def test_neighbouring_cuts_of_one_shot_are_no_duplicates(clips: list[Frames]) -> None:
    assert matches({"a": clips[5]}, {"b": clips[6]}) == []


@pytest.mark.slow
def test_episodes_before_the_same_camera_are_no_duplicates(shared_data: Path) -> None:
    """Three teleoperated episodes of one task: same room, same robot, same bottle."""
    paths = sorted((shared_data / "lerobot_v21").glob("*/videos/*/*/*.mp4"))
    films = {path.stem: [frame for _, frame in read_video(path)] for path in paths}
    assert len(films) == 3
    for name, film in films.items():
        assert matches({name: film}, {other: films[other] for other in films if other != name}) == []
    assert len(matches({"cut": film[20:]}, films)) == 1


@pytest.mark.parametrize("camera", ["front", "wrist"])
def test_demonstrations_of_one_task_are_no_duplicates(camera: str) -> None:
    first, second, third = (episode[camera] for episode in demonstrations(3, size=64))
    assert matches({"a": first}, {"b": second, "c": third}) == []


@pytest.mark.slow
def test_the_bridge_sample_repeats_its_training_episodes_in_validation(shared_data: Path) -> None:
    """Its 25 validation episodes are the 25 training episodes in another order. Camera 3 is black."""
    films: dict[tuple[str, str], Frames] = {}
    for split in ("train", "val"):
        (path,) = (shared_data / "rlds/bridge_dataset/1.0.0").glob(f"*-{split}.tfrecord*")
        for number in range(25):
            record = parse_example(read_record(path, number))
            for camera in range(4):
                jpegs = record[f"steps/observation/image_{camera}"]
                films[f"{split}-{number}", f"image_{camera}"] = [np.asarray(Image.open(io.BytesIO(j))) for j in jpegs]
    search = DuplicateSearch()
    for (episode, view), frames in films.items():
        search.add(episode, episode.partition("-")[0], view, frames)
    found = list(search.matches(lambda episode, view: films[episode, view]))
    assert {match.view for match in found} == {"image_0", "image_1", "image_2"}
    assert len({match.episode for match in found}) == 25
    assert all(match.relation == "copy" and match.share == 1 and match.view == match.other_view for match in found)


def test_frames_of_a_match_are_numbered_by_the_source(clips: list[Frames]) -> None:
    (match,) = matches({"cut": clips[5][4:]}, {"whole": clips[5]})
    assert match.pairs
    assert all(other == own + 4 for own, other in match.pairs)
    assert match.share == 1


def test_a_copy_is_found_in_another_camera_of_any_held_out_split(clips: list[Frames]) -> None:
    films = {("test-0", "wrist"): clips[5], ("train-0", "front"): clips[5], ("train-0", "wrist"): clips[0]}
    search = DuplicateSearch()
    for (episode, view), frames in films.items():
        search.add(episode, episode.partition("-")[0], view, frames)
    (match,) = search.matches(lambda episode, view: films[episode, view])
    assert (match.split, match.view, match.other, match.other_view) == ("test", "wrist", "train-0", "front")


def test_films_that_show_nothing_or_stand_still_match_nothing(clips: list[Frames]) -> None:
    black = [np.zeros((64, 64, 3), np.uint8)] * 8
    assert matches({"a": black, "b": []}, {"c": black, "d": []}) == []
    assert matches({"a": clips[5][:1] * 8}, {"b": clips[5][:1] * 8}) == []


def test_a_film_that_cannot_be_read_again_matches_nothing(clips: list[Frames]) -> None:
    def nothing(episode: str, view: str) -> Iterator[NDArray[np.uint8]]:
        yield from ()

    search = DuplicateSearch()
    for split in ("val", "train"):
        search.add(split, split, "view", clips[5])
    assert list(search.matches(nothing)) == []


def test_a_long_film_is_kept_thinned_and_numbered() -> None:
    reader = FilmReader(8)
    for shade in range(30):
        reader.add(np.full((32, 32, 3), shade, np.uint8))
    film = reader.film()
    assert film.numbers.tolist() == [0, 4, 8, 12, 16, 20, 24, 28]
    assert film.pictures[:, 0, 0].tolist() == film.numbers.tolist()


def test_bars_around_a_picture_are_trimmed(clips: list[Frames]) -> None:
    own, framed = FilmReader(4), FilmReader(4)
    for frame in clips[5][:4]:
        own.add(frame)
        framed.add(np.pad(frame, ((40, 40), (0, 0), (0, 0))))
    gap = own.film().pictures.astype(int) - framed.film().pictures[:, : own.film().pictures.shape[1]]
    assert np.abs(gap).mean() < 4
