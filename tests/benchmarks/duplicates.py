"""Near-duplicates: how many changed copies are found, how many different films are taken for copies, what it costs.

Films are clips of the sample world, and the real clips, robot episodes and Bridge episodes of VLAJEPA_TEST_DATA where
it is set. Demonstrations are made up: one scene, one scripted task, a static and a wrist camera, no sensor noise. Times
are of one processor.
"""

from __future__ import annotations

import io
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.audit.duplicates.comparison import overlays
from pipeline.audit.duplicates.features import VARIANTS
from pipeline.audit.duplicates.film_points import FilmPoints
from pipeline.audit.duplicates.films import read_film
from pipeline.audit.duplicates.index import WordIndex
from pipeline.audit.duplicates.sketch import FRAMES, sketch
from pipeline.audit.raw.decoding.tfrecord import parse_example, read_record
from pipeline.audit.raw.decoding.video import read_video
from pipeline.sample_world.ssv2 import write_ssv2
from tests.pipeline.audit.duplicates.changes import CHANGES, Frames, reencoded
from tests.pipeline.audit.duplicates.films import demonstrations, real_clips

BRIDGE = (0, 5, 10, 15, 20)
"""Episodes of the Bridge sample, each seen by three cameras."""


@dataclass(frozen=True)
class Scale:
    """clips of the sample world, demonstrations, films in the index, changes of `CHANGES` (all where empty).

    every  so many films, one is copied
    """

    clips: int = 12
    demonstrations: int = 60
    indexed: int = 220_000
    changes: tuple[str, ...] = ()
    every: int = 1
    real: bool = True


TINY = Scale(clips=4, demonstrations=2, indexed=100, changes=("mirrored", "cropped to 90 %"), every=4, real=False)


@dataclass(frozen=True)
class Indexed:
    """Films, what they leave in the index, and the index."""

    films: tuple[FilmPoints, ...]
    words: tuple[NDArray[np.uint32], ...]
    index: WordIndex


def run(folder: Path, repeats: int, scale: Scale) -> None:
    """Print the tables. Each film is copied once, however many repeats are asked for."""
    cv2.setNumThreads(1)
    films = _films(folder, scale)
    print(f"\ncopies found, of {len(films[:: scale.every])} films among {len(films)}")
    indexed = _indexed(films)
    for change in scale.changes or CHANGES:
        found = [_found(films, at, change, indexed, folder) for at in range(0, len(films), scale.every)]
        print(f"  {change:40} {sum(found):5d}", flush=True)
    print("\ndifferent films taken for copies, of all pairs")
    _print_false("films", indexed.films)
    episodes = list(demonstrations(scale.demonstrations))
    for camera in ("front", "wrist"):
        own = [FilmPoints(read_film(reencoded(episode[camera], folder / "d.mp4"))) for episode in episodes]
        _print_false(f"demonstrations, {camera} camera", own)
    _print_costs(films, indexed, scale)


def _films(folder: Path, scale: Scale) -> list[Frames]:
    write_ssv2(folder / "clips", scale.clips, seed=1)
    paths = sorted((folder / "clips").glob("*/*.webm"))
    data = os.environ.get("VLAJEPA_TEST_DATA") if scale.real else None
    found = [] if data is None else real_clips(Path(data))
    if data is not None:
        paths += sorted(Path(data).glob("lerobot_v21/*/videos/*/*/*.mp4"))
        (record,) = Path(data).glob("rlds/bridge_dataset/1.0.0/*-train.tfrecord*")
        for number in BRIDGE:
            values = parse_example(read_record(record, number))
            for camera in range(3):
                jpegs = values[f"steps/observation/image_{camera}"]
                found.append([np.asarray(Image.open(io.BytesIO(jpeg))) for jpeg in jpegs])
    return found + [[frame for _, frame in read_video(path)] for path in paths]


def _indexed(films: Sequence[Frames]) -> Indexed:
    words = tuple(sketch(read_film(film, 2 * FRAMES)) for film in films)
    return Indexed(tuple(FilmPoints(read_film(film)) for film in films), words, _index(words))


def _index(words: Sequence[NDArray[np.uint32]]) -> WordIndex:
    held = np.array([len(own) for own in words], np.int64)
    return WordIndex(np.concatenate(words), held, held)


def _found(films: Sequence[Frames], at: int, change: str, indexed: Indexed, folder: Path) -> bool:
    """Whether a changed film is found to be a copy of itself, and of no other film."""
    crf = 33 if change == "compressed" else 23
    copy = reencoded(CHANGES[change](films[at]), folder / "copy.mp4", crf)
    own = FilmPoints(read_film(copy))
    for candidate in indexed.index.closest(sketch(read_film(copy, 2 * FRAMES))):
        if _same(own.varied(candidate.variant), indexed.films[candidate.film]):
            return candidate.film == at
    return False


def _same(own: FilmPoints, other: FilmPoints) -> bool:
    return any(overlay.same for overlay in overlays(own, other))


def _print_false(name: str, films: Sequence[FilmPoints]) -> None:
    pairs, found, highest = 0, 0, 0.0
    for own, other in combinations(films, 2):
        laid = list(overlays(own, other))
        pairs, found = pairs + 1, found + any(overlay.same for overlay in laid)
        highest = max([highest, *(overlay.motion.blurred for overlay in laid)])
    print(f"  {f'{name}: of {pairs} pairs, highest correlation {highest:.2f}':70} {found:5d}", flush=True)


def _print_costs(films: Sequence[Frames], indexed: Indexed, scale: Scale) -> None:
    costs: Mapping[str, list[float]] = {"sketch of a film": [], "looking up a film": [], "comparing two films": []}
    large = _index(_distractors(indexed.words, scale.indexed))
    for film, words in zip(films[:8], indexed.words, strict=False):
        start = time.process_time()
        sketch(read_film(film, 2 * FRAMES))
        sketched = time.process_time()
        large.closest(words)
        looked = time.process_time()
        _same(FilmPoints(read_film(film)).varied(VARIANTS[0]), FilmPoints(read_film(films[0])))
        for cost, took in zip(costs.values(), np.diff([start, sketched, looked, time.process_time()]), strict=True):
            cost.append(float(took))
    print(f"\nmilliseconds of one processor, beside decoding; {scale.indexed:,} films in the index")
    for name, took in costs.items():
        print(f"  {name:40} {1000 * float(np.median(took)):9.1f}")


def _distractors(words: Sequence[NDArray[np.uint32]], count: int) -> list[NDArray[np.uint32]]:
    """Made-up films of words of many films, so that words are as frequent as in real ones."""
    pool = np.concatenate(words)
    rng = np.random.default_rng(0)
    flips = (1 << rng.integers(0, 22, (count, 400))).astype(np.uint32)
    return [np.unique(rng.choice(pool, 400) ^ flip) for flip in flips]
