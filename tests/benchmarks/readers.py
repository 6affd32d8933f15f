"""Reading raw data: windows of real clips beside the decoders used directly, RLDS beside a bare scan, memory."""

from __future__ import annotations

import itertools
import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import decord
import numpy as np

from pipeline.encoder.encoder_frames import FrameSettings, cut_frames
from pipeline.format.build_settings import InputSettings, WindowPolicy
from pipeline.format.enums import EncoderMode
from pipeline.samples.inputs import build_input
from pipeline.samples.windows import enumerate_windows
from pipeline.sources.base import Source
from pipeline.sources.episode.truncated import TruncatedEpisode
from pipeline.sources.rlds.source import RldsSource
from pipeline.sources.rlds.tfrecord import read_record
from pipeline.sources.ssv2 import SSv2Source
from pipeline.sources.video.decode import Video
from tests.benchmarks.report import Series, Target, interleaved, print_table, seconds_of

SHARE_OF_FASTEST = 0.9
MIB = 2**20

Decode = Callable[[str, Sequence[int]], Any]


@dataclass(frozen=True)
class Scale:
    """What is read.

    clips    real clips, a window of each
    repeats  of reading them at least
    scanned  bytes of the file of records
    windows  that the worker makes whose memory is looked at
    """

    clips: int = 1000
    repeats: int = 5
    scanned: int = 200 * MIB
    windows: int = 2000


TINY = Scale(clips=2, repeats=1, scanned=0, windows=2)


def run(folder: Path, repeats: int, scale: Scale) -> None:
    """Print three tables. They need the real data of the tests."""
    data = Path(os.environ.get("VLAJEPA_TEST_DATA") or Path(__file__).resolve().parents[3] / "shared" / "data")
    if not data.is_dir():
        print(f"\nreaders: {data} is missing, nothing is measured (VLAJEPA_TEST_DATA names the tests' real data)")
        return
    _memory(data, scale.windows)  # before the peers and TensorFlow are loaded
    _windows(data, max(repeats, scale.repeats), scale.clips)
    _partition(data, folder / "rlds", repeats, scale.scanned)


def _windows(data: Path, repeats: int, count: int) -> None:
    """One window of every clip: the frames that its inputs and targets are made of."""
    clips = sorted((data / "ssv2/20bn-something-something-v2").glob("*.webm"))[:count]
    work = [(str(clip), _window_of(clip)) for clip in clips]

    def timed(decode: Decode) -> Callable[[], float]:
        def once() -> None:
            for path, frames in work:
                decode(path, frames)

        return lambda: len(work) / seconds_of(once)

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


def _partition(data: Path, root: Path, repeats: int, scanned: int) -> None:
    """All episodes of one record file, pictures left encoded, beside TensorFlow's scan of the same records."""
    count = _enlarge(data / "rlds/bridge_dataset/1.0.0", root, scanned)
    path = next(root.glob("*.tfrecord*"))
    size = path.stat().st_size / MIB
    cameras = tuple(f"image_{i}" for i in range(3))
    source = RldsSource(root=str(root), name="bridge", fps=5, cameras=cameras, val_share=0.0)
    refs = source.index().refs
    assert len(refs) == count

    def parsed() -> None:
        for ref in refs:
            with source.open(ref) as episode:
                episode.instruction(0)

    def framed() -> None:
        for ref in refs:
            read_record(str(path), ref.data["record"])

    runs: dict[str, Callable[[], None]] = {
        "ours: records found, checked, parsed, 3 pictures decoded": parsed,
        "ours: records found and checked": framed,
    }
    note = ""
    try:
        runs["bare scan: tf.data.TFRecordDataset"] = _scan(path)
    except ImportError as error:
        note = f"TensorFlow's bare scan is not among them: {error}"
    timed = {name: lambda work=work: size / seconds_of(work) for name, work in runs.items()}
    whole, found, *bare = interleaved(timed, repeats).values()
    print_table(
        f"RLDS: a file of {count:,} episodes (real Bridge records of 139 KB repeated), {size:.0f} MiB, one process",
        "MiB/s",
        [whole, found, *bare],
        [
            ratio
            for scan in bare
            for ratio in (
                found.over(scan, "found and checked over bare scan"),
                whole.over(scan, "parsed over bare scan"),
            )
        ],
        [note] if note else [],
    )


def _scan(path: Path) -> Callable[[], None]:
    import tensorflow as tf

    def scan() -> None:
        for record in tf.data.TFRecordDataset(str(path)):
            record.numpy()

    return scan


def _enlarge(original: Path, root: Path, scanned: int) -> int:
    """A dataset of one file that repeats the records of the sample."""
    root.mkdir(parents=True)
    content = next(original.glob("*-train.tfrecord*")).read_bytes()
    times = max(1, scanned // len(content))
    with open(root / "bridge_dataset-train.tfrecord-00000-of-00001", "wb") as file:
        for _ in range(times):
            file.write(content)
    info: Mapping[str, Any] = json.loads((original / "dataset_info.json").read_text())
    (split,) = (split for split in info["splits"] if split["name"] == "train")
    split["shardLengths"] = [str(25 * times)]
    (root / "dataset_info.json").write_text(json.dumps({**info, "splits": [split]}))
    shutil.copy(original / "features.json", root)
    return 25 * times


def _memory(data: Path, windows: int) -> None:
    """Resident memory of this process over many windows of the two jobs."""
    sources: dict[str, tuple[Source, WindowPolicy]] = {
        "clips": (SSv2Source(root=str(data / "ssv2")), WindowPolicy(every=0, per_episode=2)),
        "RLDS": (
            RldsSource(root=str(data / "rlds/bridge_dataset"), name="bridge", fps=5, cameras=("image_0", "image_1")),
            WindowPolicy(steps=1, chunk=2, every=4),
        ),
    }
    rows = []
    for name, (source, policy) in sources.items():
        index = source.index()
        refs = [ref for ref in index.refs if ref.split != "test"]
        _one_episode(source, refs[0], index.views, policy)  # loads what is loaded once
        done, trace, turns = 0, [_resident()], itertools.cycle(refs)
        while done < windows:
            done += _one_episode(source, next(turns), index.views, policy)
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
        cut_frames(episode, windows, views, FrameSettings(256), EncoderMode.PREFIX)
    return len(windows)


def _resident() -> float:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / MIB
