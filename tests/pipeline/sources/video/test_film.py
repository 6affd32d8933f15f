"""A part of a film: the frames and times of the whole film, and no bytes of the rest."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from pipeline.audit.raw.decoding.film import read_segment
from pipeline.errors import EpisodeError
from pipeline.sources.video.decode import Video
from pipeline.sources.video.film import Span, open_part
from pipeline.sources.video.part import PartReader
from tests.pipeline.spelled import ENCODERS, HEIGHT, WIDTH, read, spell, write_spelled

COUNT, FPS = 90, 12
REFRESH = {"g": "20", "crf": "10", "x264-params": "intra-refresh=1:bframes=0"}
OTHERS: Mapping[str, tuple[str, Mapping[str, str], Mapping[str, str]]] = {
    "hevc_open.mp4": ("libx265", {"x265-params": "keyint=20:bframes=4:open-gop=1:log-level=none"}, {}),
    "vp9.mp4": ("libvpx-vp9", {"g": "20", "b": "2M", "deadline": "realtime", "lag-in-frames": "25"}, {}),
    "at_its_start.mp4": ("libx264", {"g": "20", "crf": "10", "bf": "3"}, {"movflags": "faststart"}),
    "no_edits.mp4": ("libx264", {"g": "20", "crf": "10", "bf": "3"}, {"use_editlist": "0"}),
    "negative_offsets.mp4": ("libx264", {"g": "20", "bf": "3"}, {"movflags": "negative_cts_offsets"}),
    "refresh.mp4": ("libx264", REFRESH, {}),
    "fragments.mp4": ("libx264", {"g": "20", "crf": "10", "bf": "3"}, {"movflags": "frag_keyframe"}),
    "no_first_fragment.mp4": ("libx264", {"g": "20", "bf": "3"}, {"movflags": "frag_keyframe+empty_moov"}),
}
NAMES = [*(name for name in ENCODERS if name.endswith((".mp4", ".mkv"))), *OTHERS]
READ_WHOLE = {"h264_b_frames.mkv": 0, "no_first_fragment.mp4": 0, "refresh.mp4": 52}
"""Without a list of all packets; or from which frame on not decodable from what they name keyframes."""


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("films")
    for name in NAMES:
        if name in ENCODERS:
            write_spelled(folder, name, range(COUNT), FPS)
            continue
        encoder, options, container_options = OTHERS[name]
        with av.open(str(folder / name), "w", options=dict(container_options)) as container:
            stream = container.add_stream(encoder, rate=FPS, options=dict(options))
            stream.height, stream.width, stream.pix_fmt = HEIGHT, WIDTH, "yuv420p"
            for number in range(COUNT):
                frame = av.VideoFrame.from_ndarray(spell(number), format="rgb24")
                frame.pts, frame.time_base = number, Fraction(1, FPS)
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
    return folder


def span(first: int, last: int, with_end: bool = True, off: float = 0.0) -> Span:
    """Of frames first .. last."""
    end = (last + 1 + off) / FPS if with_end else None
    return Span((first + off) / FPS, end, last + 1 - first, 0.1 / FPS - 1e-6)


@pytest.mark.parametrize("with_end", [True, False])
@pytest.mark.parametrize("name", NAMES)
def test_a_part_is_that_of_the_whole_film(films: Path, name: str, with_end: bool) -> None:
    path = str(films / name)
    with Video(path) as video:
        whole, seconds = video.frames(range(COUNT)), video.timestamps(range(COUNT))
    for first, last in ((0, 11), (20, 39), (17, 23), (40, 40), (59, 61), (83, 89)):
        for off in (0.0, 0.05, -0.05):
            part = open_part(path, span(first, last, with_end, off))
            reader, start = part.reader, first - part.before
            assert part.total == (COUNT if name != "fragments.mp4" else part.total)
            assert isinstance(reader, PartReader) == (first < READ_WHOLE.get(name, COUNT))
            np.testing.assert_array_equal(part.seconds, seconds[part.before :][: len(part.seconds)])
            wanted = range(first, last + 1)
            assert len(part.seconds) >= start + len(wanted)
            order = np.random.default_rng(first).permutation(len(wanted))
            found = np.concatenate([reader.frames([start + int(at)]) for at in order])
            np.testing.assert_array_equal(found, whole[first + order])
            reader.close()
            where = span(first, last, with_end, off)
            audited = list(read_segment(films / name, where.begin_s, where.end_s, where.frames, where.tolerance))
            np.testing.assert_array_equal(np.stack([frame for _, frame in audited]), whole[first : last + 1])
            assert [second for second, _ in audited] == reader.timestamps(
                range(start, start + len(wanted)), start
            ).tolist()


def test_times_that_are_not_in_the_film(films: Path) -> None:
    """The nearest frame is the last one; an end far beyond is as good as none."""
    path = str(films / "h264_b_frames.mp4")
    part = open_part(path, Span(99.0, None, 5, 0.008))
    assert part.before + len(part.seconds) == COUNT
    part = open_part(path, Span(30 / FPS, 1e9, 5, 0.008))
    assert part.before + len(part.seconds) == COUNT
    part = open_part(path, Span(30 / FPS, 1.0, 5, 0.008))
    assert part.seconds[30 - part.before] == pytest.approx(30 / FPS, abs=1e-6)


def test_a_damaged_packet_costs_the_episode_that_has_it(films: Path, tmp_path: Path) -> None:
    path = tmp_path / "damaged.mp4"
    data = bytearray((films / "h264_b_frames.mp4").read_bytes())
    with av.open(str(films / "h264_b_frames.mp4")) as container:
        places = [(p.pos, p.size) for p in container.demux(video=0) if p.size]
    place, size = places[45]
    data[place + 6 : place + size] = b"\xff" * (size - 6)
    path.write_bytes(data)
    assert [read(f) for f in _frames(path, 20, 39)] == list(range(20, 40))
    assert [read(f) for f in _frames(path, 60, 79)] == list(range(60, 80))
    with pytest.raises(EpisodeError) as caught:
        _frames(path, 40, 59)
    assert caught.value.reason == "undecodable"
    assert [read(f) for _, f in read_segment(path, 20 / FPS, 40 / FPS, 20, 0.008)] == list(range(20, 40))
    with pytest.raises(ValueError, match=r"damaged\.mp4"):
        list(read_segment(path, 40 / FPS, 60 / FPS, 20, 0.008))


def test_a_film_that_was_cut_off(films: Path, tmp_path: Path) -> None:
    """Its list is at its beginning and whole: what is there is read, what is lost is missing."""
    path = tmp_path / "cut.mp4"
    data = (films / "at_its_start.mp4").read_bytes()
    path.write_bytes(data[: len(data) * 4 // 5])
    assert [read(f) for f in _frames(path, 0, 9)] == list(range(10))
    part = open_part(str(path), span(80, 89))
    assert part.before + len(part.seconds) < 80


def _frames(path: Path, first: int, last: int) -> np.ndarray:
    part = open_part(str(path), span(first, last))
    return part.reader.frames(range(first - part.before, last + 1 - part.before))


def test_no_film_at_all(tmp_path: Path) -> None:
    with pytest.raises(EpisodeError) as caught:
        open_part(str(tmp_path / "none.mp4"), span(0, 1))
    assert caught.value.reason == "missing-file"
    (tmp_path / "none.mp4").write_bytes(b"no film" * 99)
    with pytest.raises(EpisodeError) as caught:
        open_part(str(tmp_path / "none.mp4"), span(0, 1))
    assert caught.value.reason == "undecodable"
