"""An episode of a film of fifty costs its own packets and the film's index, in the pipeline and in the audit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest

from pipeline.audit.raw.decoding.film import read_segment
from pipeline.sources.video.film import Span, open_part
from tests.benchmarks.shared_films import Film, bytes_read, write_film

SHARE = 1.2
"""Of the packets of an episode, those of its neighbours included that are decoded between its own."""

EPISODES, FRAMES = (0, 1, 25, 49), 96


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Film:
    return write_film(tmp_path_factory.mktemp("film") / "film.mp4", episodes=50, frames=FRAMES, side=256)


@pytest.fixture(scope="module")
def whole(film: Film) -> dict[int, list[np.ndarray]]:
    """Frames by episode, of a decoding from the first frame to the last."""
    found: dict[int, list[np.ndarray]] = {number: [] for number in EPISODES}
    with av.open(str(film.path)) as container:
        for at, frame in enumerate(container.decode(video=0)):
            if at // FRAMES in found:
                found[at // FRAMES].append(frame.to_ndarray(format="rgb24"))
    return found


def by_pipeline(path: Path, span: Span) -> np.ndarray:
    part = open_part(str(path), span)
    found = part.reader.frames(range(part.start, part.start + span.frames))
    part.reader.close()
    return found


def by_audit(path: Path, span: Span) -> np.ndarray:
    frames = read_segment(path, span.begin_s, span.end_s, span.frames, span.tolerance)
    return np.stack([frame for _, frame in frames])


@pytest.mark.parametrize("with_end", [True, False])
@pytest.mark.parametrize("reading", [by_pipeline, by_audit])
def test_an_episode_costs_its_own_bytes(
    film: Film, whole: dict[int, list[np.ndarray]], reading: Callable[[Path, Span], np.ndarray], with_end: bool
) -> None:
    reading(film.path, film.span(25))  # libraries are loaded
    for number in EPISODES:
        span = film.span(number) if with_end else film.span(number, None)
        read, found = bytes_read(lambda span=span: reading(film.path, span))
        np.testing.assert_array_equal(found, whole[number])
        own = film.episode_bytes(number)
        assert own > 1_000_000
        assert read - film.index_bytes <= SHARE * own, f"episode {number}: {read} - {film.index_bytes} of {own}"
    assert film.path.stat().st_size > 40 * film.episode_bytes(25)
