"""Both decoders hand out exactly the frames asked for, or an EpisodeError."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import decord
import numpy as np
import pytest

from pipeline.audit.raw.decoding.video import read_video
from pipeline.errors import EpisodeError
from pipeline.sources.video.decode import Video
from pipeline.sources.video.decoded_frames import CACHE_BYTES
from pipeline.sources.video.vp9_header import vp9_frames
from tests.pipeline.spelled import ENCODERS, HEIGHT, WIDTH, decode_frames, read, write_frames, write_spelled

COUNT = 90
BY_DECORD = {"vp9.webm", "vp9_hidden_frames.webm"}


@pytest.fixture(scope="module")
def spelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("spelled")
    for name in ENCODERS:
        write_spelled(folder, name, range(COUNT))
    return folder


@pytest.mark.parametrize("name", ENCODERS)
def test_every_frame_is_the_one_asked_for(spelled: Path, name: str) -> None:
    with Video(spelled / name) as video:
        assert video.decoder == ("decord" if name in BY_DECORD else "pyav")
        assert video.num_frames == COUNT
        assert [read(frame) for frame in video.frames(range(COUNT))] == list(range(COUNT))


@pytest.mark.parametrize("name", ENCODERS)
def test_random_access_any_order_and_repeats(spelled: Path, name: str) -> None:
    rng = np.random.default_rng(7)
    with Video(spelled / name) as video:
        for _ in range(25):
            indices = rng.integers(0, COUNT, size=4).tolist() * 2
            assert [read(frame) for frame in video.frames(indices)] == indices
    for index in rng.integers(0, COUNT, size=12).tolist():
        # A new decoder each time: no state left by earlier reads, nothing cached.
        assert read(decode_frames(spelled / name, [index])[0]) == index


def test_decord_is_not_trusted_with_reordered_frames(spelled: Path) -> None:
    """The reason for the second decoder; should decord ever be exact here, the routing can go."""
    reader = decord.VideoReader(str(spelled / "h264_open.mp4"), num_threads=1)
    rng = np.random.default_rng(0)
    asked = [rng.integers(0, COUNT, size=5).tolist() for _ in range(20)]
    got = [[read(frame) for frame in reader.get_batch(indices).asnumpy()] for indices in asked]
    later = [g - a for wanted, found in zip(asked, got, strict=True) for a, g in zip(wanted, found, strict=True)]
    assert max(later) > 0, "decord handed out no later frame than asked for"


@pytest.mark.parametrize("name", ["vp9.webm", "av1.mp4", "h264_b_frames.mp4"])
def test_colours_are_red_green_blue_in_this_order(tmp_path: Path, name: str) -> None:
    colours = [(220, 30, 20), (20, 200, 40), (30, 40, 210)]
    frames = [np.full((HEIGHT, WIDTH, 3), colour, np.uint8) for colour in colours for _ in range(3)]
    decoded = decode_frames(write_frames(tmp_path / name, name, frames), [1, 4, 7])
    assert decoded.dtype == np.uint8
    assert decoded.shape == (3, HEIGHT, WIDTH, 3)
    np.testing.assert_allclose(decoded.mean((1, 2)), colours, atol=8)


@pytest.mark.parametrize("name", ["vp9.webm", "h264_b_frames.mp4"])
def test_facts_and_timestamps(spelled: Path, name: str) -> None:
    with Video(spelled / name) as video:
        assert (video.num_frames, video.width, video.height) == (COUNT, WIDTH, HEIGHT)
        assert video.fps == pytest.approx(12)
        times = video.timestamps(range(COUNT))
        np.testing.assert_allclose(times, np.arange(COUNT) / 12, atol=1e-3)
        np.testing.assert_array_equal(video.timestamps([5, 0, 5]), times[[5, 0, 5]])


def test_a_few_frames_do_not_cost_the_whole_file(tmp_path: Path) -> None:
    """The pixels of the later half are garbage: whoever decodes the whole file for early frames fails."""
    path = write_spelled(tmp_path, "av1.mp4", range(COUNT))
    data = bytearray(path.read_bytes())
    start, end = data.index(b"mdat"), data.index(b"moov")
    assert start < end, "this test expects the index of the file behind the pixels"
    middle = (start + end) // 2
    data[middle : end - 16] = b"\xff" * (end - 16 - middle)
    path.write_bytes(data)
    with Video(path) as video:
        assert [read(frame) for frame in video.frames([3, 9])] == [3, 9]
        with pytest.raises(EpisodeError, match=r"av1\.mp4"):
            video.frames([COUNT - 2])


def test_cache_is_bounded_and_exact(tmp_path: Path) -> None:
    side = 512
    count = CACHE_BYTES // (side * side * 3) + 12
    frames = [np.full((side, side, 3), 2 * index, np.uint8) for index in range(count)]
    path = write_frames(tmp_path / "vp9.webm", "vp9.webm", frames)
    with Video(path) as video:
        first = video.frames(range(count)).mean((1, 2, 3))
        again = video.frames(range(count)).mean((1, 2, 3))
        assert video._decoded.kept_bytes <= CACHE_BYTES
    np.testing.assert_array_equal(first, again)
    assert (np.diff(first) > 0.5).all()


@pytest.mark.parametrize("index", [-1, COUNT])
def test_out_of_range(spelled: Path, index: int) -> None:
    with Video(spelled / "vp9.webm") as video:
        with pytest.raises(EpisodeError, match=r"vp9\.webm has frames 0\.\.89") as caught:
            video.frames([0, index])
        assert caught.value.reason == "out-of-range"
        with pytest.raises(EpisodeError):
            video.timestamps([index])


def test_no_frames_asked_for(spelled: Path) -> None:
    assert decode_frames(spelled / "vp9.webm", []).shape == (0, HEIGHT, WIDTH, 3)


def test_missing_file_names_the_path(tmp_path: Path) -> None:
    with pytest.raises(EpisodeError, match="nowhere") as caught:
        Video(tmp_path / "nowhere.webm")
    assert caught.value.reason == "missing-file"


@pytest.mark.parametrize("content", [b"", b"\x00" * 4096, np.random.default_rng(0).bytes(20000)])
def test_what_is_no_video(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.webm"
    path.write_bytes(content)
    with pytest.raises(EpisodeError, match=r"broken\.webm") as caught:
        Video(path)
    assert caught.value.reason == "undecodable"


def test_audio_alone_is_no_video(tmp_path: Path) -> None:
    path = tmp_path / "audio.wav"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.int16), format="s16", layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
    with pytest.raises(EpisodeError, match="no video stream"):
        Video(path)


def test_damaged_copies_decode_or_raise(shared_data: Path, spelled: Path, tmp_path: Path) -> None:
    """Truncated and bit-flipped files end in frames or in an EpisodeError, never in a crash."""
    rng = np.random.default_rng(11)
    sources = [shared_data / "ssv2/20bn-something-something-v2/900001.webm"]
    sources += [spelled / name for name in ("vp9.webm", "h264.mp4", "h264_b_frames.mp4", "av1.mp4")]
    outcomes = set()
    for number, source in enumerate(path for path in sources for _ in range(6)):
        data = bytearray(source.read_bytes())
        if number % 3 == 0:
            data = data[: int(rng.integers(len(data)))]
        else:
            for place in rng.integers(0, len(data), size=(1, 20)[number % 2]):
                data[place] ^= 1 << int(rng.integers(8))
        path = tmp_path / f"{number}{source.suffix}"
        path.write_bytes(data)
        outcomes.add(_outcome(path))
    assert outcomes == {"decoded", "refused"}


def _outcome(path: Path) -> str:
    """Anything but an EpisodeError that names the file passes through and fails the test."""
    try:
        with Video(path) as video:
            frames = video.frames(range(video.num_frames))
            return "decoded" if len(frames) == video.num_frames else "frames lost"
    except EpisodeError as error:
        return "refused" if error.reason == "undecodable" and path.name in error.detail else f"badly reported: {error}"


def packet_places(path: Path) -> list[tuple[int, int]]:
    """Offset and size of every video packet."""
    with av.open(str(path)) as container:
        return [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]


def test_a_hidden_frame_shifts_nothing(tmp_path: Path) -> None:
    """One flipped bit hides frame 12. decord alone then hands out a later frame for 19 and a wrong one for 15."""
    path = write_spelled(tmp_path, "vp9.webm", range(COUNT))
    data = bytearray(path.read_bytes())
    # The packet's place is that of its block, whose own header takes four bytes.
    place = packet_places(path)[12][0] + 4
    data[place] ^= 0b10
    path.write_bytes(data)
    assert [read(f) for f in decord.VideoReader(str(path), num_threads=1).get_batch([19]).asnumpy()] == [20]
    with Video(path) as video:
        assert video.decoder == "pyav"
        assert [read(frame) for frame in video.frames([5, 50])] == [5, 50]
        with pytest.raises(EpisodeError, match="does not return frame 12"):
            video.frames([12])
        assert [read(frame) for frame in video.frames([30])] == [30]


@pytest.mark.parametrize("name", ["h264.mp4", "h264_b_frames.mp4"])
def test_a_image_patched_up_after_damage_is_refused(tmp_path: Path, name: str) -> None:
    path = write_spelled(tmp_path, name, range(COUNT))
    data = bytearray(path.read_bytes())
    place, size = packet_places(path)[30]
    data[place + size // 2 : place + size] = b"\x55" * (size - size // 2)
    path.write_bytes(data)
    with av.open(str(path)) as container:
        patched = [index for index, frame in enumerate(container.decode(video=0)) if frame.is_corrupt]
    assert len(patched) == 1, "positive control: the decoder patches exactly this image"
    with Video(path) as video, pytest.raises(EpisodeError, match=f"frame {patched[0]} is corrupt"):
        video.frames([patched[0]])


def test_vp9_packets_with_hidden_frames_show_one(spelled: Path) -> None:
    counts = set()
    with av.open(str(spelled / "vp9_hidden_frames.webm")) as container:
        for packet in container.demux(video=0):
            if packet.size:
                data = bytes(packet)
                assert sum(frame.is_shown for frame in vp9_frames(data)) == 1
                counts.add(1 + (data[-1] & 7) if data[-1] >> 5 == 0b110 else 1)
    assert 2 in counts, "positive control: this file holds superframes"


def write_two_sizes(path: Path, codec: str, first: int, second: int) -> None:
    """Frames of 128 x 96, then of 64 x 48, as a recorder writes them that saves bandwidth."""
    with av.open(str(path), "w") as out:
        stream = out.add_stream(codec, rate=10)
        stream.width, stream.height, stream.pix_fmt = 128, 96, "yuv420p"
        stream.codec_context.open()
        for begin, end, width, height in ((0, first, 128, 96), (first, first + second, 64, 48)):
            encoder = av.CodecContext.create(codec, "w")
            encoder.width, encoder.height, encoder.pix_fmt = width, height, "yuv420p"
            encoder.time_base, encoder.options = Fraction(1, 10), {"lag-in-frames": "0"}
            frames = [av.VideoFrame(width, height, "yuv420p") for _ in range(begin, end)]
            for pts, frame in enumerate(frames, begin):
                for plane in frame.planes:
                    plane.update(bytes([5 * pts]) * plane.buffer_size)
                frame.pts, frame.time_base = pts, encoder.time_base
            for packet in [p for frame in [*frames, None] for p in encoder.encode(frame)]:
                packet.stream, packet.time_base = stream, encoder.time_base
                out.mux(packet)


@pytest.mark.parametrize(("codec", "detail"), [("libvpx-vp9", "pictures of 2 sizes"), ("libvpx", "frame 20 is")])
def test_a_film_whose_size_changes_is_refused_here_and_in_the_audit(tmp_path: Path, codec: str, detail: str) -> None:
    write_two_sizes(tmp_path / "clip.webm", codec, 20, 3)
    with pytest.raises(EpisodeError, match=f"undecodable.*{detail}"), Video(tmp_path / "clip.webm") as video:
        video.frames([0, 20])
    with pytest.raises(ValueError, match=r"the frame at 2 s is \(48, 64, 3\), those before it are \(96, 128, 3\)"):
        list(read_video(tmp_path / "clip.webm"))
    write_two_sizes(tmp_path / "clip.webm", codec, 20, 0)
    with Video(tmp_path / "clip.webm") as video:
        assert video.frames([0, 19]).shape == (2, 96, 128, 3)
    assert len(list(read_video(tmp_path / "clip.webm"))) == 20


def test_real_clips(shared_data: Path) -> None:
    clips = sorted((shared_data / "ssv2").rglob("*.webm"))
    assert len(clips) == 20
    for clip in clips:
        with Video(clip) as video:
            assert video.decoder == "decord"
            assert 17 <= video.num_frames <= 60
            assert video.fps == pytest.approx(12)
            assert video.height == 240
            assert video.width in (427, 293)


def test_decoders_agree_on_a_real_clip(shared_data: Path) -> None:
    clip = shared_data / "ssv2/20bn-something-something-v2/900001.webm"
    with av.open(str(clip)) as container:
        expected = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    np.testing.assert_array_equal(decode_frames(clip, range(len(expected))), np.stack(expected))
