"""A film whose container calls every packet a keyframe: the frames are those of the whole film, or are read so."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.audit.raw.decoding.film import read_segment
from pipeline.sources.video.decode import Video
from pipeline.sources.video.film import Span, open_part

FRAMES, FPS, GROUP = 40, 10, 20
BEGIN, END, WANTED = 2.5, 3.5, 10


def write_film(path: Path, codec: str, options: dict[str, str]) -> None:
    rng = np.random.default_rng(0)
    blocks = np.kron(rng.integers(0, 255, (8, 8, 3), np.uint8), np.ones((8, 8, 1), np.uint8))
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=FPS, options=options)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        for number in range(FRAMES):
            picture = np.ascontiguousarray(np.roll(blocks, 3 * number, axis=1))
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())


def all_frames(path: Path) -> NDArray[np.uint8]:
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


@pytest.mark.parametrize(
    ("codec", "options"),
    [
        ("mpeg4", {"g": str(GROUP), "bf": "0", "q:v": "2"}),
        ("mpeg4", {"g": str(GROUP), "bf": "2", "q:v": "2"}),
        ("libx264", {"g": str(GROUP), "bf": "2"}),
        ("libvpx-vp9", {"g": str(GROUP), "cpu-used": "8", "deadline": "realtime"}),
    ],
)
@pytest.mark.parametrize("lies", [False, True])
def test_frames_are_those_of_the_film(tmp_path: Path, codec: str, options: dict[str, str], lies: bool) -> None:
    path = tmp_path / "film.mp4"
    write_film(path, codec, options)
    content = path.read_bytes()
    assert b"stss" in content
    whole = all_frames(path)
    if lies:  # without this list every packet counts as a keyframe
        path.write_bytes(content.replace(b"stss", b"free"))
    part = open_part(str(path), Span(BEGIN, END, WANTED, 0.01))
    first = int(BEGIN * FPS)
    wanted = whole[first : first + WANTED]
    np.testing.assert_array_equal(part.reader.frames(range(part.start, part.start + WANTED)), wanted)
    with Video(path) as video:
        np.testing.assert_array_equal(video.frames([first + 1, first + 7]), whole[[first + 1, first + 7]])
    audited = [pixels for _, pixels in read_segment(path, BEGIN, END, WANTED, 0.01)]
    np.testing.assert_array_equal(np.stack(audited), wanted)
