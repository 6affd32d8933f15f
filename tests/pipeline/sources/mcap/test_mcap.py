"""Recordings of ROS 2: each frame with what was known at it and what was commanded from it on, by both readers."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mcap.writer import CompressionType

from pipeline.errors import RunError, SettingsError
from pipeline.sources.mcap.source import McapSource
from pipeline.sources.naming import hashed_split
from tests.mcap_files.robot import FRAME, SETTINGS, TEXT, robot_messages, write_robot
from tests.mcap_files.writer import (
    MS,
    START,
    Sent,
    array,
    compressed,
    header,
    joints,
    pose,
    raw_image,
    text,
    write_mcap,
)
from tests.pipeline.sources.both_readers import raw_of, read_by_both
from tests.pipeline.spelled import read, spell

Change = Callable[[list[Sent]], list[Sent]]


def source(root: Path, **settings: Any) -> McapSource:
    return McapSource(root=str(root), **{**SETTINGS, **settings})


def seen(root: Path, change: Change = list, frames: int = 12, **settings: Any) -> dict[str, Any]:
    """What both readers read of one recording."""
    write_mcap(root / "a.mcap", change(robot_messages(frames)))
    return read_by_both(source(root, **settings), "arm-a")


def spelled(frames: Any) -> list[int]:
    return [read(frame) for frame in frames]


def test_a_frame_has_what_was_known_at_it_and_what_is_commanded_from_it_on(tmp_path: Path) -> None:
    """The frames are 100 ms apart. Poses come each 40 ms from 80 ms before the first on, joints 7 ms later."""
    found = seen(tmp_path)
    poses = [(80 + 100 * i) // 40 for i in range(12)]
    measured = [(80 + 100 * i - 7) // 40 for i in range(12)]
    commands = [-((20 - 100 * i) // 50) for i in range(12)]
    assert spelled(found["front"]) == list(range(12))
    assert spelled(found["wrist"]) == list(range(100, 112))
    assert found["state"][:, 0].tolist() == poses
    np.testing.assert_allclose(found["state"][:, 5], np.array(poses) / 50, atol=1e-6)
    assert found["state"][:, 6].tolist() == [10 * n + 2 for n in measured]  # finger, wherever it stands in a message
    assert found["state"][:, 7].tolist() == [10 * n for n in measured]
    assert found["actions"][:, 0].tolist() == commands
    assert found["texts"] == [TEXT] * 12


@pytest.mark.parametrize("compression", list(CompressionType))
@pytest.mark.parametrize("chunk_size", [1, 2000, 2**20])
def test_chunks_of_any_size_and_compression(tmp_path: Path, compression: CompressionType, chunk_size: int) -> None:
    write_robot(tmp_path / "one", (12,))
    write_robot(tmp_path / "other", (12,), compression=compression, chunk_size=chunk_size)
    made = [read_by_both(source(tmp_path / name), "arm-run_0-b7023462") for name in ("one", "other")]
    for name, values in made[0].items():
        np.testing.assert_array_equal(values, made[1][name])


def test_frames_of_a_fixed_rate_show_the_last_picture_of_each_camera(tmp_path: Path) -> None:
    """At 20 Hz each picture is shown twice, and the wrist's next one, 70 ms after the frame, is not shown early."""
    found = seen(tmp_path, frames=4, fps=20.0)
    assert spelled(found["front"]) == [0, 0, 1, 1, 2, 2, 3]
    assert spelled(found["wrist"]) == [100, 100, 101, 101, 102, 102, 103]
    assert found["state"][:, 0].tolist() == [(80 + 50 * i) // 40 for i in range(7)]


def test_frames_before_all_inputs_and_after_the_last_action_are_left_out(tmp_path: Path) -> None:
    def change(messages: list[Sent]) -> list[Sent]:
        late = [m for m in messages if m.topic != "/joints" or m.log > START + 2 * FRAME]
        return [m for m in late if m.topic != "/command" or m.log < START + 9 * FRAME]

    found = seen(tmp_path, change)
    assert spelled(found["front"]) == list(range(3, 9))


def test_times_are_those_of_the_headers_or_of_the_recorder(tmp_path: Path) -> None:
    """Pictures of the front arrive 45 ms late: by their stamps nothing changes, by the recorder the state does."""

    def change(messages: list[Sent]) -> list[Sent]:
        moved = [replace(m, log=m.log + 45 * MS) if m.topic == "/front/image" else m for m in messages]
        return sorted(moved, key=lambda m: m.log)

    by_stamps = seen(tmp_path / "a", change)
    by_arrival = seen(tmp_path / "b", change, times="log")
    assert by_stamps["state"][:, 0].tolist() == [(80 + 100 * i) // 40 for i in range(12)]
    assert by_arrival["state"][:, 0].tolist() == [(125 + 100 * i) // 40 for i in range(12)]


@pytest.mark.parametrize("encoding", ["rgb8", "bgr8", "mono8"])
@pytest.mark.parametrize("padding", [0, 5])
def test_pictures_that_are_stored_as_they_are(tmp_path: Path, encoding: str, padding: int) -> None:
    coloured = [np.stack([spell(i)[..., 0], 255 - spell(i)[..., 1], spell(i)[..., 2] // 2], axis=2) for i in range(6)]

    def change(messages: list[Sent]) -> list[Sent]:
        rest = [m for m in messages if m.topic != "/front/image"]
        front = [raw_image("/front/image", coloured[i], START + i * FRAME, encoding, padding) for i in range(6)]
        return [*rest, *front]

    found = seen(tmp_path, change, frames=6)
    expected = np.stack(coloured)
    np.testing.assert_array_equal(found["front"], expected[..., [0, 0, 0]] if encoding == "mono8" else expected)


def test_jpegs_and_pictures_that_are_turned_by_their_exif_data(tmp_path: Path) -> None:
    def change(messages: list[Sent]) -> list[Sent]:
        rest = [m for m in messages if m.topic != "/front/image"]
        return [*rest, *(compressed("/front/image", spell(i), START + i * FRAME, kind="JPEG") for i in range(6))]

    assert spelled(seen(tmp_path, change, frames=6)["front"]) == list(range(6))


def test_a_pose_that_is_commanded_beside_the_one_measured_is_a_change_of_pose(tmp_path: Path) -> None:
    """The target is commanded after the frame, the base is where the hand was at it."""

    def change(messages: list[Sent]) -> list[Sent]:
        at = [START + 30 * MS + i * FRAME for i in range(12)]
        targets = [pose("/target", (100 + i, 0, 0), (0, 0, np.sin(0.1), np.cos(0.1)), at[i]) for i in range(12)]
        return [*messages, *targets]

    part = {"field": "/target:pose", "base": "/pose:pose", "convert": "quaternion_pose_difference"}
    found = seen(tmp_path, change, action=[part])
    known = np.array([(80 + 100 * i) // 40 for i in range(12)])
    np.testing.assert_allclose(found["actions"][:, 0], 100 + np.arange(12) - known)
    np.testing.assert_allclose(found["actions"][:, 5], 0.2 - known / 50, atol=1e-6)


def test_a_pose_that_is_reached_is_that_of_the_next_frame(tmp_path: Path) -> None:
    found = seen(tmp_path, action=[{"field": "/pose:pose", "convert": "quaternion_pose_reached"}])
    known = np.array([(80 + 100 * i) // 40 for i in range(12)])
    assert len(found["front"]) == 11  # the last one has no next
    np.testing.assert_array_equal(found["actions"][:, 0], np.diff(known))


def test_twists_trajectories_and_single_numbers(tmp_path: Path) -> None:
    def change(messages: list[Sent]) -> list[Sent]:
        found = list(messages)
        for i in range(14):
            at = START + 5 * MS + i * FRAME
            vectors = {"linear": {"x": i, "y": 0.0, "z": 1.0}, "angular": {"x": 0.0, "y": 0.0, "z": -i}}
            found.append(Sent("/twist", "geometry_msgs/msg/Twist", at, vectors))
            found.append(Sent("/grip", "std_msgs/msg/Float64", at, {"data": float(i % 2)}))
            points = [{"positions": [i, i + 0.5], "velocities": [], "time_from_start": {"sec": 0, "nanosec": 5}}]
            content = {"header": header(at), "joint_names": ["b", "a"], "points": points}
            found.append(Sent("/plan", "trajectory_msgs/msg/JointTrajectory", at, content))
        return found

    parts = [{"field": "/twist:linear", "scale": 0.1}, "/twist:angular", "/grip:data", "/plan:points.0.positions[a]"]
    found = seen(tmp_path, change, action=parts)
    assert found["actions"][3].tolist() == pytest.approx([0.3, 0, 0.1, 0, 0, -3, 1, 3.5])


def test_two_programs_may_send_joints_on_one_topic(tmp_path: Path) -> None:
    def change(messages: list[Sent]) -> list[Sent]:
        gripper = [joints("/joints", ["left_finger"], [i], START - 11 * MS + i * FRAME) for i in range(12)]
        return sorted([*messages, *gripper], key=lambda m: m.log)

    state = [*SETTINGS["state"], "/joints:position[left_finger]"]
    assert seen(tmp_path, change, state=state)["state"][:, 8].tolist() == list(range(12))


def test_an_instruction_holds_from_its_message_on(tmp_path: Path) -> None:
    """Frames before the first text are left out; a text that comes later is not known before."""

    def change(messages: list[Sent]) -> list[Sent]:
        rest = [m for m in messages if m.topic != "/task"]
        said = [text("/task", " lift it ", START + 150 * MS), text("/task", "put it back", START + 6 * FRAME)]
        return [*rest, *said]

    found = seen(tmp_path, change)
    assert spelled(found["front"]) == list(range(2, 12))
    assert found["texts"] == ["lift it"] * 4 + ["put it back"] * 6


def test_one_text_for_all_or_a_list_of_texts(tmp_path: Path) -> None:
    assert set(seen(tmp_path, instruction=None, text=" tidy up ")["texts"]) == {"tidy up"}
    write_mcap(tmp_path / "sub/b.mcap", robot_messages(8))
    (tmp_path / "texts.csv").write_text("file,text\na.mcap,open it\n./sub/b.mcap,close it\n")
    listed = source(tmp_path, instruction=None, texts="texts.csv")
    assert set(read_by_both(listed, "arm-a")["texts"]) == {"open it"}
    (tmp_path / "texts.json").write_text(json.dumps([{"file": "a.mcap", "text": "shut it"}, {"file": "a.mcap"}]))
    index = source(tmp_path, instruction=None, texts="texts.json")._listed_texts("texts.json")
    assert index == {"a.mcap": ""}
    (tmp_path / "texts.json").write_text(json.dumps([{"file": "a.mcap", "text": "shut it"}]))
    with_json = source(tmp_path, instruction=None, texts="texts.json")
    found = with_json.index()
    assert [(entry.episode[:5], entry.reason) for entry in found.left_out] == [("arm-s", "no-instruction")]
    assert set(read_by_both(with_json, "arm-a")["texts"]) == {"shut it"}


def test_the_index_lists_files_and_names_channels(tmp_path: Path) -> None:
    root = write_robot(tmp_path, (5, 5))
    (root / "run/.hidden.mcap").write_bytes(b"")
    index = source(root, val_share=0.5).index()
    assert (index.views, index.state_dim, index.action_dim, index.fps) == (("front", "wrist"), 8, 7, None)
    assert {ref.id: ref.split for ref in index.refs} == {
        name: hashed_split(name.removeprefix("arm-"), 0, 0.5) for name in ("arm-run_0-b7023462", "arm-run_1-a7becdaa")
    }
    assert index.state_names[:3] == ("x", "y", "z")
    assert index.state_names[6:] == ("finger", "shoulder")
    with pytest.raises(RunError, match=r"holds no \.mcap file"):
        source(tmp_path / "run/nothing").index()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"state": ["/pose"]}, r"'/pose' names no numbers of a message; write TOPIC:PATH"),
        ({"state": ["/joints:position[a,a]"]}, "names no numbers"),
        ({"state": ["/command:data"]}, r"an action, a target.*rule L3|same numbers.*rule L3"),
        ({"action": ["/joints:position[shoulder]"]}, r"same numbers.*rule L3"),
        ({"action": ["/pose:pose.position.x"]}, r"same numbers.*rule L3"),
        ({"state": ["/arm/action:data"]}, "an action by its name"),
        ({"cameras": ["front=/next/image"]}, "of later frames by its name"),
        ({"cameras": ["front"]}, "write NAME=TOPIC, the name of letters, digits, _ and -; got 'front'"),
        ({"cameras": ["a=/a", "a=/b"]}, "two have one name"),
        ({"cameras": []}, "cameras must be a list of at least one"),
        ({"text": "lift"}, "set one of instruction"),
        ({"instruction": None}, "set one of instruction"),
        ({"instruction": None, "text": "  "}, "text must be an instruction"),
        ({"instruction": None, "texts": "../texts.csv"}, "texts must be a list below root"),
        ({"times": "publish"}, "times must be one of header, log"),
        ({"fps": 0}, "fps must be null or above 0"),
        ({"max_age_s": -1}, "max_age_s must be 0..3600"),
    ],
)
def test_settings_that_are_refused(tmp_path: Path, settings: dict[str, Any], message: str) -> None:
    with pytest.raises((SettingsError, ValueError), match=message):
        source(tmp_path, **settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"cameras": ["front=/pose"]}, r"/pose is geometry_msgs/msg/PoseStamped, read are"),
        (
            {"cameras": ["a=/no"]},
            r"no message of /no; there are /command \(std_msgs/msg/Float64M",
        ),
        ({"state": ["/pose:pose.place"]}, "no field place; there are position, orientation"),
        ({"state": ["/joints:position[wheel]"]}, r"no message of /joints:position\[wheel\]"),
        ({"state": ["/joints:position[wheel, elbow]"]}, "wanted is each of wheel, elbow once"),
        ({"state": ["/joints:position"]}, r"whose order may change: choose of \[finger, elbow, shoulder\]"),
        ({"state": ["/pose:pose.position[x]"]}, "position is no list"),
        ({"state": ["/pose:header.frame_id"]}, "frame_id holds a str, expected a number"),
        ({"action": ["/command:data"]}, "is a list, which may be of another length in another message; set take"),
        ({"action": [{"field": "/command:data", "take": [0, 9]}]}, "has 8 channels, take="),
        ({"instruction": "/pose"}, r"/pose is geometry_msgs/msg/PoseStamped, read are std_msgs/msg/String"),
    ],
)
def test_a_plan_says_what_the_recordings_lack(tmp_path: Path, settings: dict[str, Any], message: str) -> None:
    write_robot(tmp_path, (4,))
    with pytest.raises(SettingsError, match=message):
        source(tmp_path, **settings).index()


def test_cameras_that_a_build_leaves_out_are_known_to_the_audit(tmp_path: Path) -> None:
    write_robot(tmp_path, (5,))
    raw = raw_of(source(tmp_path, cameras=SETTINGS["cameras"][:1]))
    episode = raw.open("arm-run_0-b7023462")
    assert set(episode.frame_readers) == {"front", "wrist_image"}
    assert spelled([frame for _, frame in episode.frames("wrist_image")]) == [100, 101, 102, 103, 104]


def test_numbers_of_a_list_without_a_header_have_the_recorders_time(tmp_path: Path) -> None:
    def change(messages: list[Sent]) -> list[Sent]:
        rest = [m for m in messages if m.topic != "/command"]
        return [*rest, *(array("/command", [i] * 8, START + i * FRAME) for i in range(12))]

    assert seen(tmp_path, change)["actions"][:, 0].tolist() == list(range(12))  # at the very time of the frame
