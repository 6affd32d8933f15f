"""State and action vectors from fields: rotations that are known, grippers, and what must be refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from pipeline.errors import EpisodeError, SettingsError
from pipeline.sources.episode.vectors import (
    absolute_gripper,
    lost_frames,
    make_vectors,
    parse_fields,
    vector_width,
)
from pipeline.sources.registry import make_source

QUARTER = np.pi / 2
ANGLES = st.tuples(st.floats(-3.1, 3.1), st.floats(-1.5, 1.5), st.floats(-3.1, 3.1))


def vectors(state: Any = (), action: Any = ()) -> None:
    make_source("lerobot", root=".", name="x", state=state, action=action)


def made(field: Any, **fields: Any) -> NDArray[np.float32]:
    arrays = {name: np.asarray(values, np.float64) for name, values in fields.items()}
    result = make_vectors(parse_fields([field], "action"), lambda name: arrays[name], "file")
    assert result is not None
    return result


KNOWN = {
    "about x": ((QUARTER, 0, 0), (QUARTER, 0, 0)),
    "about y": ((0, QUARTER, 0), (0, QUARTER, 0)),
    "about z": ((0, 0, QUARTER), (0, 0, QUARTER)),
    "nothing": ((0, 0, 0), (0, 0, 0)),
    # First 90 degrees about x, then 90 about the fixed z: 120 degrees about (1, 1, 1).
    "x then z": ((QUARTER, 0, QUARTER), tuple(np.full(3, 2 * np.pi / 3 / np.sqrt(3)))),
    # The two in a chain about the body's own axes would be 120 degrees about (1, -1, 1) instead.
    "half a turn": ((0, 0, np.pi), (0, 0, np.pi)),
}


@pytest.mark.parametrize("name", KNOWN)
def test_known_euler_angles(name: str) -> None:
    angles, expected = KNOWN[name]
    np.testing.assert_allclose(made({"field": "a", "convert": "euler_xyz"}, a=[angles])[0], expected, atol=1e-6)


@pytest.mark.parametrize("name", KNOWN)
def test_known_quaternions(name: str) -> None:
    vector = np.array(KNOWN[name][1])
    angle = np.linalg.norm(vector)
    axis = vector / angle if angle else vector
    quaternion = [*(axis * np.sin(angle / 2)), np.cos(angle / 2)]
    field = {"field": "q", "convert": "quaternion_xyzw"}
    np.testing.assert_allclose(made(field, q=[quaternion])[0], vector, atol=1e-6)


PART = st.sampled_from([0.0, 1e-9, 1e-4, 0.5, 1.0]).flatmap(lambda x: st.sampled_from([x, -x]))


@settings(max_examples=200, deadline=None)
@given(st.tuples(PART, PART, PART, PART).filter(lambda q: max(map(abs, q)) >= 0.5))
def test_a_quaternion_and_its_negative_give_one_vector(parts: tuple[float, ...]) -> None:
    """Of half a turn at most; half a turn itself, where w is 0, is no exception."""
    quaternion = np.array(parts) / np.linalg.norm(parts)
    found = made({"field": "q", "convert": "quaternion_xyzw"}, q=[quaternion, -quaternion])
    np.testing.assert_array_equal(found[0], found[1])
    assert np.linalg.norm(found[0].astype(np.float64)) <= np.pi + 1e-6
    np.testing.assert_allclose(
        Rotation.from_rotvec(found[0]).as_matrix(), Rotation.from_quat(quaternion).as_matrix(), atol=1e-6
    )


@settings(max_examples=100, deadline=None)
@given(ANGLES, ANGLES, st.tuples(*[st.floats(-1, 1)] * 6))
def test_a_pose_difference_leads_from_one_pose_to_the_other(a: Any, b: Any, places: Any) -> None:
    now, target = [*places[:3], *a], [*places[3:], *b]
    field = {"field": "target", "base": "now", "convert": "pose_difference"}
    found = made(field, now=[now], target=[target])[0].astype(np.float64)
    np.testing.assert_allclose(np.array(now[:3]) + found[:3], target[:3], atol=1e-6)
    turned = Rotation.from_rotvec(found[3:]) * Rotation.from_euler("xyz", now[3:])
    np.testing.assert_allclose(turned.as_matrix(), Rotation.from_euler("xyz", target[3:]).as_matrix(), atol=1e-5)


def test_small_differences_are_the_difference_of_the_angles() -> None:
    field = {"field": "target", "base": "now", "convert": "pose_difference"}
    found = made(field, now=[[0, 0, 0, 0, 0, 0]], target=[[0.01, 0, -0.02, 1e-3, -2e-3, 3e-3]])[0]
    np.testing.assert_allclose(found, [0.01, 0, -0.02, 1e-3, -2e-3, 3e-3], atol=1e-5)


def test_angles_that_wrap_are_no_large_turn() -> None:
    """Yaw from +179 to -179 degrees is a turn of 2 degrees; subtracting the angles would say -358."""
    field = {"field": "pose", "convert": "pose_reached"}
    found = made(field, pose=[[0, 0, 0, 0, 0, np.deg2rad(179)], [0, 0, 0, 0, 0, np.deg2rad(-179)]])
    np.testing.assert_allclose(found, [[0, 0, 0, 0, 0, np.deg2rad(2)]], atol=1e-6)


def test_poses_with_quaternions_differ_as_those_with_angles() -> None:
    """Of random poses, whatever sign their quaternions have."""
    rng = np.random.default_rng(3)
    angles, places = rng.uniform(-1.5, 1.5, (2, 9, 3)), rng.normal(size=(2, 9, 3))
    turns = [Rotation.from_euler("xyz", turn).as_quat() * rng.choice([-1, 1], (9, 1)) for turn in angles]
    euler = {name: np.hstack([places[i], angles[i]]) for i, name in enumerate("ab")}
    quaternions = {name: np.hstack([places[i], turns[i]]) for i, name in enumerate("ab")}
    for kind, base in (("pose_difference", {"base": "b"}), ("pose_reached", {})):
        expected = made({"field": "a", "convert": kind, **base}, **euler)
        found = made({"field": "a", "convert": f"quaternion_{kind}", **base}, **quaternions)
        np.testing.assert_allclose(found, expected, atol=2e-7)
    with pytest.raises(EpisodeError, match=r"bad-rotation: .* a at frame 0 has length 2, a rotation has 1"):
        made({"field": "a", "convert": "quaternion_pose_reached"}, a=[[0, 0, 0, 0, 0, 0, 2]] * 3)


def test_the_reached_pose_shortens_every_part_by_one() -> None:
    chosen = parse_fields([{"field": "pose", "convert": "pose_reached"}, {"field": "grip"}], "action")
    fields = {"pose": np.cumsum(np.ones((4, 6)) * 0.01, 0), "grip": np.array([[1.0], [2], [3], [4]])}
    found = make_vectors(chosen, lambda name: fields[name], "file")
    assert found is not None
    assert found.shape == (3, 7)
    assert found[:, 6].tolist() == [1, 2, 3]
    assert (lost_frames(chosen), lost_frames(parse_fields(["grip"], "action"))) == (1, 0)


@pytest.mark.parametrize(("open_", "closed"), [(1, 0), (0, 1), (-1, 1), (0.08, 0.0)])
def test_grippers_meet_at_one_open(open_: float, closed: float) -> None:
    field = {"field": "g", "convert": "gripper", "open": open_, "closed": closed}
    values = [[open_], [closed], [(open_ + closed) / 2]]
    np.testing.assert_allclose(made(field, g=values).ravel(), [1, 0, 0.5], atol=1e-6)


@pytest.mark.parametrize(
    ("commands", "expected"),
    [
        ([0, 1, 0, 0, -1, 0], [1, 0, 0, 0, 1, 1]),
        ([0, -1, 0], [0, 1, 1]),
        ([0, 0.05, -0.05], [1, 1, 1]),
        ([1], [0]),
        ([-0.5, 0, 0.5], [1, 1, 0]),
    ],
)
def test_relative_grippers_hold_their_state(commands: list[float], expected: list[float]) -> None:
    assert absolute_gripper(np.array(commands, np.float64)).tolist() == expected
    field = {"field": "g", "convert": "relative_gripper"}
    assert made(field, g=[[value] for value in commands]).ravel().tolist() == expected


def test_scale_comes_before_the_conversion() -> None:
    field = {"field": "a", "take": [3, 6], "scale": 0.5, "convert": "euler_xyz"}
    np.testing.assert_allclose(made(field, a=[[9, 9, 9, 0, 0, np.pi]])[0], [0, 0, QUARTER], atol=1e-6)


def test_width_of_a_vector() -> None:
    chosen = parse_fields(["a", {"field": "b", "take": [1, 5], "convert": "quaternion_xyzw"}], "state")
    assert vector_width(chosen, {"a": 2, "b": 7}, "state", "file") == 5
    poses = parse_fields([{"field": "a", "base": "b", "convert": "pose_difference"}], "action")
    with pytest.raises(SettingsError, match="base b must be a pose of 6 channels, got 7"):
        vector_width(poses, {"a": 6, "b": 7}, "action", "file")
    for widths, message in (({"a": 2}, "'b' is no vector"), ({"a": 2, "b": 4}, "has 4 channels")):
        with pytest.raises(SettingsError, match=message):
            vector_width(chosen, widths, "state", "file")


REFUSED: list[tuple[Any, str]] = [
    ("observation.state", "must be a list"),
    ([{"take": [0, 1]}], "an entry is a name"),
    ([{"field": "a", "colour": 1}], "an entry is a name"),
    ([{"field": "a", "convert": "euler_zyx"}], "convert must be one of"),
    ([{"field": "a", "take": [3, 3]}], "take must be"),
    ([{"field": "a", "convert": "pose_difference"}], "base belongs to"),
    ([{"field": "a", "base": "b"}], "base belongs to"),
    ([{"field": "a", "convert": "gripper", "open": 1}], "two different values under"),
    ([{"field": "a", "open": 1}], "open and closed belong"),
    ([{"field": "a", "convert": "pose_reached", "scale": 2}], "scale must be 1"),
]


@pytest.mark.parametrize(("value", "message"), REFUSED)
def test_what_is_refused(value: Any, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        vectors(action=value)


@pytest.mark.parametrize("convert", ["pose_reached", "quaternion_pose_reached", "relative_gripper"])
def test_a_state_may_not_look_ahead(convert: str) -> None:
    vectors(action=[{"field": "a", "convert": convert}])
    with pytest.raises(SettingsError, match=r"looks at later frames.*rule L8"):
        vectors(state=[{"field": "a", "convert": convert}])


def test_a_state_may_not_be_an_action() -> None:
    reached = {"field": "pose", "convert": "pose_reached"}
    vectors(state=["pose"], action=[reached, "grip"])  # the pose now, not the one reached
    with pytest.raises(SettingsError, match=r"state: grip is an action, a target.*rule L3"):
        vectors(state=["pose", "grip"], action=[reached, "grip"])


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e39])
def test_numbers_that_are_none(bad: float) -> None:
    for field in ("a", {"field": "a", "convert": "euler_xyz"}):
        with pytest.raises(EpisodeError, match=r"a at frame 1, channel 2") as caught:
            made(field, a=[[0, 0, 0], [0, 0, bad]])
        assert caught.value.reason == "not-finite"


def test_fields_of_different_lengths() -> None:
    fields = {"a": np.zeros((4, 2)), "b": np.zeros((3, 1)), "pose": np.zeros((4, 6))}
    for chosen in (["a", "b"], [{"field": "pose", "convert": "pose_reached"}, "b"]):
        with pytest.raises(EpisodeError, match=r"length-mismatch: file: rows by \w+ 4, b 3"):
            make_vectors(parse_fields(chosen, "action"), lambda name: fields[name], "file")


def test_a_base_that_is_not_finite() -> None:
    field = {"field": "target", "base": "now", "convert": "pose_difference"}
    with pytest.raises(EpisodeError, match="not-finite"):
        made(field, now=[[0, 0, 0, 0, 0, np.nan]], target=[[0.0] * 6])


def test_a_quaternion_that_is_no_rotation() -> None:
    with pytest.raises(EpisodeError, match="bad-rotation"):
        made({"field": "q", "convert": "quaternion_xyzw"}, q=[[0, 0, 0, 0]])


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("next.observation.state", "later frame"),
        ("next_obs/ee_pos", "later frame"),
        ("nextState", "later frame"),
        ("observation.state.future", "later frame"),
        ("action.joints", "action by its name"),
        ("actions", "action by its name"),
        ("reward", "outcome"),
        ("is_last", "outcome"),
        ("annotation/success", "outcome"),
    ],
)
def test_names_of_what_is_known_later_are_refused(name: str, why: str) -> None:
    with pytest.raises(SettingsError, match=why):
        vectors(state=["pose", name])


@pytest.mark.parametrize("name", ["previous_action", "obs/prev_actions", "context", "nextto", "distance_next_to_wall"])
def test_names_that_only_look_like_it_are_not(name: str) -> None:
    vectors(state=[name])


def test_cameras_of_later_frames_are_refused() -> None:
    with pytest.raises(SettingsError, match=r"cameras: next\.image is of later frames.*rule L1"):
        make_source("rlds", root="", name="a", fps=5, cameras=["image_0", "next.image"], state=[], action=[])
    with pytest.raises(SettingsError, match="cameras: next_obs"):
        make_source("libero", root="", name="a", cameras=["next_obs/agentview_rgb"])
    make_source("libero", root="", name="a", cameras=["next_to_robot_rgb"])
