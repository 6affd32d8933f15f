"""Circumstances of public reports about readers of such data: each is read as it is meant, or refused with a reason."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import h5py
import pyarrow as pa
import pytest

from pipeline.audit.raw.decoding.video import read_video
from pipeline.errors import EpisodeError, RunError
from pipeline.sources.rlds.source import RldsSource
from pipeline.sources.ssv2 import VIDEO_FOLDER, SSv2Source
from pipeline.sources.video.decode import Video
from pipeline.sources.videos import VideoFolderSource
from tests.conftest import SampleData
from tests.pipeline.sources.both_readers import raw_of, read_by_both, ref_of, refused_by_both
from tests.pipeline.sources.lerobot.test_lerobot import Dataset
from tests.pipeline.sources.libero.test_libero import source as libero
from tests.pipeline.sources.libero.test_libero import write_task
from tests.pipeline.spelled import HEIGHT, WIDTH, png, read, spell, write_spelled

FPS, COUNT = 12, 30


def encoded(path: Path, codec: str = "libx264", options: dict[str, str] | None = None, cover: bool = False) -> Path:
    """A film of frames that spell 0, 1, 2 …; `options` are those of the container."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", options=options or {}) as container:
        if cover:
            picture = container.add_stream("png", rate=1)
            picture.height, picture.width, picture.pix_fmt = HEIGHT, WIDTH, "rgb24"
            picture.disposition = av.stream.Disposition.attached_pic
        stream = container.add_stream(codec, rate=FPS, options={"g": "10", "crf": "10", "bf": "2"})
        stream.height, stream.width, stream.pix_fmt = HEIGHT, WIDTH, "yuv420p"
        if cover:
            frame = av.VideoFrame.from_ndarray(spell(255), format="rgb24")
            container.mux(picture.encode(frame))
            container.mux(picture.encode())
        for number in range(COUNT):
            frame = av.VideoFrame.from_ndarray(spell(number), format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, FPS)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def cut_by_edit_list(source: Path, target: Path, shown_from: int) -> Path:
    """A copy without encoding again, as `ffmpeg -ss … -c copy` makes it: an edit list hides the first frames."""
    with av.open(str(source)) as old, av.open(str(target), "w") as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        shift = int(Fraction(shown_from, FPS) / old.streams.video[0].time_base)
        for packet in old.demux(old.streams.video[0]):
            if packet.dts is None:
                continue
            packet.pts, packet.dts = packet.pts - shift, packet.dts - shift  # type: ignore[operator]
            packet.stream = stream
            new.mux(packet)
    return target


def numbers_by_both(path: Path) -> list[int]:
    """What the frames spell; both readers must agree, forward and at random."""
    theirs = [read(frame) for _, frame in read_video(path)]
    with Video(path) as video:
        ours = [read(frame) for frame in video.frames(range(video.num_frames))]
        backward = [read(video.frames([index])[0]) for index in reversed(range(video.num_frames))]
    assert ours == theirs == backward[::-1]
    return ours


def test_a_film_in_fragments_as_recorders_write_it(tmp_path: Path) -> None:
    """No table of frames in its header: PyAV counts 0 frames there, readers by header find an empty film."""
    path = encoded(tmp_path / "a.mp4", options={"movflags": "frag_keyframe+empty_moov+default_base_moof"})
    with av.open(str(path)) as container:
        assert container.streams.video[0].frames == 0
    assert numbers_by_both(path) == list(range(COUNT))


@pytest.mark.parametrize("first", [10, 13])
def test_frames_that_an_edit_list_hides_are_none(tmp_path: Path, first: int) -> None:
    """OpenCV, decord and others count them; players and ffmpeg show none of them."""
    path = cut_by_edit_list(encoded(tmp_path / "a.mp4"), tmp_path / "b.mp4", first)
    assert numbers_by_both(path) == list(range(first, COUNT))


def test_a_cover_picture_is_no_film(tmp_path: Path) -> None:
    """It is a video stream too, and the first one."""
    path = encoded(tmp_path / "a.mp4", cover=True)
    with av.open(str(path)) as container:
        assert len(container.streams.video) == 2
    assert numbers_by_both(path) == list(range(COUNT))


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs /proc")
@pytest.mark.parametrize("name", ["vp9.webm", "h264_b_frames.mp4"])
def test_films_that_are_closed_leave_no_file_open(tmp_path: Path, name: str) -> None:
    path = write_spelled(tmp_path, name, range(6))
    with Video(path) as video:
        video.frames([3])
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(60):
        with Video(path) as video:
            video.frames([3])
    assert len(os.listdir("/proc/self/fd")) <= before + 2


@pytest.mark.parametrize("declared", [5, 7, 0])
def test_a_demonstration_whose_length_is_told_twice(tmp_path: Path, declared: int) -> None:
    """robomimic reads as many rows as num_samples says; after a recording that was cut off there are others."""
    path = write_task(tmp_path / "lift.hdf5", {"demo_0": 6, "demo_1": 6})
    with h5py.File(path, "r+") as file:
        file["data/demo_0"].attrs["num_samples"] = 6
        file["data/demo_1"].attrs["num_samples"] = declared
    index = libero(tmp_path).index()
    (entry,) = index.left_out
    assert entry.reason == "bad-entry"
    assert f"it has 6 actions, num_samples is {declared}" in entry.detail
    assert len(read_by_both(libero(tmp_path), "libero-lift-0000")["agentview_rgb"]) == 5
    assert raw_of(libero(tmp_path)).problem_of("libero-lift-0001") is not None


@pytest.mark.parametrize("hidden", [".Trash-0/lift.hdf5", ".ipynb_checkpoints/lift-checkpoint.hdf5", "._lift.hdf5"])
def test_hidden_copies_are_no_data(tmp_path: Path, hidden: str) -> None:
    """A desktop's bin, a notebook's backup, macOS's resource forks: neither reader lists them."""
    path = write_task(tmp_path / "lift.hdf5", {"demo_0": 6})
    other = tmp_path / hidden
    other.parent.mkdir(exist_ok=True)
    shutil.copy(path, other)
    source = libero(tmp_path)
    listed = sorted(episode for episode, _ in raw_of(source).listed())
    assert listed == [ref.id for ref in source.index().refs] == ["libero-lift-0000"]


def test_a_file_that_is_being_written_is_no_damaged_one(tmp_path: Path) -> None:
    path = write_task(tmp_path / "lift.hdf5", {"demo_0": 6})
    code = "import h5py, sys; f = h5py.File(sys.argv[1], 'r+'); print('open', flush=True); sys.stdin.read(1)"
    environment = {**os.environ, "HDF5_USE_FILE_LOCKING": "TRUE"}
    with subprocess.Popen(
        [sys.executable, "-c", code, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
    ) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"open\n"
        with pytest.raises(RunError, match=r"lift\.hdf5.*open for writing in another process"):
            libero(tmp_path).index()
        writer.communicate(b"x")


def test_records_that_are_compressed_as_a_whole(shared_data: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(shared_data / "rlds/bridge_dataset/1.0.0", tmp_path / "bridge"))
    for path in (root, *root.iterdir()):
        path.chmod(0o755)
    path = next(root.glob("*-train.tfrecord*"))
    path.write_bytes(gzip.compress(path.read_bytes(), 1))
    source = RldsSource(root=str(root), name="bridge", fps=5.0, cameras=("image_0",))
    with pytest.raises(EpisodeError, match="compressed with gzip: unpack it"):
        source.open(ref_of(source, "bridge-train-000000"))
    source.open(ref_of(source, "bridge-val-000000")).close()


def test_an_archive_that_was_unpacked_into_its_own_folder(sample_data: SampleData, tmp_path: Path) -> None:
    shutil.copytree(sample_data.ssv2 / "labels", tmp_path / "labels")
    shutil.copytree(sample_data.ssv2 / VIDEO_FOLDER, tmp_path / VIDEO_FOLDER / VIDEO_FOLDER)
    with pytest.raises(RunError, match=f"{VIDEO_FOLDER} holds no files"):
        SSv2Source(root=str(tmp_path)).index()


def test_a_list_with_semicolons_as_spreadsheets_of_some_countries_write_it(tmp_path: Path) -> None:
    (tmp_path / "texts.csv").write_text("video;text\na.webm;stir\n")
    with pytest.raises(RunError, match=r"has no column video, text; it has video;text"):
        VideoFolderSource(root=str(tmp_path), name="kitchen").index()


def test_pictures_that_a_table_names_and_does_not_hold(tmp_path: Path) -> None:
    """As a table of Hugging Face's `datasets` that was written without embedding: paths of the machine it came from."""
    dataset = Dataset(tmp_path / "set").write()
    front = "observation.images.front"
    dataset.info["features"] = {**dataset.info["features"], front: {"dtype": "image", "shape": [64, 96, 3]}}
    dataset.info["features"].pop("observation.images.wrist.left")
    (dataset.root / "meta/info.json").write_text(json.dumps(dataset.info))
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    rows = [{"bytes": None, "path": f"/home/else/{number}.png"} for number in range(6)]
    dataset.write_table(0, dataset.columns(0, 6) | {front: pa.array(rows, kind)})
    kept = [{"bytes": png(number), "path": None} for number in range(5)]
    dataset.write_table(1, dataset.columns(1, 5) | {front: pa.array(kept, kind)})
    error = refused_by_both(dataset.source(), "toy-000000")
    assert "embed the images in the table" in error.detail
    assert [read(frame) for frame in read_by_both(dataset.source(), "toy-000001")["front"]] == list(range(5))
