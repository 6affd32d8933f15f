"""What published sets do that no real file at hand shows: empty files, single frames, uneven times."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pytest

from jobs.preprocess.preprocess import preprocess
from pipeline.errors import EpisodeError, RunError
from pipeline.format.build import Build
from pipeline.format.build_settings import WindowPolicy
from pipeline.sources.base import Source
from pipeline.sources.lerobot.source import LeRobotSource
from pipeline.sources.libero.source import LiberoSource
from pipeline.sources.rlds.tfrecord import read_record
from pipeline.sources.videos import VideoFolderSource
from tests.jobs.runs import build_config
from tests.pipeline.sources.lerobot.test_lerobot import FRONT, Dataset
from tests.pipeline.sources.libero.test_libero import write_task
from tests.pipeline.spelled import read, spell, write_spelled


def reason_of_first(source: Source, name: str) -> str:
    """Why the first episode is left out, at the index or when opened; the file must be named."""
    index = source.index()
    left_out = [entry for entry in index.left_out if name in entry.detail]
    if left_out:
        return left_out[0].reason
    with pytest.raises(EpisodeError) as caught:
        source.open(min(index.refs, key=lambda ref: ref.id))
    assert name in caught.value.detail
    return caught.value.reason


def test_empty_files(tmp_path: Path) -> None:
    dataset = Dataset(tmp_path / "robot").write()
    source = LeRobotSource(root=str(dataset.root), name="toy")
    video = dataset.video(FRONT, 0)
    video.write_bytes(b"")
    assert reason_of_first(source, video.name) == "undecodable"
    table = dataset.root / "data/chunk-000/episode_000000.parquet"
    table.write_bytes(b"")
    assert reason_of_first(source, table.name) == "undecodable"
    write_task(tmp_path / "libero/b_demo.hdf5", {"demo_0": 5})
    (tmp_path / "libero/a_demo.hdf5").write_bytes(b"")
    with pytest.raises(RunError, match=r"a_demo\.hdf5: .*How many demonstrations are lost with it is unknown"):
        LiberoSource(root=str(tmp_path / "libero"), name="l").index()
    (tmp_path / "empty.tfrecord").write_bytes(b"")
    with pytest.raises(EpisodeError, match=r"empty\.tfrecord has records 0\.\.-1; 0 was requested"):
        read_record(str(tmp_path / "empty.tfrecord"), 0)
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips/a.mp4").write_bytes(b"")
    (tmp_path / "clips/texts.csv").write_text("video,text\na.mp4,cut\n")
    assert reason_of_first(VideoFolderSource(root=str(tmp_path / "clips"), name="c"), "a.mp4") == "undecodable"


@pytest.mark.slow
def test_a_single_frame_is_too_short_and_does_not_count_as_bad(ray_session: None, tmp_path: Path) -> None:
    root = tmp_path / "clips"
    root.mkdir()
    for name, numbers in (("long.webm", range(20)), ("single.webm", range(7, 8))):
        write_spelled(root, "vp9.webm", numbers).rename(root / name)
    (root / "texts.csv").write_text("video,text\nlong.webm,stir\nsingle.webm,look\n")
    source: dict[str, Any] = {"type": "videos", "name": "c", "root": str(root), "val_share": 0.0}
    window = WindowPolicy(every=0, per_episode=2)
    build: Build = preprocess(build_config(tmp_path / "build", source, window=window, max_bad_share=0.0))
    assert build.manifest["counts"]["train"]["episodes"] == 1
    assert '"reason":"too-short"' in (build.path / "ledger.jsonl").read_text()


def test_uneven_times_are_read_by_number_and_told_by_the_video(tmp_path: Path) -> None:
    """A variable frame rate: frame i is the i-th shown, at the time the video says."""
    dataset = Dataset(tmp_path / "robot").write()
    times = [0, 1, 2, 7, 8, 20]  # twelfths of a second
    path = dataset.video(FRONT, 0)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=12, options={"g": "3", "crf": "10", "bf": "0"})
        stream.height, stream.width, stream.pix_fmt = *spell(0).shape[:2], "yuv420p"
        stream.codec_context.time_base = Fraction(1, 12)
        for number, time in enumerate(times):
            frame = av.VideoFrame.from_ndarray(spell(number), format="rgb24")
            frame.pts, frame.time_base = time, Fraction(1, 12)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    source = LeRobotSource(root=str(dataset.root), name="toy")
    with source.open(min(source.index().refs, key=lambda ref: ref.id)) as episode:
        assert [read(frame) for frame in episode.frames("front", [5, 3, 0])] == [5, 3, 0]
        assert episode.timestamps(range(6)).tolist() == pytest.approx([time / 12 for time in times], abs=2e-3)
