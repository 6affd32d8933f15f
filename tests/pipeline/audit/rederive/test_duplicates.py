"""Near-duplicates: copies are found however they were changed, different films never are; on real data throughout."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from pipeline.audit.raw.tfrecord import parse_example, read_records
from pipeline.audit.raw.video import read_video
from pipeline.audit.rederive.duplicates import Films, Match, align
from pipeline.audit.rederive.thumbnails import SIDE, descriptors, perceptual_hashes, thumbnail
from pipeline.sample_world.video import Codec, write_video

FrameReader = list[NDArray[np.uint8]]

CHANGES: dict[str, tuple[Callable[[FrameReader], FrameReader], str]] = {
    "re-encoded": (lambda film: film, "copy"),
    "half size": (lambda film: [_resized(frame, 0.5) for frame in film], "copy"),
    "brightened": (lambda film: [np.clip(frame * 1.15 + 12.0, 0, 255).astype(np.uint8) for frame in film], "copy"),
    "darkened": (lambda film: [(frame * 0.7).astype(np.uint8) for frame in film], "copy"),
    "cut": (lambda film: film[len(film) // 3 : -len(film) // 5], "copy"),
    "every second frame": (lambda film: film[::2], "copy"),
    "time-reversed": (lambda film: film[::-1], "time-reversed"),
    "mirrored": (lambda film: [frame[:, ::-1] for frame in film], "mirrored"),
}


COMMON = 17
"""Frames that all clips have."""


def _resized(frame: NDArray[np.uint8], scale: float) -> NDArray[np.uint8]:
    height, width = frame.shape[:2]
    return np.asarray(Image.fromarray(frame).resize((int(width * scale), int(height * scale))))


def _reencoded(film: FrameReader, path: Path) -> FrameReader:
    """H.264 at CRF 33, even sides."""
    height, width = (side // 2 * 2 for side in film[0].shape[:2])
    even = [np.ascontiguousarray(frame[:height, :width]) for frame in film]
    write_video(path, even, 12, Codec("h264", "libx264", (("preset", "veryfast"), ("crf", "33"))))
    return [frame for _, frame in read_video(path)]


def _thumbnails(film: FrameReader) -> NDArray[np.uint8]:
    return np.stack([thumbnail(np.ascontiguousarray(frame)) for frame in film])


def _matches(val: NDArray[np.uint8], train: list[NDArray[np.uint8]]) -> list[Match]:
    films = Films()
    films.add("held-out", "val", "view", val)
    for number, other in enumerate(train):
        films.add(f"train-{number}", "train", "view", other)
    return list(films.matches())


@pytest.fixture(scope="module")
def clips(shared_data: Path) -> list[FrameReader]:
    """Twenty real clips; several are neighbouring cuts of one shot."""
    paths = sorted((shared_data / "ssv2/20bn-something-something-v2").glob("*.webm"))
    return [[frame for _, frame in read_video(path)] for path in paths]


@pytest.fixture(scope="module")
def films(clips: list[FrameReader]) -> list[NDArray[np.uint8]]:
    return [_thumbnails(film) for film in clips]


@pytest.mark.slow
def test_no_real_clip_is_a_duplicate_of_another(films: list[NDArray[np.uint8]]) -> None:
    for number, film in enumerate(films):
        assert _matches(film, films[:number] + films[number + 1 :]) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", CHANGES)
def test_a_changed_copy_of_a_real_clip_is_found(
    clips: list[FrameReader], films: list[NDArray[np.uint8]], tmp_path: Path, name: str
) -> None:
    change, relation = CHANGES[name]
    for number in (0, 5, 10, 15):
        copy = _thumbnails(_reencoded(change(clips[number]), tmp_path / f"{number}.mp4"))
        (match,) = _matches(copy, films)
        assert (match.other, match.relation) == (f"train-{number}", relation)


@pytest.mark.slow
def test_episodes_before_the_same_camera_are_no_duplicates(shared_data: Path) -> None:
    """Three teleoperated episodes of one task: same room, same robot, same bottle."""
    paths = sorted((shared_data / "lerobot_v21").glob("*/videos/*/*/*.mp4"))
    films = [_thumbnails([frame for _, frame in read_video(path)]) for path in paths]
    assert len(films) == 3
    for number, film in enumerate(films):
        assert _matches(film, films[:number] + films[number + 1 :]) == []
        assert len(_matches(film[20:], films)) == 1


@pytest.mark.slow
def test_the_bridge_sample_repeats_its_training_episodes_in_validation(shared_data: Path) -> None:
    """Its 25 validation episodes are the 25 training episodes in another order. Camera 3 is black."""
    films = Films()
    for split in ("train", "val"):
        (path,) = (shared_data / "rlds/bridge_dataset/1.0.0").glob(f"*-{split}.tfrecord*")
        for number, record in enumerate(map(parse_example, read_records(path))):
            for camera in range(4):
                frames = [
                    np.asarray(Image.open(io.BytesIO(jpeg))) for jpeg in record[f"steps/observation/image_{camera}"]
                ]
                films.add(f"{split}-{number}", split, f"image_{camera}", _thumbnails(frames))
    matches = list(films.matches())
    assert {match.view for match in matches} == {"image_0", "image_1", "image_2"}
    assert len({match.episode for match in matches}) == 25
    assert all(match.relation == "copy" and match.share == 1 for match in matches)


def test_frames_of_a_match_are_numbered_by_the_source(clips: list[FrameReader]) -> None:
    film = _thumbnails(clips[0])
    (match,) = _matches(film[4:], [film])
    assert match.pairs == tuple((i, i + 4) for i in range(len(film) - 4))


def test_blank_films_match_nothing() -> None:
    black = np.zeros((8, SIDE, SIDE), np.uint8)
    assert not descriptors(black).any()
    assert _matches(black, [black.copy()]) == []


def test_films_without_motion_match_by_their_picture(clips: list[FrameReader]) -> None:
    still = [_thumbnails(clips[number][:1] * 8) for number in (0, 5)]
    assert [match.other for match in _matches(still[0], still)] == ["train-0"]


def _matches_of_two_views(clips: list[FrameReader], wrist: FrameReader, flip: bool = False) -> list[str]:
    """Views in which a validation episode is found to be the train episode, whose front camera it repeats."""
    front, own = _thumbnails(clips[1][:COMMON]), _thumbnails(clips[5][:COMMON])
    films = Films()
    for split, seen in (("val", (front, _thumbnails(wrist[:COMMON]))), ("train", (front, own))):
        for view, film in zip(("front", "wrist"), seen, strict=True):
            films.add(f"{split}-0", split, view, film[:, :, ::-1].copy() if flip and split == "val" else film)
    return sorted(match.view for match in films.matches())


@pytest.mark.parametrize("flip", [False, True], ids=["as it is", "mirrored"])
def test_where_a_camera_is_not_certain_the_others_are_asked(
    clips: list[FrameReader], monkeypatch: pytest.MonkeyPatch, flip: bool
) -> None:
    """A robot that does a task once more looks much the same to a camera that stands still, not to its wrist's."""
    monkeypatch.setattr("pipeline.audit.rederive.duplicates.CERTAIN_CORRELATION", 2.0)
    assert _matches_of_two_views(clips, clips[5], flip) == ["front", "wrist"]
    assert _matches_of_two_views(clips, clips[10], flip) == []
    assert _matches_of_two_views(clips, clips[5][:1] * COMMON, flip) == []  # the wrist camera stands still in one alone


def test_a_certain_copy_in_one_camera_is_one_whatever_the_others_show(clips: list[FrameReader]) -> None:
    assert _matches_of_two_views(clips, clips[10]) == ["front"]


def test_other_cameras_that_show_nothing_are_not_asked(
    clips: list[FrameReader], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.audit.rederive.duplicates.CERTAIN_CORRELATION", 2.0)
    front = _thumbnails(clips[1][:COMMON])
    still, another = (_thumbnails(clips[number][:1] * COMMON) for number in (5, 10))
    moving, nearly_black = _thumbnails(clips[5][:COMMON]), _thumbnails(clips[10][:COMMON])
    nearly_black[3:] = 0  # what is seen in three frames says nothing
    for own, theirs in ((still, another), (nearly_black, moving)):
        films = Films()
        for split, wrist in (("val", own), ("train", theirs)):
            films.add(f"{split}-0", split, "front", front)
            films.add(f"{split}-0", split, "wrist", wrist)
        assert [match.view for match in films.matches()] == ["front"]


def test_cameras_of_another_length_are_compared_at_the_same_moments(
    clips: list[FrameReader], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a long film 128 frames are kept: those nearest to the matching moments are compared."""
    monkeypatch.setattr("pipeline.audit.rederive.duplicates.CERTAIN_CORRELATION", 2.0)
    monkeypatch.setattr("pipeline.audit.rederive.duplicates.MAX_FRAMES", 12)
    assert _matches_of_two_views(clips, clips[5]) == ["front", "wrist"]


def test_a_short_piece_of_a_long_film_is_found_on_either_side(clips: list[FrameReader]) -> None:
    long, piece = descriptors(_thumbnails(clips[1])), descriptors(_thumbnails(clips[1][8:18]))
    for found in (align(long, piece), align(piece, long)):
        assert found is not None
        assert found.share == 1
    assert align(long, piece).pairs[0] == (8, 0)  # type: ignore[union-attr]


def test_hash_of_a_frame_ignores_brightness_and_size(clips: list[FrameReader]) -> None:
    frame = clips[0][0]
    changed = np.clip(_resized(frame, 0.5) * 0.8 + 10, 0, 255).astype(np.uint8)
    a, b = (np.unpackbits(perceptual_hashes(thumbnail(f)[None]).view(np.uint8)) for f in (frame, changed))
    assert (a != b).sum() <= 4
    other = np.unpackbits(perceptual_hashes(thumbnail(clips[5][0])[None]).view(np.uint8))
    assert (a != other).sum() > 12
