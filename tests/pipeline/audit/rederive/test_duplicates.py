"""Near-duplicates: copies are found however they were changed, different videos never are; on real data throughout."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from pipeline.audit.raw.decoding.tfrecord import parse_example, read_record
from pipeline.audit.raw.decoding.video import read_video
from pipeline.audit.rederive.duplicates import DuplicateSearch, Match, align
from pipeline.audit.rederive.thumbnails import SIDE, descriptors, perceptual_hashes, thumbnail
from pipeline.sample_world.video import Codec, write_video

Frames = list[NDArray[np.uint8]]

CHANGES: dict[str, tuple[Callable[[Frames], Frames], str]] = {
    "re-encoded": (lambda video: video, "copy"),
    "half size": (lambda video: [_resized(frame, 0.5) for frame in video], "copy"),
    "brightened": (lambda video: [np.clip(frame * 1.15 + 12.0, 0, 255).astype(np.uint8) for frame in video], "copy"),
    "darkened": (lambda video: [(frame * 0.7).astype(np.uint8) for frame in video], "copy"),
    "cut": (lambda video: video[len(video) // 3 : -len(video) // 5], "copy"),
    "every second frame": (lambda video: video[::2], "copy"),
    "time-reversed": (lambda video: video[::-1], "time-reversed"),
    "mirrored": (lambda video: [frame[:, ::-1] for frame in video], "mirrored"),
}


COMMON = 17
"""Frames that all clips have."""


def _resized(frame: NDArray[np.uint8], scale: float) -> NDArray[np.uint8]:
    height, width = frame.shape[:2]
    return np.asarray(Image.fromarray(frame).resize((int(width * scale), int(height * scale))))


def _reencoded(video: Frames, path: Path) -> Frames:
    """H.264 at CRF 33, even sides."""
    height, width = (side // 2 * 2 for side in video[0].shape[:2])
    even = [np.ascontiguousarray(frame[:height, :width]) for frame in video]
    write_video(path, even, 12, Codec("h264", "libx264", (("preset", "veryfast"), ("crf", "33"))))
    return [frame for _, frame in read_video(path)]


def _thumbnails(video: Frames) -> NDArray[np.uint8]:
    return np.stack([thumbnail(np.ascontiguousarray(frame)) for frame in video])


def _matches(val: NDArray[np.uint8], train: list[NDArray[np.uint8]]) -> list[Match]:
    search = DuplicateSearch()
    search.add("held-out", "val", "view", val)
    for number, other in enumerate(train):
        search.add(f"train-{number}", "train", "view", other)
    return list(search.matches())


@pytest.fixture(scope="module")
def clips(shared_data: Path) -> list[Frames]:
    """Twenty real clips; several are neighbouring cuts of one shot."""
    paths = sorted((shared_data / "ssv2/20bn-something-something-v2").glob("*.webm"))
    return [[frame for _, frame in read_video(path)] for path in paths]


@pytest.fixture(scope="module")
def videos(clips: list[Frames]) -> list[NDArray[np.uint8]]:
    return [_thumbnails(video) for video in clips]


@pytest.mark.slow
def test_no_real_clip_is_a_duplicate_of_another(videos: list[NDArray[np.uint8]]) -> None:
    for number, video in enumerate(videos):
        assert _matches(video, videos[:number] + videos[number + 1 :]) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", CHANGES)
def test_a_changed_copy_of_a_real_clip_is_found(
    clips: list[Frames], videos: list[NDArray[np.uint8]], tmp_path: Path, name: str
) -> None:
    change, relation = CHANGES[name]
    for number in (0, 5, 10, 15):
        copy = _thumbnails(_reencoded(change(clips[number]), tmp_path / f"{number}.mp4"))
        (match,) = _matches(copy, videos)
        assert (match.other, match.relation) == (f"train-{number}", relation)


@pytest.mark.slow
def test_episodes_before_the_same_camera_are_no_duplicates(shared_data: Path) -> None:
    """Three teleoperated episodes of one task: same room, same robot, same bottle."""
    paths = sorted((shared_data / "lerobot_v21").glob("*/videos/*/*/*.mp4"))
    videos = [_thumbnails([frame for _, frame in read_video(path)]) for path in paths]
    assert len(videos) == 3
    for number, video in enumerate(videos):
        assert _matches(video, videos[:number] + videos[number + 1 :]) == []
        assert len(_matches(video[20:], videos)) == 1


@pytest.mark.slow
def test_the_bridge_sample_repeats_its_training_episodes_in_validation(shared_data: Path) -> None:
    """Its 25 validation episodes are the 25 training episodes in another order. Camera 3 is black."""
    search = DuplicateSearch()
    for split in ("train", "val"):
        (path,) = (shared_data / "rlds/bridge_dataset/1.0.0").glob(f"*-{split}.tfrecord*")
        for number in range(25):
            record = parse_example(read_record(path, number))
            for camera in range(4):
                frames = [
                    np.asarray(Image.open(io.BytesIO(jpeg))) for jpeg in record[f"steps/observation/image_{camera}"]
                ]
                search.add(f"{split}-{number}", split, f"image_{camera}", _thumbnails(frames))
    matches = list(search.matches())
    assert {match.view for match in matches} == {"image_0", "image_1", "image_2"}
    assert len({match.episode for match in matches}) == 25
    assert all(match.relation == "copy" and match.share == 1 for match in matches)


def test_frames_of_a_match_are_numbered_by_the_source(clips: list[Frames]) -> None:
    video = _thumbnails(clips[0])
    (match,) = _matches(video[4:], [video])
    assert match.pairs == tuple((i, i + 4) for i in range(len(video) - 4))


def test_blank_videos_match_nothing() -> None:
    black = np.zeros((8, SIDE, SIDE), np.uint8)
    assert not descriptors(black).any()
    assert _matches(black, [black.copy()]) == []


def test_videos_without_motion_match_by_their_image(clips: list[Frames]) -> None:
    still = [_thumbnails(clips[number][:1] * 8) for number in (0, 5)]
    assert [match.other for match in _matches(still[0], still)] == ["train-0"]


def _matches_of_two_views(clips: list[Frames], wrist: Frames, flip: bool = False) -> list[str]:
    """Views in which a validation episode is found to be the train episode, whose front camera it repeats."""
    front, own = _thumbnails(clips[1][:COMMON]), _thumbnails(clips[5][:COMMON])
    search = DuplicateSearch()
    for split, seen in (("val", (front, _thumbnails(wrist[:COMMON]))), ("train", (front, own))):
        for view, video in zip(("front", "wrist"), seen, strict=True):
            search.add(f"{split}-0", split, view, video[:, :, ::-1].copy() if flip and split == "val" else video)
    return sorted(match.view for match in search.matches())


@pytest.mark.parametrize("flip", [False, True], ids=["as it is", "mirrored"])
def test_where_a_camera_is_not_certain_the_others_are_asked(
    clips: list[Frames], monkeypatch: pytest.MonkeyPatch, flip: bool
) -> None:
    """A repeated task looks similar to a static camera, but not to the wrist camera."""
    monkeypatch.setattr("pipeline.audit.rederive.duplicates.CERTAIN_CORRELATION", 2.0)
    assert _matches_of_two_views(clips, clips[5], flip) == ["front", "wrist"]
    assert _matches_of_two_views(clips, clips[10], flip) == []
    assert _matches_of_two_views(clips, clips[5][:1] * COMMON, flip) == []  # static in only one


def test_a_certain_copy_in_one_camera_is_one_whatever_the_others_show(clips: list[Frames]) -> None:
    assert _matches_of_two_views(clips, clips[10]) == ["front"]


def test_other_cameras_that_show_nothing_are_not_asked(clips: list[Frames], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.audit.rederive.duplicates.CERTAIN_CORRELATION", 2.0)
    front = _thumbnails(clips[1][:COMMON])
    still, another = (_thumbnails(clips[number][:1] * COMMON) for number in (5, 10))
    moving, nearly_black = _thumbnails(clips[5][:COMMON]), _thumbnails(clips[10][:COMMON])
    nearly_black[3:] = 0  # three visible frames prove nothing
    for own, theirs in ((still, another), (nearly_black, moving)):
        search = DuplicateSearch()
        for split, wrist in (("val", own), ("train", theirs)):
            search.add(f"{split}-0", split, "front", front)
            search.add(f"{split}-0", split, "wrist", wrist)
        assert [match.view for match in search.matches()] == ["front"]


def test_cameras_of_another_length_are_compared_at_the_same_moments(
    clips: list[Frames], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only 128 frames of a long video are kept: those nearest to the matching moments are compared."""
    monkeypatch.setattr("pipeline.audit.rederive.duplicates.CERTAIN_CORRELATION", 2.0)
    monkeypatch.setattr("pipeline.audit.rederive.duplicates.MAX_FRAMES", 12)
    assert _matches_of_two_views(clips, clips[5]) == ["front", "wrist"]


def test_a_short_piece_of_a_long_video_is_found_on_either_side(clips: list[Frames]) -> None:
    long, piece = descriptors(_thumbnails(clips[1])), descriptors(_thumbnails(clips[1][8:18]))
    for found in (align(long, piece), align(piece, long)):
        assert found is not None
        assert found.share == 1
    assert align(long, piece).pairs[0] == (8, 0)  # type: ignore[union-attr]


def test_hash_of_a_frame_ignores_brightness_and_size(clips: list[Frames]) -> None:
    frame = clips[0][0]
    changed = np.clip(_resized(frame, 0.5) * 0.8 + 10, 0, 255).astype(np.uint8)
    a, b = (np.unpackbits(perceptual_hashes(thumbnail(f)[None]).view(np.uint8)) for f in (frame, changed))
    assert (a != b).sum() <= 4
    other = np.unpackbits(perceptual_hashes(thumbnail(clips[5][0])[None]).view(np.uint8))
    assert (a != other).sum() > 12
