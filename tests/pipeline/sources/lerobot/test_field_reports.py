"""Circumstances of public bug reports: every pixel is the one of the row beside it."""

from __future__ import annotations

import builtins
import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.errors import EpisodeError, RunError
from pipeline.sources.lerobot.source import LeRobotSource
from pipeline.sources.registry import SOURCES, make_source
from tests.pipeline.sources.both_readers import read_by_both, ref_of, refused_by_both
from tests.pipeline.sources.lerobot.test_lerobot import CAMERA, FRONT, Dataset
from tests.pipeline.sources.lerobot.test_lerobot_v3 import FPS, TABLE, VIDEO, Shared
from tests.pipeline.spelled import read, spell, write_spelled

FILMS = ((0, 1, 2), (3,), (4, 5), (6,), (7, 8, 9), (10,))
"""Episodes of each film; all of them lie in one table."""


def spread_over_films(root: Path) -> Shared:
    """Eleven episodes of 3 to 7 frames in one table and six films in two chunks."""
    shared = Shared(root, lengths=tuple(3 + number % 5 for number in range(11)), gaps=(0,) * 11).write()
    episodes, (starts, lengths) = shared.episodes(), (shared.starts, shared.lengths)
    (root / VIDEO).unlink()
    for film, own in enumerate(FILMS):
        chunk, file = divmod(film, 4)
        frames = [frame for number in own for frame in range(starts[number], starts[number] + lengths[number])]
        folder = root / f"videos/{FRONT}/chunk-{chunk:03d}"
        folder.mkdir(parents=True, exist_ok=True)
        write_spelled(folder, "h264_b_frames.mp4", frames, fps=FPS).rename(folder / f"file-{file:03d}.mp4")
        for number in own:
            place = starts[number] - starts[own[0]]
            episodes[f"videos/{FRONT}/chunk_index"][number] = chunk
            episodes[f"videos/{FRONT}/file_index"][number] = file
            episodes[f"videos/{FRONT}/from_timestamp"][number] = place / FPS
    ends = np.array(episodes[f"videos/{FRONT}/from_timestamp"]) + np.array(lengths) / FPS
    shared.save("meta/episodes/chunk-000/file-000.parquet", episodes | {f"videos/{FRONT}/to_timestamp": ends})
    return shared


def test_films_hold_other_episodes_than_tables(tmp_path: Path) -> None:
    shared = spread_over_films(tmp_path)
    for number, (start, length) in enumerate(zip(shared.starts, shared.lengths, strict=True)):
        found = read_by_both(shared.source, f"toy-{number:06d}")
        assert [read(frame) for frame in found["front"]] == list(range(start, start + length))
        assert found["state"].tolist() == [[frame, number] for frame in range(length)]


def test_an_undecodable_frame_of_a_shared_film_spares_later_episodes(tmp_path: Path) -> None:
    """Episodes of 12 frames; a keyframe every 20. The frame lies in episode 1, episode 3 begins after a keyframe."""
    shared = Shared(tmp_path, lengths=(12,) * 5, gaps=(0,) * 5).write()
    path = tmp_path / VIDEO
    data = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        places = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]
    place, size = places[15]
    data[place + size // 2 : place + size] = b"\x55" * (size - size // 2)
    path.write_bytes(data)
    source = shared.source
    with source.open(ref_of(source, "toy-000001")) as episode, pytest.raises(EpisodeError) as caught:
        episode.frames("front", range(12))
    assert caught.value.reason == "undecodable"
    for number in (0, 2, 3, 4):
        with source.open(ref_of(source, f"toy-{number:06d}")) as episode:
            found = [read(frame) for frame in episode.frames("front", range(12))]
            assert found == list(range(12 * number, 12 * number + 12))


def test_an_episode_that_begins_between_two_keyframes(tmp_path: Path) -> None:
    """Each film is one group of pictures of 20 frames and more; episodes begin anywhere in it."""
    shared = Shared(tmp_path, lengths=(7, 8, 5, 8), gaps=(0,) * 4).write()
    with av.open(str(tmp_path / VIDEO)) as container:
        keys = [at for at, p in enumerate(p for p in container.demux(video=0) if p.size) if p.is_keyframe]
    assert not set(shared.starts[1:]) & set(keys)
    for number in (3, 1, 2, 0):
        start, length = shared.starts[number], shared.lengths[number]
        found = read_by_both(shared.source, f"toy-{number:06d}")
        assert [read(frame) for frame in found["front"]] == list(range(start, start + length))


@pytest.mark.parametrize(
    "clock",
    [
        lambda frame: 1.7e9 + frame / 12,
        lambda frame: 1.7e9 + frame / 12 + 0.02 * np.sin(frame),
        lambda frame: np.float32(1.7e9 + frame / 12),
        lambda frame: (1_700_000_000_000_000_000 + frame * 83_333_333).astype(np.int64),
    ],
    ids=["seconds", "trembling", "too coarse", "nanoseconds"],
)
def test_times_of_a_wall_clock(tmp_path: Path, clock: Any) -> None:
    """They say nothing about the film's own clock, and never step back."""
    dataset = Dataset(tmp_path / "set").write()
    dataset.write_table(0, dataset.columns(0, 6) | {"timestamp": pa.array(clock(np.arange(6)))})
    found = read_by_both(dataset.source(), "toy-000000")
    assert [read(frame) for frame in found["front"]] == list(range(6))


@pytest.mark.parametrize("kind", [kind for kind in SOURCES if kind != "rlds"])
def test_a_root_that_does_not_exist_is_said_at_once(tmp_path: Path, kind: str) -> None:
    settings: dict[str, Any] = {} if kind == "ssv2" else {"name": "toy"}
    if kind == "mcap":
        settings |= {"cameras": ["front=/front"], "state": ["/joints:position[a]"], "action": ["/goal:position[a]"]}
        settings["text"] = "go"
    with pytest.raises(RunError, match="nowhere"):
        make_source(kind, root=str(tmp_path / "nowhere"), **settings).index()


def count_calls(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Counts `os.stat` and `open` from here on."""
    calls: Counter[str] = Counter()
    for module, name in ((os, "stat"), (builtins, "open"), (os.path, "getsize")):
        real = getattr(module, name)

        def counted(*values: Any, real: Any = real, name: str = name, **named: Any) -> Any:
            calls[name] += 1
            return real(*values, **named)

        monkeypatch.setattr(module, name, counted)
    return calls


def test_a_listing_costs_no_look_at_each_of_many_small_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Opens and looks an episode: none but those of the folders and of the metadata, whatever their number."""
    counts = []
    for number in (40, 400):
        root = tmp_path / f"set{number}"
        dataset = Dataset(root, lengths=()).write()
        dataset.info["features"] = {FRONT: CAMERA, "observation.state": {"dtype": "float32", "shape": [2]}}
        (root / "meta/info.json").write_text(json.dumps(dataset.info))
        dataset.write_lines("episodes", [{"episode_index": n, "tasks": [], "length": 4} for n in range(number)])
        for name in ("data/chunk-000/episode_{:06d}.parquet", f"videos/chunk-000/{FRONT}/episode_{{:06d}}.mp4"):
            (root / name).parent.mkdir(parents=True)
            for episode in range(number):
                (root / name.format(episode)).touch()
        calls = count_calls(monkeypatch)
        source = LeRobotSource(root=str(root), name="toy", state=("observation.state",), action=())
        assert len(source.index().refs) == number
        monkeypatch.undo()
        counts.append(calls.total())
    assert counts[1] <= counts[0] + 2


def test_a_row_of_a_shared_table_that_is_nobodys(tmp_path: Path) -> None:
    """Rows after the last episode, as of a recording that was cut off, are no part of any episode."""
    shared = Shared(tmp_path).write()
    table = pa.table(shared.table())
    more = table.slice(0, 2).set_column(4, "episode_index", pa.array([3, 3])).set_column(5, "index", pa.array([15, 16]))
    pq.write_table(pa.concat_tables([table, more]), tmp_path / TABLE)
    for number, start in enumerate(shared.starts):
        assert read(read_by_both(shared.source, f"toy-{number:06d}")["front"][0]) == start


def test_a_film_whose_end_is_missing(tmp_path: Path) -> None:
    shared = Shared(tmp_path).write()
    write_spelled((tmp_path / VIDEO).parent, "h264.mp4", range(13), fps=FPS).rename(tmp_path / VIDEO)
    assert refused_by_both(shared.source, "toy-000002").reason == "length-mismatch"
    assert np.array_equal(read_by_both(shared.source, "toy-000001")["front"][0] > 127, spell(6) > 127)
