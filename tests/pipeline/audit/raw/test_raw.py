"""The audit's own readers of raw data, beside the pipeline's: two readings of one format must agree."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import shutil
import struct
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from scipy.spatial.transform import Rotation

from pipeline.audit.raw.base import RawEpisode, RawError
from pipeline.audit.raw.decoding import rotations
from pipeline.audit.raw.decoding.film import read_segment
from pipeline.audit.raw.decoding.frames import drop_last_frames
from pipeline.audit.raw.decoding.tfrecord import masked_checksum, parse_example, read_record
from pipeline.audit.raw.decoding.video import read_video
from pipeline.audit.raw.lerobot.dataset import RawLeRobot
from pipeline.audit.raw.registry import open_raw
from pipeline.audit.raw.settings import clean, short
from pipeline.audit.raw.ssv2 import RawSSv2
from pipeline.audit.raw.vectors import RawVectors, gripper_states
from pipeline.audit.rederive.images import Facts
from pipeline.audit.rederive.raw_episode import EpisodeWork, SampleWork, check_episode
from pipeline.audit.rederive.reencode import EncoderClaim
from pipeline.errors import BuildError
from pipeline.sources.base import Source
from pipeline.sources.episode.rotations import from_quaternion
from pipeline.sources.episode.vectors import VectorField, make_vectors
from pipeline.sources.lerobot.source import LeRobotSource
from pipeline.sources.libero.source import LiberoSource
from pipeline.sources.naming import clean_name, short_name
from pipeline.sources.rlds.source import RldsSource
from pipeline.sources.ssv2 import SSv2Source
from pipeline.sources.videos import VideoFolderSource
from tests.conftest import SampleData

ROBOT: dict[str, Any] = {
    "type": "lerobot",
    "name": "robot",
    "state": [{"field": "observation.state"}],
    "action": [{"field": "action"}],
    "val_share": 0.3,
    "split_seed": 0,
}
VIDEO: dict[str, Any] = {"type": "ssv2", "name": "ssv2"}


def _settings(source: Any, kind: str) -> dict[str, Any]:
    """The settings of a source in build.json."""
    values = {key: value for key, value in asdict(source).items() if key != "root"}
    return dict(json.loads(json.dumps({"type": kind, **values})))


def _compare(source: Source, settings: dict[str, Any], root: Path) -> None:
    raw = open_raw(settings, root)
    index = source.index()
    views = index.views
    refs = [ref for ref in index.refs if ref.split != "test"]
    assert refs
    for ref in refs:
        assert raw.split_of(ref.id) == ref.split
        theirs = raw.open(ref.id)
        with source.open(ref) as ours:
            last = ours.num_frames - 1
            assert set(views) <= set(theirs.frame_readers)
            for view in views:
                frames = list(theirs.frames(view))
                assert len(frames) == ours.num_frames
                for index in (0, last // 2, last):
                    np.testing.assert_array_equal(frames[index][1], ours.frames(view, [index])[0])
            times = [second for second, _ in theirs.frames(views[0])]
            np.testing.assert_array_equal(times, ours.timestamps(range(last + 1)))
            assert theirs.instruction(0) == ours.instruction(0)
            assert theirs.instruction(last) == ours.instruction(last)
            assert (theirs.state is None) == (ours.state(0) is None)
            if theirs.state is not None:
                _check_equal(
                    np.stack([ours.state(index) for index in range(last + 1)]), theirs.state, theirs.state_ties
                )
            assert (theirs.actions is None) == (ours.actions(0, 1) is None)
            if theirs.actions is not None:
                _check_equal(ours.actions(0, last + 1), theirs.actions, theirs.actions_ties)


def _check_equal(ours: NDArray[np.float32], theirs: NDArray[np.float32], ties: NDArray[np.float32]) -> None:
    """To the bit, but for rotations that lie in the middle of two numbers, of which there are next to none."""
    bits, same, other = (np.ascontiguousarray(values).view(np.uint32) for values in (ours, theirs, ties))
    assert ((bits == same) | (bits == other)).all()
    assert (same != other).mean() < 1e-3


def _complaint(read: Callable[[], Iterable[object]]) -> str | None:
    """The message about damaged data, None when it is still usable; no exception but RawError is allowed."""
    try:
        list(read())
    except RawError as error:
        return str(error)
    return None


def test_sample_clips_read_alike(sample_data: SampleData) -> None:
    _compare(SSv2Source(root=str(sample_data.ssv2)), VIDEO, sample_data.ssv2)


def test_sample_robot_episodes_read_alike(sample_data: SampleData) -> None:
    _compare(LeRobotSource(root=str(sample_data.lerobot), name="robot", val_share=0.3), ROBOT, sample_data.lerobot)


@pytest.mark.slow
def test_real_clips_read_alike(shared_data: Path) -> None:
    _compare(SSv2Source(root=str(shared_data / "ssv2")), VIDEO, shared_data / "ssv2")


@pytest.mark.slow
def test_real_robot_episodes_read_alike(shared_data: Path) -> None:
    root = shared_data / "lerobot_v21/unitree_g1_inspire_bottle"
    _compare(LeRobotSource(root=str(root), name="robot", val_share=0.3), ROBOT, root)


def test_test_clips_are_known_as_such(sample_data: SampleData) -> None:
    raw = RawSSv2(VIDEO, sample_data.ssv2)
    (clip,) = json.loads((sample_data.ssv2 / "labels/test.json").read_text())
    assert raw.split_of(f"ssv2-{clip['id']}") == "test"
    assert raw.split_of(f"other-{clip['id']}") is None
    assert raw.open(f"ssv2-{clip['id']}").instruction(0) is None


def test_declared_splits_of_a_robot_set_are_used_only_when_they_fit(sample_data: SampleData, tmp_path: Path) -> None:
    root = Path(shutil.copytree(sample_data.lerobot, tmp_path / "robot"))
    info = json.loads((root / "meta/info.json").read_text())
    for declared, wanted in (
        ({"train": "0:3", "validation": "3:4"}, ["train", "train", "train", "val"]),
        ({"train": "0:2", "test": "2:4"}, ["train", "train", "test", "test"]),
    ):
        (root / "meta/info.json").write_text(json.dumps({**info, "splits": declared}))
        raw = RawLeRobot(ROBOT, root)
        assert [raw.split_of(f"robot-{number:06d}") for number in range(4)] == wanted
    for unusable in ({"train": "0:100"}, {"train": "0:3", "val": "2:4"}, {"train": "0:4"}, {"left": "0:4"}):
        (root / "meta/info.json").write_text(json.dumps({**info, "splits": unusable}))
        refs = LeRobotSource(root=str(root), name="robot", val_share=0.3).index().refs
        raw = RawLeRobot(ROBOT, root)
        assert {ref.id: raw.split_of(ref.id) for ref in refs} == {ref.id: ref.split for ref in refs}


def test_errors_name_what_is_missing(sample_data: SampleData, tmp_path: Path) -> None:
    with pytest.raises(
        BuildError, match="level source reads raw data of the types ssv2, lerobot, rlds, libero, videos, mcap"
    ):
        open_raw({"type": "rosbag"}, tmp_path)
    with pytest.raises(BuildError, match=r"train\.json"):
        open_raw(VIDEO, tmp_path)
    raw = RawSSv2(VIDEO, sample_data.ssv2)
    with pytest.raises(RawError, match="lists no 'ssv2-nothing'"):
        raw.open("ssv2-nothing")
    with pytest.raises(RawError, match="no view wrist"):
        list(raw.open(f"ssv2-{_first(sample_data.ssv2)}").frames("wrist"))


def test_a_damaged_video_is_an_error_and_not_a_shorter_video(sample_data: SampleData, tmp_path: Path) -> None:
    path = sample_data.ssv2 / "20bn-something-something-v2" / f"{_first(sample_data.ssv2)}.webm"
    garbage = tmp_path / "garbage.webm"
    garbage.write_bytes(bytes(range(256)) * 40)
    with pytest.raises(ValueError, match="Invalid data"):
        list(read_video(garbage))
    with pytest.raises(ValueError, match="No such file"):
        list(read_video(tmp_path / "missing.webm"))
    assert len(list(read_video(path))) > 10


def _first(root: Path) -> str:
    return str(json.loads((root / "labels/train.json").read_text())[0]["id"])


@pytest.mark.slow
def test_real_robot_episodes_of_a_shared_file_read_alike(shared_data: Path) -> None:
    root = shared_data / "lerobot_v30/unitree_g1_inspire_bottle"
    source = LeRobotSource(root=str(root), name="robot", val_share=0.3)
    _compare(source, _settings(source, "lerobot"), root)


@pytest.mark.slow
def test_episodes_of_a_shared_file_are_those_of_single_files(shared_data: Path) -> None:
    shared = RawLeRobot(ROBOT, shared_data / "lerobot_v30/unitree_g1_inspire_bottle").open("robot-000001")
    single = RawLeRobot(ROBOT, shared_data / "lerobot_v21/unitree_g1_inspire_bottle").open("robot-000001")
    for (shared_s, shared_frame), (single_s, frame) in zip(
        shared.frames("cam_high"), single.frames("cam_high"), strict=True
    ):
        assert abs(shared_s - single_s) < 1e-3
        np.testing.assert_array_equal(shared_frame, frame)
    np.testing.assert_array_equal(shared.actions, single.actions)


@pytest.mark.slow
def test_rows_that_share_an_episode_number_are_found_by_their_place(shared_data: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(shared_data / "lerobot_v30/unitree_g1_inspire_bottle", tmp_path / "robot"))
    path = root / "data/chunk-000/file-000.parquet"
    table = pq.read_table(path, partitioning=None)
    wanted = RawLeRobot(ROBOT, root).open("robot-000001")
    at = table.column_names.index("episode_index")
    pq.write_table(table.set_column(at, "episode_index", pa.array([1] * table.num_rows)), path)
    source = LeRobotSource(root=str(root), name="robot", val_share=0.3)
    _compare(source, _settings(source, "lerobot"), root)
    found = RawLeRobot(ROBOT, root).open("robot-000001")
    np.testing.assert_array_equal(found.state, wanted.state)
    pq.write_table(pq.read_table(path).drop_columns(["index"]), path)
    with pytest.raises(RawError, match="498 rows of episode 1, its place has"):
        RawLeRobot(ROBOT, root).open("robot-000001")


@pytest.mark.slow
@pytest.mark.parametrize("skip_first", [0, 2])
def test_real_rlds_episodes_read_alike(shared_data: Path, skip_first: int) -> None:
    root = shared_data / "rlds/bridge_dataset"
    source = RldsSource(
        root=str(root),
        name="bridge",
        fps=5,
        cameras=("image_0", "image_1", "image_2"),
        skip_first=skip_first,
        state=(
            VectorField(field="observation/state", take=(0, 3)),
            VectorField(field="observation/state", take=(3, 6), convert="euler_xyz"),
            VectorField(field="observation/state", take=(6, 7), convert="gripper", open=1.0, closed=0.0),
            VectorField(field="observation/state", take=(5, 6)),
        ),
        action=(
            VectorField(field="observation/state", take=(0, 6), convert="pose_reached"),
            VectorField(field="action", take=(6, 7), scale=-1.0, convert="relative_gripper"),
        ),
    )
    _compare(source, _settings(source, "rlds"), root)
    raw = open_raw(_settings(source, "rlds"), root)
    episode = raw.open("bridge-val-000003")
    assert episode.split == "val"
    assert len(list(episode.frames("image_1"))) == 9 - skip_first
    assert raw.split_of("bridge-train-000025") is raw.split_of("bridge-test-000000") is None
    assert raw.split_of("bridge-train-0000001") is None  # it would be another id for episode 1


@pytest.mark.slow
def test_numbers_of_real_rlds_episodes_are_equal_where_nothing_is_computed(shared_data: Path) -> None:
    root = shared_data / "rlds/bridge_dataset/1.0.0"
    source = RldsSource(root=str(root), name="bridge", fps=5, cameras=("image_0",))
    _compare(source, _settings(source, "rlds"), root)


def test_only_one_kind_of_split_means_a_hash(shared_data: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(shared_data / "rlds/bridge_dataset/1.0.0", tmp_path / "rlds"))
    info = json.loads((root / "dataset_info.json").read_text())
    (root / "dataset_info.json").write_text(json.dumps({**info, "splits": info["splits"][:1]}))
    source = RldsSource(root=str(root), name="bridge", fps=5, cameras=("image_0",), val_share=0.3)
    raw = open_raw(_settings(source, "rlds"), root)
    splits = {ref.id: ref.split for ref in source.index().refs}
    assert set(splits.values()) == {"train", "val"}
    assert {episode: raw.split_of(episode) for episode in splits} == splits


@pytest.mark.parametrize("count", [-1, 10**12])
def test_more_records_than_a_file_can_hold_are_refused(shared_data: Path, tmp_path: Path, count: int) -> None:
    root = Path(shutil.copytree(shared_data / "rlds/bridge_dataset/1.0.0", tmp_path / "rlds"))
    settings = _settings(RldsSource(root=str(root), name="bridge", fps=5, cameras=("image_0",)), "rlds")
    info = json.loads((root / "dataset_info.json").read_text())
    info["splits"][0]["shardLengths"][0] = str(count)
    (root / "dataset_info.json").write_text(json.dumps(info))
    with pytest.raises(BuildError, match=f"{count} records, it holds 0 to"):
        open_raw(settings, root)


def test_damaged_records_are_raw_errors(shared_data: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(shared_data / "rlds/bridge_dataset/1.0.0", tmp_path / "rlds"))
    settings = _settings(RldsSource(root=str(root), name="bridge", fps=5, cameras=("image_0",)), "rlds")
    path = next(root.glob("*-train.tfrecord*"))
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    for at in [0, 3, 8, 12, 13, *rng.integers(14, 140_000, 60), len(whole) - 1]:
        damaged = bytearray(whole)
        damaged[at] ^= 0xFF
        path.write_bytes(damaged)
        message = _complaint(lambda: open_raw(settings, root).open("bridge-train-000000").frames("image_0"))
        assert message is None or "train" in message
    path.write_bytes(whole[: len(whole) - 7])
    assert open_raw(settings, root).open("bridge-train-000023")
    with pytest.raises(RawError, match="ends inside record 24"):
        open_raw(settings, root).open("bridge-train-000024")
    path.unlink()
    with pytest.raises(RawError, match="No such file"):
        open_raw(settings, root).open("bridge-train-000000")


def test_examples_hold_numbers_packed_or_one_by_one(tmp_path: Path) -> None:
    def field(number: int, content: bytes) -> bytes:
        return bytes([number << 3 | 2, len(content)]) + content

    def example(feature: bytes) -> bytes:
        return field(1, field(1, field(1, b"x") + field(2, feature)))

    packed = struct.pack("<2f", 1.5, -2.0)
    single = b"".join(b"\x0d" + struct.pack("<f", value) for value in (1.5, -2.0))
    for content in (field(1, packed), single):
        np.testing.assert_array_equal(parse_example(example(field(2, content)))["x"], np.array([1.5, -2], np.float32))
    minus_one = b"\xff" * 9 + b"\x01"
    for content in (field(1, b"\x05" + minus_one), b"\x08\x05\x08" + minus_one):
        assert list(parse_example(example(field(3, content)))["x"]) == [5, -1]
    assert parse_example(example(field(1, field(1, b"a") + field(1, b""))))["x"] == [b"a", b""]
    assert parse_example(example(b""))["x"] == []
    for bad in (b"\xff" * 11, b"\x0a\x7f", b"\x0b", example(field(2, field(1, b"abc"))), example(field(4, b""))):
        with pytest.raises(ValueError, match=r"."):
            parse_example(bad)

    def framed(record: bytes) -> bytes:
        length = struct.pack("<Q", len(record))
        return length + struct.pack("<I", masked_checksum(length)) + record + struct.pack("<I", masked_checksum(record))

    path = tmp_path / "records"
    path.write_bytes(framed(b"one") + framed(b"") + framed(b"three"))
    assert [read_record(path, number) for number in range(3)] == [b"one", b"", b"three"]
    with pytest.raises(ValueError, match="has 3 records"):
        read_record(path, 3)


@given(st.binary(max_size=300), st.integers(0, 2**16 - 1))
@hypothesis_settings(max_examples=200, deadline=None)
def test_no_record_breaks_the_parser(data: bytes, seed: int) -> None:
    whole = bytearray(
        b"\x0a\x20\x0a\x0e\x0a\x01f\x12\x09\x12\x07\x0d\0\0\0\0\x0d\0\x0a\x0e\x0a\x01i\x12\x09\x1a\x07" + bytes(7)
    )
    whole[seed % len(whole)] ^= seed >> 8
    for record in (data, bytes(whole)):
        with contextlib.suppress(ValueError):
            parse_example(record)


def _write_demonstrations(path: Path, convention: str | None, sentence: object, seed: int = 0) -> None:
    """Two demonstrations of 6 and 7 rows in LIBERO's form, two cameras of 8 x 10 pixels."""
    rng = np.random.default_rng(seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        data.attrs["problem_info"] = json.dumps({"language_instruction": sentence})
        if convention is not None:
            data.attrs["macros_image_convention"] = convention
        for number, rows in ((0, 6), (12, 7)):
            demo = data.create_group(f"demo_{number}")
            demo["actions"] = rng.uniform(-1, 1, (rows, 7))
            for camera in ("agentview_rgb", "eye_in_hand_rgb"):
                demo[f"obs/{camera}"] = rng.integers(0, 256, (rows, 8, 10, 3), np.uint8)
            demo["obs/ee_states"] = rng.uniform(-2, 2, (rows, 6))
            demo["obs/gripper_states"] = rng.uniform(-1, 1, (rows, 2))
            quaternions = rng.normal(size=(rows, 4))
            demo["obs/quaternion"] = quaternions / np.linalg.norm(quaternions, axis=1, keepdims=True)


LONG = "KITCHEN_SCENE1_open_the_bottom_drawer_of_the_cabinet_demo"
LIBERO_ACTION = (
    VectorField(field="obs/ee_states", convert="pose_reached"),
    VectorField(field="actions", take=(6, 7), convert="gripper", open=-1.0, closed=1.0),
)


@pytest.mark.parametrize("lag", [0, 1])
@pytest.mark.parametrize("action", [("actions",), LIBERO_ACTION, ()])
def test_demonstrations_read_alike(tmp_path: Path, lag: int, action: Any) -> None:
    _write_demonstrations(tmp_path / "short.hdf5", None, 'put the "red" cup away ')
    _write_demonstrations(tmp_path / "goal" / f"{LONG}.hdf5", "opencv", list('"open it"'), 1)
    state = ("obs/ee_states", VectorField(field="obs/quaternion", convert="quaternion_xyzw"), "obs/gripper_states")
    source = LiberoSource(root=str(tmp_path), name="libero", state=state, action=action, action_lag=lag, val_share=0.4)
    _compare(source, _settings(source, "libero"), tmp_path)
    raw = open_raw(_settings(source, "libero"), tmp_path)
    digest = hashlib.sha256(f"goal/{LONG}".encode()).hexdigest()[:8]
    episode = raw.open(f"libero-goal_KITCHEN_SCENE1_open_the_bo-{digest}-0012")
    assert episode.instruction(0) == "open it"
    assert len(list(episode.frames("agentview_rgb"))) == 7 - bool(action) * lag - (action == LIBERO_ACTION)
    assert raw.split_of("libero-short-0001") is raw.split_of("libero-short-12") is None


def test_a_file_of_another_lag_than_the_build_s_is_a_raw_error(tmp_path: Path) -> None:
    path = tmp_path / "task.hdf5"
    _write_demonstrations(path, None, "x")
    settings = _settings(LiberoSource(root=str(tmp_path), name="libero", action_lag=1), "libero")
    open_raw(settings, tmp_path).open("libero-task-0012")
    with h5py.File(path, "r+") as file:
        file["data"].attrs["action_lag"] = 0
    with pytest.raises(RawError, match=r"has action_lag=0, the build's settings\.source 1"):
        open_raw(settings, tmp_path).open("libero-task-0012")


def test_damaged_demonstrations_are_raw_errors(tmp_path: Path) -> None:
    path = tmp_path / "task.hdf5"
    _write_demonstrations(path, None, "x")
    settings = _settings(LiberoSource(root=str(tmp_path), name="libero"), "libero")
    whole = path.read_bytes()
    raw = open_raw(settings, tmp_path)
    for at in range(0, len(whole), 997):
        path.write_bytes(whole[:at] + b"\xff" * 200 + whole[at + 200 :])
        open_raw(settings, tmp_path)
        message = _complaint(lambda: raw.open("libero-task-0012").frames("eye_in_hand_rgb"))
        assert message is None or "task" in message
    path.write_bytes(whole)
    with h5py.File(path, "r+") as file:
        del file["data/demo_0/obs/ee_states"]
        file["data/demo_0/obs/ee_states"] = np.zeros((3, 6))
    with pytest.raises(RawError, match="expected 6 rows of numbers"):
        raw.open("libero-task-0000")


@pytest.mark.slow
@pytest.mark.parametrize("texts", ["texts.csv", "deep/texts.json"])
@pytest.mark.parametrize("split_column", [None, "set"])
def test_videos_of_a_folder_read_alike(
    sample_data: SampleData, tmp_path: Path, texts: str, split_column: str | None
) -> None:
    clips = sorted((sample_data.ssv2 / "20bn-something-something-v2").glob("*.webm"))[:4]
    names = ("a.webm", "kitchen/two words.webm", f"{'long' * 12}.webm", "./odd/../b.x.webm")
    rows = []
    for clip, name, split in zip(clips, names, ("train", "validation", " val", "test"), strict=True):
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        shutil.copy(clip, tmp_path / name)
        rows.append({"video": name, "caption": f" shows, {name} ", "set": split})
    _write_list(tmp_path / texts, rows)
    source = VideoFolderSource(
        root=str(tmp_path), name="web", texts=texts, text_column="caption", split_column=split_column, val_share=0.5
    )
    _compare(source, _settings(source, "videos"), tmp_path)
    raw = open_raw(_settings(source, "videos"), tmp_path)
    assert {ref.id: raw.split_of(ref.id) for ref in source.index().refs} == {
        ref.id: ref.split for ref in source.index().refs
    }
    if split_column:
        assert [raw.open(ref.id).instruction(0) for ref in source.index().refs if ref.split == "test"] == [None]


def _write_list(path: Path, rows: Sequence[dict[str, str]]) -> None:
    path.parent.mkdir(exist_ok=True)
    if path.suffix == ".json":
        path.write_text(json.dumps([*rows, "no entry"]))
        return
    lines = [",".join(f'"{value}"' for value in row.values()) for row in rows]
    path.write_text("\n".join([",".join(rows[0]), *lines]), "utf-8-sig")


def test_a_video_that_is_listed_twice_is_no_episode(tmp_path: Path) -> None:
    settings = _settings(VideoFolderSource(root=str(tmp_path), name="web"), "videos")
    (tmp_path / "texts.csv").write_text("video,text\na.mp4,x\na.webm,y\n../c.mp4,z\n")
    raw = open_raw(settings, tmp_path)
    with pytest.raises(RawError, match="more than once"):
        raw.open("web-a")
    assert raw.split_of("web-c") is None


def test_a_clip_with_an_answer_is_a_test_clip(sample_data: SampleData, tmp_path: Path) -> None:
    root = Path(shutil.copytree(sample_data.ssv2, tmp_path / "ssv2"))
    clip = _first(root)
    (root / "labels/test-answers.csv").write_text(f"{clip};Moving something\n999;Holding something\n")
    raw = RawSSv2(VIDEO, root)
    assert raw.split_of(f"ssv2-{clip}") == raw.split_of("ssv2-999") == "test"
    assert raw.open(f"ssv2-{clip}").instruction(0) is None


def test_images_in_a_table_and_vectors_made_from_columns_read_alike(tmp_path: Path) -> None:
    root = _write_image_robot(tmp_path / "robot")
    source = LeRobotSource(
        root=str(root),
        name="robot",
        not_instructions=("valid",),
        state=(VectorField(field="pose", scale=2.0),),
        action=(
            VectorField(field="target", convert="pose_difference", base="pose"),
            VectorField(field="pose", convert="pose_reached"),
            VectorField(field="grip", convert="relative_gripper"),
        ),
    )
    settings = _settings(source, "lerobot")
    _compare(source, settings, root)
    episode = RawLeRobot(settings, root).open("robot-000000")
    assert [episode.instruction(frame) for frame in (0, 3, 4)] == ["lift", "lift", None]
    assert RawLeRobot({**settings, "not_instructions": ["lift"]}, root).open("robot-000000").instruction(0) is None


def _write_image_robot(root: Path) -> Path:
    """LeRobot v2.1, one episode of 5 frames, its images in the table."""
    rng = np.random.default_rng(3)
    (root / "meta").mkdir(parents=True)
    (root / "data/chunk-000").mkdir(parents=True)
    pose = {"dtype": "float64", "shape": [6]}
    features = {
        "observation.images.top": {"dtype": "image", "shape": [6, 8, 3]},
        "pose": pose,
        "target": pose,
        "grip": {"dtype": "float32", "shape": [1]},
    }
    info = {"codebase_version": "v2.1", "fps": 10, "features": features, "chunks_size": 1000}
    (root / "meta/info.json").write_text(json.dumps(info))
    (root / "meta/episodes.jsonl").write_text(json.dumps({"episode_index": 0, "length": 5, "tasks": ["lift"]}) + "\n")
    (root / "meta/tasks.jsonl").write_text(json.dumps({"task_index": 4, "task": "lift"}) + "\n")
    images = [{"bytes": _png(rng.integers(0, 256, (6, 8, 3), np.uint8)), "path": f"{i}.png"} for i in range(5)]
    table = {
        "observation.images.top": images,
        "pose": rng.uniform(-3, 3, (5, 6)).tolist(),
        "target": rng.uniform(-3, 3, (5, 6)).tolist(),
        "grip": pa.array([0.0, 0.05, 1.0, 0.0, -1.0], pa.float32()),
        "task_index": [4] * 5,
        "frame_index": list(range(5)),
    }
    pq.write_table(pa.table(table), root / "data/chunk-000/episode_000000.parquet")
    return root


def _png(pixels: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def test_damaged_tables_are_raw_errors(tmp_path: Path) -> None:
    root = _write_image_robot(tmp_path / "robot")
    settings = {**ROBOT, "state": [{"field": "pose"}], "action": []}
    path = root / "data/chunk-000/episode_000000.parquet"
    whole = path.read_bytes()
    raw = RawLeRobot(settings, root)
    for at in range(0, len(whole), 61):
        path.write_bytes(whole[:at] + bytes(255 - byte for byte in whole[at : at + 8]) + whole[at + 8 :])
        message = _complaint(lambda: raw.open("robot-000000").frames("top"))
        assert message is None or "robot" in message
    path.write_bytes(whole)
    table = pq.read_table(path)
    pq.write_table(table.take([1, 0, 2, 3, 4]), path)
    with pytest.raises(RawError, match="frame_index is not that of episode 0"):
        raw.open("robot-000000")
    pq.write_table(table.set_column(1, "pose", pa.array([[float("nan")]] * 5)), path)
    with pytest.raises(RawError, match="not finite at row 0"):
        raw.open("robot-000000")


@pytest.mark.slow
def test_a_segment_begins_with_the_nearest_frame_and_is_whole(shared_data: Path) -> None:
    path = next((shared_data / "lerobot_v30").rglob("*.mp4"))
    video = [frame for _, frame in read_video(path)]
    for begin in (4, 4.4, 3.6):
        segment = list(read_segment(path, begin / 30, None, 3, 0.5 / 30))
        assert [second for second, _ in segment] == [0, 0.033333, 0.066667]
        for (_, found), wanted in zip(segment, video[4:7], strict=True):
            np.testing.assert_array_equal(found, wanted)
    assert len(list(read_segment(path, (len(video) - 1) / 30, None, 1, 0.5 / 30))) == 1
    with pytest.raises(ValueError, match="fewer than 2"):
        list(read_segment(path, (len(video) - 1) / 30, None, 2, 0.5 / 30))
    with pytest.raises(ValueError, match="nearest to"):
        list(read_segment(path, len(video) / 30 + 1, None, 1, 0.5 / 30))


def test_rotations_are_known_ones() -> None:
    quarter = np.pi / 2
    for axis in range(3):
        angles = np.zeros((1, 3))
        angles[0, axis] = quarter
        np.testing.assert_allclose(rotations.to_vector(rotations.from_euler(angles)), angles, atol=1e-15)
    # x, then y: x -> x -> -z, y -> z -> x, z -> -y -> -y, a third of a turn about (1, 1, -1)
    both = rotations.to_vector(rotations.from_euler(np.array([[quarter, quarter, 0]])))
    np.testing.assert_allclose(both, 2 * np.pi / 3 / np.sqrt(3) * np.array([[1, 1, -1]]), atol=1e-15)
    half = np.array([[0, 0, 3.0, 0]])
    np.testing.assert_allclose(rotations.to_vector(rotations.from_xyzw(half)), [[0, 0, np.pi]], atol=1e-15)
    np.testing.assert_array_equal(rotations.to_vector(rotations.from_euler(np.zeros((1, 3)))), np.zeros((1, 3)))
    with pytest.raises(ValueError, match="row 0 has no length"):
        rotations.from_xyzw(np.zeros((1, 4)))


def test_a_quaternion_and_its_negative_are_one_vector_as_the_source_makes_it() -> None:
    """Half turns too, where w is 0."""
    rng = np.random.default_rng(8)
    quaternions = np.concatenate([rng.normal(size=(200, 4)), rng.integers(-1, 2, size=(200, 4))])
    quaternions = quaternions[np.abs(quaternions).max(axis=1) > 0]
    quaternions[::3, 3] = 0
    quaternions = quaternions[np.linalg.norm(quaternions, axis=1) > 0.1]
    found, negative = (rotations.to_vector(rotations.from_xyzw(sign * quaternions)) for sign in (1, -1))
    np.testing.assert_array_equal(found, negative)
    assert np.linalg.norm(found, axis=1).max() <= np.pi + 1e-12
    unit = quaternions / np.linalg.norm(quaternions, axis=1, keepdims=True)
    np.testing.assert_allclose(found, from_quaternion(unit, "q"), atol=1e-7)


@pytest.mark.parametrize("angle", [0.0, 1e-300, 1e-9, 1.9e-4, 2.1e-4, 1.0, 3.0, np.pi - 1e-5, np.pi - 1e-9])
def test_rotations_agree_with_scipy_near_none_and_near_half_a_turn(angle: float) -> None:
    rng = np.random.default_rng(5)
    axes = rng.normal(size=(200, 3))
    vectors = angle * axes / np.linalg.norm(axes, axis=1, keepdims=True)
    theirs = Rotation.from_rotvec(vectors)
    found = rotations.to_vector(rotations.from_xyzw(theirs.as_quat()))
    np.testing.assert_allclose(found, vectors, rtol=1e-9, atol=1e-12 if angle < 3 else 1e-6)
    angles = theirs.as_euler("xyz")
    again = rotations.to_vector(rotations.from_euler(angles))
    np.testing.assert_allclose(again, Rotation.from_euler("xyz", angles).as_rotvec(), rtol=1e-9, atol=1e-12)
    turned = rotations.product(rotations.from_euler(angles[::-1]), rotations.inverse(rotations.from_euler(angles)))
    wanted = Rotation.from_euler("xyz", angles[::-1]) * Rotation.from_euler("xyz", angles).inv()
    np.testing.assert_allclose(rotations.to_vector(turned), wanted.as_rotvec(), rtol=1e-7, atol=1e-12)


@pytest.mark.parametrize(
    "convert",
    [
        *("euler_xyz", "quaternion_xyzw", "pose_difference", "pose_reached"),
        *("quaternion_pose_difference", "quaternion_pose_reached"),
    ],
)
def test_both_readers_round_rotations_to_the_same_bits(convert: str) -> None:
    rng, names = np.random.default_rng(6), {"field": "x", "convert": convert}
    width = {"euler_xyz": 3, "quaternion_xyzw": 4}.get(convert, 7 if "quaternion" in convert else 6)
    tables = {"x": rng.uniform(-3, 3, (3000, width)), "base": rng.uniform(-3, 3, (3000, width))}
    if "quaternion" in convert:
        for table in tables.values():
            table[:, -4:] /= np.linalg.norm(table[:, -4:], axis=1, keepdims=True)
    names |= {"base": "base"} if convert.endswith("difference") else {}
    ours = make_vectors((VectorField(**names),), tables.__getitem__, "file")
    assert ours is not None
    theirs, ties = RawVectors({"action": [names]}, "action").make(tables.__getitem__, len(ours))
    assert theirs is not None
    assert ties is not None
    _check_equal(ours, theirs, ties)
    turned = ours[:, -3:].astype(np.float64) * 2**24
    exact = np.abs(ours[:, -3:]) < 1
    assert exact.any()
    assert (turned == np.rint(turned))[exact].all()


def _made(values: NDArray[np.float64], convert: str, **settings: str) -> NDArray[np.float32]:
    part = {"field": "x", "convert": convert, **settings}
    made, _ = RawVectors({"state": [part]}, "state").make(lambda field: values[::-1] if field == "base" else values, 1)
    assert made is not None
    return made


def test_the_turn_from_pose_to_pose_is_about_the_fixed_axes() -> None:
    quarter = np.pi / 2
    poses = np.array([[1.0, 2, 3, quarter, 0, 0], [1.5, 2, 3, quarter, quarter, 0]])  # about x; then about y
    np.testing.assert_allclose(_made(poses, "pose_reached"), [[0.5, 0, 0, 0, quarter, 0]], atol=1e-6)
    np.testing.assert_allclose(_made(poses, "pose_difference", base="base"), [[-0.5, 0, 0, 0, -quarter, 0]], atol=1e-6)


def test_relative_commands_become_states() -> None:
    assert gripper_states([0, 0.1, 0.11, 0, -0.1, -0.2, 0.05]) == [1, 1, 0, 0, 0, 1, 1]
    assert gripper_states([0, -1, 0]) == [0, 1, 1]
    assert gripper_states([0.05, -0.05]) == [1, 1]


def test_a_part_that_is_not_understood_is_refused() -> None:
    good = {"field": "x", "take": [0, 2], "scale": 1.0, "convert": "none", "base": None, "open": None, "closed": None}
    values = np.arange(6.0).reshape(2, 3)
    np.testing.assert_array_equal(RawVectors({"state": [good]}, "state").make(lambda _: values, 2)[0], values[:, :2])
    wrong: list[dict[str, Any]] = [
        {"convert": "euler_zyx"},
        {"convert": ["none"]},
        {"take": [2, 2]},
        {"take": [0]},
        {"scale": "2"},
        {"field": 3},
        {"scale": float("nan")},
        {"convert": "gripper"},
        {"convert": "pose_difference"},
        {"base": "y"},
        {"delta": True},
    ]
    for change in wrong:
        with pytest.raises(RawError, match="no part of a vector"):
            RawVectors({"state": [{**good, **change}]}, "state")
    with pytest.raises(RawError, match="state must be a list of objects"):
        RawVectors({"state_key": "x"}, "state")
    for change, frames, reason in (({"take": [0, 4]}, 2, "3 channels"), ({"take": [1, 3]}, 3, "values for 2 frames")):
        with pytest.raises(RawError, match=reason):
            RawVectors({"state": [{**good, **change}]}, "state").make(lambda _: values, frames)


def test_ids_and_names_have_one_form() -> None:
    for path in ("a", "a/b", "x" * 40, "x" * 41, "_a", "a b", "ü/é", "-"):
        assert (short(path), clean(path)) == (short_name(path), clean_name(path))


@dataclass(frozen=True)
class _OneEpisode:
    episode: RawEpisode

    def split_of(self, episode: str) -> str | None:
        return self.episode.split

    def open(self, episode: str) -> RawEpisode:
        return self.episode


@pytest.mark.parametrize(
    ("ties", "change", "found"),
    [(False, 0, False), (False, 1, True), (True, 1, False), (True, -1, True), (True, 2, True)],
)
def test_vectors_are_equal_to_the_bit_but_for_ties_of_rotations(ties: bool, change: int, found: bool) -> None:
    rows = np.linspace(1, 2, 12, dtype=np.float32).reshape(4, 3)
    stored = (rows.view(np.int32) + change).view(np.float32)
    others = (rows.view(np.int32) + 1).view(np.float32) if ties else None
    episode = RawEpisode("e", "train", {}, ("x",), rows, rows, others, others)
    document = {"instruction": "x", "state": stored[1].tolist()}
    sample = SampleWork("k", 1, 4, 0.0, (), (), {}, document, stored[1:3], 2)
    facts = Facts((), 8, 90, True, EncoderClaim(8, "squash", "float32", ""))
    result = check_episode(EpisodeWork("e", "train", "f", (sample,)), facts, _OneEpisode(episode))
    assert [rule for rule, _, _ in result.problems] == (["L8", "L8"] if found else [])


def test_no_zero_of_a_vector_has_a_sign() -> None:
    values = np.array([[-0.0, 1.0], [0.0, -0.0]])
    part = {"field": "f", "scale": -1.0}
    state, ties = RawVectors({"state": [part]}, "state").make(lambda _: values, 2)
    assert not np.signbit(state[state == 0]).any()
    assert ties is state
    ours = make_vectors((VectorField(**part),), lambda _: values, "file")
    np.testing.assert_array_equal(ours.view(np.uint32), state.view(np.uint32))


def test_the_last_frames_of_a_video_are_held_back() -> None:
    frames = [(float(i), np.full((1, 1, 3), i, np.uint8)) for i in range(4)]
    assert [second for second, _ in drop_last_frames(lambda: iter(frames), 1)()] == [0, 1, 2]
    assert list(drop_last_frames(lambda: iter(frames[:1]), 2)()) == []
