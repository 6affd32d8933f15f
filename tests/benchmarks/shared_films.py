"""What one episode of a film costs that many share: bytes and processor time, as the film grows."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TypeVar

import av
import numpy as np

from pipeline.audit.raw.decoding.film import read_segment
from pipeline.sources.video.film import Span, open_part
from tests.benchmarks.report import Series, Target, print_table

FPS = 30
FLAT = 1.2
"""An episode of the largest film may cost so many times what one of the smallest costs, its index apart."""

T = TypeVar("T")


@dataclass(frozen=True)
class Scale:
    """episodes  in each film;  frames  of an episode, of so many pixels a side."""

    episodes: Sequence[int] = (10, 30, 100)
    frames: int = 60
    side: int = 256


TINY = Scale((2, 4), 8, 64)


@dataclass(frozen=True)
class Film:
    """A film whose episodes begin with a keyframe each. sizes: bytes of each packet, in decoding order."""

    path: Path
    frames: int
    sizes: tuple[int, ...]

    @property
    def index_bytes(self) -> int:
        """All that is no packet."""
        return self.path.stat().st_size - sum(self.sizes)

    def episode_bytes(self, number: int) -> int:
        """Of the packets of an episode."""
        return sum(self.sizes[number * self.frames : (number + 1) * self.frames])

    def span(self, number: int, end: float | None = 0.0) -> Span:
        """Where an episode lies, with its end unless that is None."""
        begin, end_s = number * self.frames / FPS, (number + 1) * self.frames / FPS
        return Span(begin, None if end is None else end_s, self.frames, 0.1 / FPS)


def write_film(path: Path, episodes: int, frames: int, side: int) -> Film:
    """H.264 with B-frames; each episode begins with a keyframe, as in films that LeRobot joins."""
    rng = np.random.default_rng(0)
    scene = rng.integers(0, 255, (side // 8, side // 8, 3), np.uint8).repeat(8, 0).repeat(8, 1)
    options = {"g": "1000", "preset": "ultrafast", "crf": "18", "bf": "2"}
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=FPS, options=options)
        stream.height, stream.width, stream.pix_fmt = side, side, "yuv420p"
        for number in range(episodes * frames):
            pixels = np.roll(scene, (3 * number, 5 * number), (0, 1))
            pixels[: side // 2, : side // 2] = rng.integers(0, 255, (side // 2, side // 2, 3), np.uint8)
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, FPS)
            if number % frames == 0:
                frame.pict_type = av.video.frame.PictureType.I
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with av.open(str(path)) as container:
        sizes = tuple(packet.size for packet in container.demux(video=0) if packet.size)
    return Film(path, frames, sizes)


def bytes_read(action: Callable[[], T]) -> tuple[int, T]:
    """Bytes that this process asked the kernel for, from a disk or its cache, and what the action returned."""
    before = _read_so_far()
    found = action()
    return _read_so_far() - before, found


def _read_so_far() -> int:
    return int(Path("/proc/self/io").read_text().split()[1])


def by_pipeline(path: Path, span: Span) -> None:
    part = open_part(str(path), span)
    part.reader.frames(range(part.start, part.start + span.frames))
    part.reader.close()


def by_audit(path: Path, span: Span) -> None:
    for _ in read_segment(path, span.begin_s, span.end_s, span.frames, span.tolerance):
        pass


READERS: dict[str, Callable[[Path, Span], None]] = {"pipeline": by_pipeline, "audit": by_audit}


def run(folder: Path, repeats: int, scale: Scale) -> None:
    films = {count: write_film(folder / f"{count}.mp4", count, scale.frames, scale.side) for count in scale.episodes}
    for name, reader in READERS.items():
        _measure(name, reader, films, repeats)


def _measure(name: str, reader: Callable[[Path, Span], None], films: dict[int, Film], repeats: int) -> None:
    """The middle episode of each film, whose index this process has read already."""
    read: dict[int, list[float]] = {count: [] for count in films}
    times: dict[int, list[float]] = {count: [] for count in films}
    for repeat in range(repeats + 1):
        for count, film in films.items():
            started = time.process_time()
            found, _ = bytes_read(lambda film=film, at=count // 2: reader(film.path, film.span(at)))  # type: ignore[misc]
            if repeat:
                times[count].append(1e3 * (time.process_time() - started))
                read[count].append((found - film.index_bytes) / film.episode_bytes(count // 2))

    def series(what: str, values: dict[int, list[float]]) -> list[Series]:
        return [Series(f"{what} {count} episodes", tuple(found)) for count, found in values.items()]

    shares, spent = series("bytes read in a film of", read), series("a film of", times)
    counts = list(films)
    over = f"one of {counts[-1]} over one of {counts[0]}"
    print_table(
        f"One episode of a film, {name}: bytes read without the film's index",
        "of its packets",
        shares,
        [Target(shares[-1].over(shares[0], over), FLAT, at_most=True)],
        [
            f"index of {count} episodes: {film.index_bytes / 1e3:.1f} kB of {film.path.stat().st_size / 1e6:.1f} MB"
            for count, film in films.items()
        ],
    )
    print_table(
        f"One episode of a film, {name}: processor time",
        "ms",
        spent,
        [Target(spent[-1].over(spent[0], over), FLAT, at_most=True)],
    )
