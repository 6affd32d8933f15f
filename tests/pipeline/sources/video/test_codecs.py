"""Codecs and containers in which random access is not what it seems: every frame is the one asked for, or an error."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from pipeline.audit.raw.decoding.video import _is_hidden_vp8, read_video
from pipeline.errors import EpisodeError
from pipeline.sources.video.decode import Video
from pipeline.sources.video.packets import _vp8_is_shown
from tests.pipeline.spelled import HEIGHT, WIDTH, read, spell

COUNT = 60
REFRESH = {"g": "20", "crf": "10"}
FILES: Mapping[str, tuple[str, Mapping[str, str]]] = {
    "refresh.mp4": ("libx264", REFRESH | {"x264-params": "intra-refresh=1:bframes=0"}),
    "refresh.mkv": ("libx264", REFRESH | {"x264-params": "intra-refresh=1:bframes=0"}),
    "refresh.ts": ("libx264", REFRESH | {"x264-params": "intra-refresh=1:bframes=0"}),
    "refresh_b.mp4": ("libx264", REFRESH | {"x264-params": "intra-refresh=1:bframes=3"}),
    "h264_b.avi": ("libx264", {"g": "20", "crf": "10", "bf": "3"}),
    "mpeg4_b.avi": ("mpeg4", {"g": "20", "bf": "2", "qscale": "2", "flags": "+qscale"}),
    "mpeg4.avi": ("mpeg4", {"g": "20", "bf": "0", "qscale": "2", "flags": "+qscale"}),
    "h264_b.ts": ("libx264", {"g": "20", "crf": "10", "bf": "3"}),
    "vp8.webm": ("libvpx", {"g": "20", "crf": "10", "b": "2M"}),
    "vp9_hidden.webm": (
        "libvpx-vp9",
        {"g": "40", "b": "2M", "deadline": "realtime", "cpu-used": "6", "lag-in-frames": "25", "auto-alt-ref": "1"},
    ),
    "hevc.mp4": ("libx265", {"x265-params": "keyint=20:bframes=4:log-level=none"}),
    "hevc_open.mp4": ("libx265", {"x265-params": "keyint=20:bframes=4:open-gop=1:log-level=none"}),
    "mpeg2_b.mkv": ("mpeg2video", {"g": "12", "bf": "2", "b": "4M"}),
}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("codecs")
    for name, (encoder, options) in FILES.items():
        with av.open(str(folder / name), "w") as container:
            stream = container.add_stream(encoder, rate=12, options=dict(options))
            stream.height, stream.width, stream.pix_fmt = HEIGHT, WIDTH, "yuv420p"
            for number in range(COUNT):
                frame = av.VideoFrame.from_ndarray(spell(number), format="rgb24")
                frame.pts, frame.time_base = number, Fraction(1, 12)
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
    return folder


@pytest.mark.parametrize("name", FILES)
def test_every_frame_backward_forward_and_at_random(files: Path, name: str) -> None:
    shown = list(read_video(files / name))
    assert [read(frame) for _, frame in shown] == list(range(COUNT))
    with Video(files / name) as video:
        assert video.timestamps(range(COUNT)).tolist() == [second for second, _ in shown]
    backward = [*range(COUNT - 1, -1, -7)]
    anywhere = np.random.default_rng(2).integers(0, COUNT, 10).tolist()
    for order in (backward, anywhere):
        with Video(files / name) as video:
            for index in order:
                video._decoded.clear()
                np.testing.assert_array_equal(video.frames([index])[0], shown[index][1])


@pytest.mark.parametrize(("tag", "shown"), [(0x10, True), (0x11, True), (0x90, True), (0x00, False), (0x81, False)])
def test_a_vp8_packet_says_whether_it_is_shown(tag: int, shown: bool) -> None:
    """Bit 4 of the first byte; reference frames that are never shown have packets of their own in WebM."""
    packet = av.Packet(bytes([tag, 0, 0]))
    assert _vp8_is_shown(packet) == shown
    assert _is_hidden_vp8(packet) != shown


def test_one_damaged_frame_costs_itself_and_those_made_from_it(files: Path, tmp_path: Path) -> None:
    """In the middle of a film: the frames from the next keyframe on are as ever."""
    path = tmp_path / "hevc.mp4"
    data = bytearray((files / "hevc.mp4").read_bytes())
    with av.open(str(files / "hevc.mp4")) as container:
        packets = [(p.pos, p.size, p.is_keyframe) for p in container.demux(video=0) if p.size]
    place, size, _ = packets[25]
    data[place + 6 : place + size] = b"\xff" * (size - 6)
    path.write_bytes(data)
    with Video(files / "hevc.mp4") as whole, Video(path) as video:
        for index in (3, 17, 45, 59, 42):
            np.testing.assert_array_equal(video.frames([index])[0], whole.frames([index])[0])
        with pytest.raises(EpisodeError) as caught:
            video.frames(range(20, 40))
    assert caught.value.reason == "undecodable"
    with pytest.raises(ValueError, match="hevc"):
        list(read_video(path))
