"""RLDS: the Bridge sample, and DROID, Fractal and LIBERO as their own builders write them."""

from __future__ import annotations

import json
import pickle
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from jobs.datasets.manifests import load_manifests
from pipeline.errors import EpisodeError, RunError, SettingsError
from pipeline.sources.base import EpisodeRef, SourceIndex
from pipeline.sources.naming import hashed_split
from pipeline.sources.registry import make_source
from pipeline.sources.rlds.source import RldsSource
from pipeline.sources.rlds.tfrecord import read_record
from tests.rlds.datasets import LENGTH, write_droid, write_fractal, write_libero
from tests.rlds.writer import Recorded, image_feature, steps_feature, with_flags, write_rlds

BRIDGE = "rlds/bridge_dataset"


def source_of(manifest: str, root: Path, **changes: Any) -> RldsSource:
    reader = load_manifests()[manifest].reader
    source = make_source(**{**reader, "name": manifest, "root": str(root), **changes})
    assert isinstance(source, RldsSource)
    return source


@pytest.fixture(scope="module")
def droid(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_droid(tmp_path_factory.mktemp("rlds"), shared_data)


@pytest.fixture(scope="module")
def fractal(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_fractal(tmp_path_factory.mktemp("rlds"), shared_data)


@pytest.fixture(scope="module")
def libero(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_libero(tmp_path_factory.mktemp("rlds"), shared_data)


def opened(source: RldsSource, index: SourceIndex) -> tuple[dict[str, Any], dict[str, str]]:
    """Text of the first step -> (states, actions, one frame a view), and reason by id of what cannot be opened."""
    found, reasons = {}, {}
    for ref in index.refs:
        try:
            with source.open(ref) as episode:
                n = episode.num_frames
                states = np.stack([episode.state(i) for i in range(n)])  # type: ignore[misc]
                frames = {view: episode.frames(view, [n - 1])[0] for view in index.views}
                found[episode.instruction(0)] = (states, episode.actions(0, n), frames)
        except EpisodeError as error:
            reasons[ref.id] = error.reason
    return found, reasons


def test_bridge_sample(shared_data: Path) -> None:
    source = source_of("bridge", shared_data / BRIDGE)
    index = source.index()
    assert (index.views, index.state_dim, index.action_dim, index.fps) == (("image_0",), 7, 7, 5.0)
    assert index.description["episodes"] == {"train": 25, "val": 25}
    assert index.left_out == ()
    assert all(ref.num_frames is None for ref in index.refs)
    plain = source_of("bridge", shared_data / BRIDGE, skip_first=0, action=["action"])
    for ours, raw in zip(index.refs[::7], plain.index().refs[::7], strict=True):
        with source.open(ours) as episode, plain.open(raw) as whole:
            assert (whole.num_frames, episode.num_frames) == (10, 8)
            states = np.stack([whole.state(i) for i in range(10)]).astype(np.float64)  # type: ignore[misc]
            actions = episode.actions(0, 8)
            assert actions is not None
            np.testing.assert_array_equal(episode.state(3), states[4].astype(np.float32))
            np.testing.assert_allclose(actions[:, :3], np.diff(states[1:, :3], axis=0), atol=1e-6)
            for i in range(8):
                turned = Rotation.from_rotvec(actions[i, 3:6]) * Rotation.from_euler("xyz", states[i + 1, 3:6])
                reached = Rotation.from_euler("xyz", states[i + 2, 3:6])
                assert (turned.inv() * reached).magnitude() < 1e-5
            commanded = whole.actions(1, 9)
            assert commanded is not None
            np.testing.assert_allclose(actions[:, 6], commanded[:, 6], atol=1e-6)
            np.testing.assert_array_equal(episode.frames("image_0", [2]), whole.frames("image_0", [3]))
            assert episode.timestamps([5]).tolist() == [1.0]


def test_a_black_camera_quarantines_and_flags_are_not_believed(shared_data: Path) -> None:
    """All has_image flags of the sample are 0; cameras 0 to 2 hold images, camera 3 is black."""
    for camera, reason in (("image_1", None), ("image_2", None), ("image_3", "blank-camera")):
        source = source_of("bridge", shared_data / BRIDGE, cameras=[camera])
        _, reasons = opened(source, source.index())
        assert set(reasons.values()) == ({reason} if reason else set())


@pytest.mark.slow
def test_droid(droid: Path) -> None:
    source = source_of("droid", droid)
    index = source.index()
    assert index.views == ("exterior_image_1_left", "wrist_image_left")
    assert (index.state_dim, index.action_dim, index.fps) == (7, 7, 15.0)
    assert {ref.split for ref in index.refs} <= {"train", "val"}
    assert all(ref.split == hashed_split(ref.id.partition("-")[2], 0, 0.05) for ref in index.refs)
    found, reasons = {}, []
    for ref in index.refs:
        try:
            with source.open(ref) as episode:
                text = episode.instruction(0)
                states = np.stack([episode.state(i) for i in range(LENGTH)])  # type: ignore[misc]
                found[text] = (states, episode.actions(0, LENGTH), episode.frames("wrist_image_left", [3])[0])
        except EpisodeError as error:
            reasons.append((error.reason, "failure" in error.detail))
    assert sorted(reasons) == [("no-instruction", False), ("not-wanted", True)]
    assert sorted(found) == ["put the cup in the sink", "wipe the table"]
    for states, actions, frame in found.values():
        assert frame.shape == (180, 320, 3)
        assert actions.shape == (LENGTH, 7)
        np.testing.assert_allclose(actions[:, 6], 1 - states[:, 6], atol=1e-6)
        assert 0 < np.abs(actions[:, :6]).max() < 0.2


@pytest.mark.slow
def test_fractal(fractal: Path) -> None:
    source = source_of("fractal", fractal)
    index = source.index()
    assert (index.views, index.state_dim, index.action_dim) == (("image",), 8, 7)
    assert len({ref.files[0][0] for ref in index.refs}) == 2
    for ref in index.refs:
        with source.open(ref) as episode:
            assert episode.instruction(0) == "pick coke can"
            actions = episode.actions(0, LENGTH)
            assert actions is not None
            # Closed by the command at 5 (so open before), opened again by that at 11.
            assert actions[:, 6].tolist() == [1] * 5 + [0] * 6 + [1] * 5
            assert episode.frames("image", [0]).shape == (1, 256, 320, 3)
    plain = source_of("fractal", fractal, action=["action/rotation_delta"])
    with source.open(index.refs[0]) as episode, plain.open(plain.index().refs[0]) as raw:
        angles, actions = raw.actions(0, LENGTH), episode.actions(0, LENGTH)
        assert angles is not None
        assert actions is not None
        turned = Rotation.from_rotvec(actions[:, 3:6]).as_matrix()
        np.testing.assert_allclose(turned, Rotation.from_euler("xyz", angles).as_matrix(), atol=1e-6)


@pytest.mark.slow
def test_libero(libero: Path) -> None:
    source, plain = source_of("libero_spatial", libero), source_of("libero_spatial", libero, action=["action"])
    index = source.index()
    assert (index.views, index.state_dim, index.action_dim) == (("image", "wrist_image"), 8, 7)
    with source.open(index.refs[0]) as episode, plain.open(plain.index().refs[0]) as raw:
        ours, theirs = episode.actions(0, LENGTH), raw.actions(0, LENGTH)
        assert ours is not None
        assert theirs is not None
        np.testing.assert_allclose(ours[:, :3], theirs[:, :3] * 0.05, atol=1e-7)
        np.testing.assert_allclose(ours[:, 3:6], theirs[:, 3:6] * 0.5, atol=1e-7)
        assert ours[:, 6].tolist() == [1] * 8 + [0] * 8


@pytest.mark.slow
def test_reading_loads_no_tensorflow(shared_data: Path) -> None:
    """Workers that also drive an encoder must not share its device with TensorFlow."""
    program = f"""
import sys
from pipeline.sources.rlds.source import RldsSource
source = RldsSource(root={str(shared_data / BRIDGE)!r}, name="bridge", fps=5, cameras=("image_0",))
ref = source.index().refs[0]
with source.open(ref) as episode:
    print(episode.frames("image_0", [0]).shape, "tensorflow" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[0] == "(1, 64, 64, 3) False"


@pytest.mark.slow
def test_splits_and_ids_go_over_all_files(tmp_path: Path) -> None:
    """A dataset with train and validation, three files each: every episode once, numbered through."""

    def features(tfds: Any) -> Any:
        observation = tfds.features.FeaturesDict({"image": image_feature(tfds, 8, 8), "state": np.float32})
        step = {"observation": observation, "action": np.float32, "language_instruction": tfds.features.Text()}
        return {"steps": steps_feature(tfds, step)}

    def recorded(number: int) -> Recorded:
        image = np.full((8, 8, 3), 10 * number, np.uint8)
        image[:4] += 20
        observation = {"image": image, "state": float(number)}
        steps = [{"observation": observation, "action": float(i), "language_instruction": "go"} for i in range(4)]
        return Recorded(with_flags(steps), {})

    splits = {"train": [recorded(i) for i in range(7)], "validation": [recorded(i) for i in range(7, 11)]}
    folder = write_rlds(tmp_path, "toy", "2.0.0", features, splits, shards=3)
    source = RldsSource(root=str(tmp_path / "toy"), name="toy", fps=10, cameras=("image",))
    index = source.index()
    assert index.description["episodes"] == {"train": 7, "val": 4}
    assert sorted(ref.id for ref in index.refs if ref.split == "train") == [f"toy-train-{i:06d}" for i in range(7)]
    numbers = []
    for ref in index.refs:
        with source.open(ref) as episode:
            state = episode.state(0)
            assert state is not None
            numbers.append((ref.split, int(state[0])))
    assert sorted(numbers) == sorted([("train", i) for i in range(7)] + [("val", i) for i in range(7, 11)])
    (folder / "toy-train.tfrecord-00001-of-00003").unlink()
    index = source.index()
    assert {entry.reason for entry in index.left_out} == {"missing-file"}
    assert len(index.refs) + len(index.left_out) == 11


def copy_of(shared_data: Path, tmp_path: Path) -> Path:
    root = tmp_path / "bridge"
    shutil.copytree(shared_data / BRIDGE / "1.0.0", root)
    for path in (root, *root.iterdir()):
        path.chmod(0o755)
    return root


@pytest.mark.slow
@pytest.mark.parametrize("place", [3, 9, 40, 5000, -3])
def test_a_changed_byte_is_found_by_its_checksum(shared_data: Path, tmp_path: Path, place: int) -> None:
    """In the first record's length, its checksum, its payload; in the last record's checksum."""
    root = copy_of(shared_data, tmp_path)
    path = root / "bridge_dataset-train.tfrecord-00000-of-00001"
    content = bytearray(path.read_bytes())
    content[place] ^= 4
    path.write_bytes(content)
    source = source_of("bridge", root)
    refs = [ref for ref in source.index().refs if ref.split == "train"]
    reasons = []
    for ref in refs:
        try:
            source.open(ref).close()
        except EpisodeError as error:
            reasons.append((error.reason, str(path) in error.detail))
    assert reasons == [("undecodable", True)] * (25 if place in (3, 9) else 1)


def test_a_truncated_file_loses_only_what_is_cut_off(shared_data: Path, tmp_path: Path) -> None:
    root = copy_of(shared_data, tmp_path)
    path = root / "bridge_dataset-train.tfrecord-00000-of-00001"
    path.write_bytes(path.read_bytes()[:-1000])
    read_record(str(path), 23)
    with pytest.raises(EpisodeError, match=r"records 0\.\.23; 24 was requested"):
        read_record(str(path), 24)
    source = source_of("bridge", root)
    with pytest.raises(EpisodeError, match="changed-file"):
        source.open(EpisodeRef("x", "train", ((path.name, 5),), None, {"record": 0}))


@pytest.mark.slow
def test_folders_that_are_none(shared_data: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"holds no dataset_info\.json"):
        source_of("bridge", tmp_path).index()
    root = copy_of(shared_data, tmp_path / "a")
    shutil.copytree(root, tmp_path / "a" / "2.0.0")
    shutil.move(root, tmp_path / "a" / "1.0.0")
    with pytest.raises(RunError, match=r"several versions: 1\.0\.0, 2\.0\.0"):
        source_of("bridge", tmp_path / "a").index()
    root = tmp_path / "a" / "1.0.0"
    info = json.loads((root / "dataset_info.json").read_text())
    (root / "dataset_info.json").write_text(json.dumps({**info, "fileFormat": "array_record"}))
    with pytest.raises(RunError, match="stored as array_record, expected tfrecord"):
        source_of("bridge", root).index()
    info["splits"][1]["name"] = "leftover"
    (root / "dataset_info.json").write_text(json.dumps(info))
    with pytest.raises(RunError, match="has the splits leftover"):
        source_of("bridge", root).index()
    (root / "features.json").write_text("{")
    with pytest.raises(RunError, match=r"features\.json cannot be read"):
        source_of("bridge", root).index()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cameras": ["image_9"]}, "cameras: image_9 is not in .*allowed are image_0, image_1, image_2, image_3"),
        ({"instruction": ["text"]}, "allowed are episode_metadata/file_path, language_instruction"),
        ({"wanted": {"path": "x"}}, "wanted: path is not in"),
        ({"state": ["observation/pose"]}, "state: 'observation/pose' is no vector"),
    ],
)
def test_fields_that_are_not_there(shared_data: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        source_of("bridge", shared_data / BRIDGE, **changes).index()


@pytest.mark.parametrize(
    "changes",
    [
        {"fps": 0},
        {"skip_first": -1},
        {"skip_first": 1.5},
        {"fps": "fast"},
        {"cameras": []},
        {"instruction": "text"},
        {"wanted": {"a": "("}},
        {"val_share": 1},
    ],
)
def test_settings_that_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match="must be"):
        make_source("rlds", **{"root": ".", "name": "x", "fps": 5, "cameras": ("a",), **changes})


def test_source_and_ref_can_be_sent_to_workers(shared_data: Path) -> None:
    source = source_of("bridge", shared_data / BRIDGE)
    sent, ref = pickle.loads(pickle.dumps((source, source.index().refs[7])))
    with sent.open(ref) as episode:
        assert episode.frames("image_0", [1]).shape == (1, 64, 64, 3)
