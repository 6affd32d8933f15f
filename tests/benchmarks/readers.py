"""Reading raw data: windows of real clips beside the decoders used directly, RLDS beside a bare scan, memory."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import av
import decord
import numpy as np

from pipeline.encoder.encoder_frames import FrameSettings, cut_frames
from pipeline.format.build_settings import InputSettings, WindowPolicy
from pipeline.samples.inputs import build_input
from pipeline.samples.windows import enumerate_windows
from pipeline.sources.base import Source
from pipeline.sources.rlds.source import RldsSource
from pipeline.sources.ssv2 import SSv2Source
from pipeline.sources.truncated import TruncatedEpisode
from pipeline.sources.video.decode import Video
from tests.benchmarks.report import Series, Target, interleaved, print_table

SHARE_OF_FASTEST = 0.9
WINDOWS = 2000
SCANNED_BYTES = 200 * 2**20
MIB = 2**20

Decode = Callable[[str, Sequence[int]], Any]


def run(folder: Path, repeats: int) -> None:
    """Print three tables. They need the real data of the tests."""
    data = Path(os.environ.get("VLAJEPA_TEST_DATA") or Path(__file__).resolve().parents[3] / "shared" / "data")
    if not data.is_dir():
        print(f"\nreaders: {data} is missing, nothing is measured (VLAJEPA_TEST_DATA names the tests' real data)")
        return
    _memory(data)  # before the peers and TensorFlow are loaded
    _windows(data, max(repeats, 5))
    _partition(data, folder / "rlds", repeats)


def _windows(data: Path, repeats: int) -> None:
    """One window of every clip: the frames that its inputs and targets are made of."""
    clips = sorted((data / "ssv2/20bn-something-something-v2").glob("*.webm"))
    work = [(str(clip), _window_of(clip)) for clip in clips]

    def timed(decode: Decode) -> Callable[[], float]:
        def once() -> float:
            started = time.perf_counter()
            for path, frames in work:
                decode(path, frames)
            return len(work) / (time.perf_counter() - started)

        return once

    decoders: dict[str, Decode] = {"decord": _decord, "PyAV": _pyav}
    note = ""
    try:
        decoders["torchcodec"] = _torchcodec()
    except (ImportError, RuntimeError, OSError) as error:
        note = f"torchcodec is not among them: {str(error).splitlines()[0][:90]}"
    runs = {"ours": timed(_ours)} | {name: timed(decode) for name, decode in decoders.items()}
    series = interleaved(runs, repeats)
    fastest = max((series[name] for name in decoders), key=lambda one: one.median)
    ratio = Target(series["ours"].over(fastest, f"ours over {fastest.name}"), SHARE_OF_FASTEST)
    print_table(
        f"Windows of {len(clips)} real clips (VP9, 427 x 240), a file opened for each",
        "windows/s",
        list(series.values()),
        [ratio],
        [note] if note else [],
    )


def _window_of(clip: Path) -> list[int]:
    with Video(clip) as video:
        policy = WindowPolicy(every=0, per_episode=1)
        (window,) = enumerate_windows(video.num_frames, policy, has_actions=False)
    return sorted({frame for support in window.supports() for frame in support})


def _ours(path: str, frames: Sequence[int]) -> Any:
    with Video(path) as video:
        return video.frames(frames)


def _decord(path: str, frames: Sequence[int]) -> Any:
    return decord.VideoReader(path, num_threads=1).get_batch(list(frames)).asnumpy()


def _pyav(path: str, frames: Sequence[int]) -> Any:
    """From the first frame to the last one wanted; a seek would need a keyframe, of which short clips have one."""
    found, wanted = [], set(frames)
    with av.open(path) as container:
        container.streams.video[0].codec_context.thread_count = 1
        for index, frame in enumerate(container.decode(video=0)):
            if index in wanted:
                found.append(frame.to_ndarray(format="rgb24"))
            if index >= frames[-1]:
                break
    return np.stack(found)


def _torchcodec() -> Decode:
    from torchcodec.decoders import VideoDecoder

    def decode(path: str, frames: Sequence[int]) -> Any:
        decoder = VideoDecoder(path, dimension_order="NHWC", num_ffmpeg_threads=1)
        return decoder.get_frames_at(list(frames)).data.numpy()

    return decode


def _partition(data: Path, root: Path, repeats: int) -> None:
    """All episodes of one record file, pictures left encoded, beside TensorFlow's scan of the same records."""
    count = _enlarge(data / "rlds/bridge_dataset/1.0.0", root)
    path = next(root.glob("*.tfrecord*"))
    size = path.stat().st_size / MIB
    cameras = tuple(f"image_{i}" for i in range(3))
    source = RldsSource(str(root), "bridge", 5, cameras, val_share=0.0)
    refs = source.index().refs
    assert len(refs) == count

    def parsed() -> float:
        started = time.perf_counter()
        for ref in refs:
            with source.open(ref) as episode:
                episode.instruction(0)
        return size / (time.perf_counter() - started)

    def framed() -> float:
        from pipeline.sources.rlds.tfrecord import read_record

        started = time.perf_counter()
        for ref in refs:
            read_record(str(path), ref.data["record"])
        return size / (time.perf_counter() - started)

    series = interleaved(
        {"ours: records found, checked, parsed, 3 pictures decoded": parsed, "ours: records found and checked": framed,
         "bare scan: tf.data.TFRecordDataset": _scan(path, size)},
        repeats,
    )  # fmt: skip
    whole, found, bare = series.values()
    print_table(
        f"RLDS: a file of {count:,} episodes (real Bridge records of 139 KB repeated), {size:.0f} MiB, one process",
        "MiB/s",
        [whole, found, bare],
        [found.over(bare, "found and checked over bare scan"), whole.over(bare, "parsed over bare scan")],
    )


def _scan(path: Path, size: float) -> Callable[[], float]:
    import tensorflow as tf

    def scan() -> float:
        started = time.perf_counter()
        for record in tf.data.TFRecordDataset(str(path)):
            record.numpy()
        return size / (time.perf_counter() - started)

    return scan


def _enlarge(original: Path, root: Path) -> int:
    """A dataset of one file that repeats the records of the sample."""
    root.mkdir(parents=True)
    content = next(original.glob("*-train.tfrecord*")).read_bytes()
    times = max(1, SCANNED_BYTES // len(content))
    with open(root / "bridge_dataset-train.tfrecord-00000-of-00001", "wb") as file:
        for _ in range(times):
            file.write(content)
    info: Mapping[str, Any] = json.loads((original / "dataset_info.json").read_text())
    (split,) = (split for split in info["splits"] if split["name"] == "train")
    split["shardLengths"] = [str(25 * times)]
    (root / "dataset_info.json").write_text(json.dumps({**info, "splits": [split]}))
    shutil.copy(original / "features.json", root)
    return 25 * times


def _memory(data: Path) -> None:
    """Resident memory of this process over many windows of the two jobs."""
    sources: dict[str, tuple[Source, WindowPolicy]] = {
        "clips": (SSv2Source(str(data / "ssv2")), WindowPolicy(every=0, per_episode=2)),
        "RLDS": (
            RldsSource(str(data / "rlds/bridge_dataset"), "bridge", 5, ("image_0", "image_1")),
            WindowPolicy(steps=1, chunk=2, every=4),
        ),
    }
    rows = []
    for name, (source, policy) in sources.items():
        index = source.index()
        refs = [ref for ref in index.refs if ref.split != "test"]
        _one_episode(source, refs[0], index.views, policy)  # loads what is loaded once
        done, trace = 0, [_resident()]
        while done < WINDOWS:
            for ref in refs:
                done += _one_episode(source, ref, index.views, policy)
                trace.append(_resident())
        rows += [
            Series(f"{name}: at the start", (trace[0],)),
            Series(f"{name}: after {done:,} windows", (trace[-1],)),
            Series(f"{name}: highest", (max(trace),)),
        ]
    print_table("Resident memory of a worker", "MiB", rows)


def _one_episode(source: Source, ref: Any, views: Sequence[str], policy: WindowPolicy) -> int:
    """What inputs job and targets job do with an episode, the encoder left out."""
    with source.open(ref) as episode:
        windows = list(enumerate_windows(episode.num_frames, policy, has_actions=episode.actions(0, 1) is not None))
        for window in windows:
            build_input(TruncatedEpisode(episode, window.now), window.key(ref.id), ref.id, "s", views, InputSettings())
        cut_frames(episode, windows, views, FrameSettings(256), "prefix")
    return len(windows)


def _resident() -> float:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / MIB
