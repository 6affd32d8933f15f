"""Frames as ffmpeg shows them: mirrored and turned; unusual sizes and codecs; depth is no picture."""

from __future__ import annotations

import struct
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.audit.raw.decoding.video import read_video
from pipeline.errors import EpisodeError
from pipeline.sources.video.decode import Video
from tests.pipeline.spelled import write_frames

ONE = 1 << 16
SHOWN = {
    (1, 0, 0, 1): None,
    (-1, 0, 0, 1): "hflip",
    (1, 0, 0, -1): "vflip",
    (-1, 0, 0, -1): "hflip,vflip",
    (0, 1, -1, 0): "transpose=clock",
    (0, -1, 1, 0): "transpose=cclock",
    (0, 1, 1, 0): "transpose=cclock_flip",
    (0, -1, -1, 0): "transpose=clock_flip",
}
"""Signs a, b, c, d of a display matrix -> the filters that ffmpeg inserts for it (`fftools/ffmpeg_filter.c`)."""


def picture(height: int = 64, width: int = 96) -> NDArray[np.uint8]:
    """A frame that no turn and no mirror leaves as it is."""
    frame = np.full((height, width, 3), 40, np.uint8)
    frame[: height // 2, : width // 2] = 230
    frame[: height // 4, width // 2 :] = 140
    return frame


def set_matrix(path: Path, a: float, b: float, c: float, d: float) -> None:
    data = bytearray(path.read_bytes())
    matrix = data.index(b"tkhd") + 44
    assert struct.unpack_from(">9i", data, matrix) == (ONE, 0, 0, 0, ONE, 0, 0, 0, 1 << 30)
    values = [round(value * ONE) for value in (a, b, 0, c, d, 0, 0, 0)]
    struct.pack_into(">9i", data, matrix, *values, 1 << 30)
    path.write_bytes(data)


def filtered(path: Path, filters: str | None) -> NDArray[np.uint8]:
    """The first frame through filters of FFmpeg."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        frame = next(container.decode(stream))
        graph = av.filter.Graph()
        nodes = [graph.add_buffer(template=stream)]
        for text in filters.split(",") if filters else ():
            nodes.append(graph.add(*text.split("=")))
        nodes.append(graph.add("buffersink"))
        for before, after in pairwise(nodes):
            before.link_to(after)
        graph.configure()
        graph.push(frame)
        shown: NDArray[np.uint8] = graph.pull().to_ndarray(format="rgb24")
    return shown


def both(path: Path) -> NDArray[np.uint8]:
    """Frame 4 as the pipeline reads it, which must be as the audit reads it."""
    with Video(path) as video:
        frames = video.frames(range(video.num_frames))
        assert (video.height, video.width) == frames.shape[1:3]
    again = np.stack([frame for _, frame in read_video(path)])
    np.testing.assert_array_equal(frames, again)
    return frames[4]


@pytest.mark.parametrize("name", ["vp9.mp4", "h264_b_frames.mp4"])
@pytest.mark.parametrize("signs", SHOWN)
def test_a_frame_is_turned_and_mirrored_as_ffmpeg_shows_it(
    tmp_path: Path, name: str, signs: tuple[int, int, int, int]
) -> None:
    path = write_frames(tmp_path / name, name.replace("vp9.mp4", "vp9.webm"), [picture()] * 8)
    set_matrix(path, *signs)
    shown = filtered(path, SHOWN[signs])
    found = both(path)
    assert found.shape == shown.shape
    assert np.abs(found.astype(int) - shown).max() <= 12  # a filter converts colours at another place


def test_a_frame_turned_by_another_angle_is_refused(tmp_path: Path) -> None:
    path = write_frames(tmp_path / "h264.mp4", "h264.mp4", [picture()] * 8)
    set_matrix(path, 0.7071, 0.7071, -0.7071, 0.7071)
    with pytest.raises(EpisodeError, match="no quarter turn"):
        Video(path)
    with pytest.raises(ValueError, match="no quarter turn"):
        next(read_video(path))


@pytest.mark.parametrize(
    ("height", "width", "decoder"),
    [
        (72, 72, "pyav"),
        (16, 16, "pyav"),
        (2, 2, "pyav"),
        (33, 47, "pyav"),
        (33, 48, "pyav"),
        (64, 47, "decord"),
        (64, 96, "decord"),
    ],
)
def test_vp9_of_any_size_is_read_by_the_decoder_that_is_exact(
    tmp_path: Path, height: int, width: int, decoder: str
) -> None:
    noise = np.random.default_rng(0).integers(0, 32, (8, height, width, 3)).astype(np.uint8)
    frames = [grain + np.uint8(8 * index) for index, grain in enumerate(noise)]
    path = write_frames(tmp_path / "vp9.webm", "vp9.webm", frames)
    both(path)
    with Video(path) as video:
        assert video.decoder == decoder


def test_a_size_that_a_grey_first_frame_would_hide(tmp_path: Path) -> None:
    """Decoders differ in the colours of odd heights; a first frame without colour shows nothing of it."""
    rng = np.random.default_rng(1)
    noise = rng.integers(0, 255, (7, 33, 47, 3)).astype(np.uint8)
    both(write_frames(tmp_path / "vp9.webm", "vp9.webm", [np.zeros((33, 47, 3), np.uint8), *noise]))


def test_what_decord_cannot_read_in_the_middle_is_read_by_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_frames(tmp_path / "vp9.webm", "vp9.webm", [picture()] * 8)
    with Video(path) as video:
        expected = video.frames([1, 5])
    with Video(path) as video:
        assert video.decoder == "decord"

        def fail(indices: object) -> None:
            raise EpisodeError("undecodable", "decord alone")

        monkeypatch.setattr(video._reader, "read", fail)
        np.testing.assert_array_equal(video.frames([1, 5]), expected)
        assert video.decoder == "pyav"


def write_depth(path: Path, encoder: str, pixel_format: str) -> Path:
    depth = (np.arange(64 * 96, dtype=np.uint16).reshape(64, 96) * 10) % 4096
    with av.open(str(path), "w") as container:
        stream = container.add_stream(encoder, rate=12)
        stream.height, stream.width, stream.pix_fmt = 64, 96, pixel_format
        for index in range(6):
            frame = av.VideoFrame.from_ndarray(depth, format="gray16le").reformat(format=pixel_format)
            frame.pts, frame.time_base = index, Fraction(1, 12)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


@pytest.mark.parametrize(
    ("name", "encoder", "pixel_format"),
    [("depth.mkv", "ffv1", "gray16le"), ("depth.mp4", "libx265", "gray12le"), ("depth.mp4", "libx265", "gray10le")],
)
def test_depth_is_no_picture_whatever_is_declared(tmp_path: Path, name: str, encoder: str, pixel_format: str) -> None:
    path = write_depth(tmp_path / name, encoder, pixel_format)
    with pytest.raises(EpisodeError, match="a depth map is no view"):
        Video(path)
    with pytest.raises(ValueError, match="distances, no picture"):
        next(read_video(path))
