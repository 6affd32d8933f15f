"""Each check of a channel finds the fault that was put in, and nothing in joints that are in order."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from pipeline.inspection.cameras.look import Values
from pipeline.inspection.channels import clipping, gripper, jumps, still, units
from pipeline.inspection.flag import Flag
from tests.pipeline.inspection.films import summaries

NAMES = ("x", "y", "z")


def found(fault: Callable[[int, Values], Values] | None = None) -> list[Flag]:
    own = summaries(fault=fault)
    checks = (still.constant, still.stuck, jumps.jumps, clipping.clipped)
    return [flag for check in checks for flag in check("state", NAMES, own)]


def test_joints_in_order() -> None:
    assert found() == []


@pytest.mark.parametrize(("value", "note"), [(0.7, False), (0.0, True)])
def test_a_channel_with_one_value(value: float, note: bool) -> None:
    def fault(number: int, values: Values) -> Values:
        values[:, 1] = value
        return values

    (flag,) = found(fault)
    assert (flag.check, flag.where, flag.note, flag.episode) == ("constant-channel", "state y", note, "")


@pytest.mark.parametrize(("begin", "end"), [(0, 120), (50, 110)])
def test_a_joint_that_stuck_in_one_episode(begin: int, end: int) -> None:
    def fault(number: int, values: Values) -> Values:
        if number == 4:
            values[begin:end, 2] = values[begin, 2]
        return values

    flags = [flag for flag in found(fault) if flag.check == "stuck-channel"]
    assert [(flag.where, flag.episode, flag.frame, flag.leave_out) for flag in flags] == [
        ("state z", "e-4", begin, True)
    ]


def test_a_robot_that_rests_is_not_stuck() -> None:
    def fault(number: int, values: Values) -> Values:
        if number == 4:
            values[50:110] = values[50]
        return values

    assert [flag for flag in found(fault) if flag.check == "stuck-channel"] == []


def test_a_jump_in_one_episode() -> None:
    def fault(number: int, values: Values) -> Values:
        if number == 7:
            values[33, 0] += 3
        return values

    (flag,) = found(fault)
    assert (flag.check, flag.where, flag.episode, flag.frame, flag.leave_out) == ("jump", "state x", "e-7", 33, True)


def test_a_gripper_that_snaps_shut_is_no_jump() -> None:
    def fault(number: int, values: Values) -> Values:
        values[:, 2] = np.arange(len(values)) > 40 + number
        return values

    assert found(fault) == []


@pytest.mark.parametrize("often", [True, False])
def test_an_angle_that_wraps(often: bool) -> None:
    def fault(number: int, values: Values) -> Values:
        if often or number == 3:
            values[60:, 1] -= 2 * np.pi
        return values

    (flag,) = found(fault)
    assert (flag.check, flag.where, flag.leave_out) == ("angle-wraps", "state y", False)
    assert flag.episode == ("" if often else "e-3")


def test_a_channel_that_is_clipped() -> None:
    def fault(number: int, values: Values) -> Values:
        return np.clip(values, -1, 0.4)

    flags = found(fault)
    assert {(flag.check, flag.where) for flag in flags} == {("clipped-channel", f"state {name}") for name in NAMES}
    assert all("highest value, 0.4" in flag.detail for flag in flags)


def test_a_home_pose_at_the_end_of_the_range_is_not_clipped() -> None:
    def fault(number: int, values: Values) -> Values:
        ease = np.minimum(1, np.arange(len(values)) / 60)
        values[:, 0] = 1 - (1 - ease) ** 3  # slows down and rests
        return values

    assert [flag for flag in found(fault) if flag.check == "clipped-channel"] == []


@pytest.mark.parametrize(
    ("unit", "low", "high", "wrong"),
    [
        ("radians", -3.1, 3.1, False),
        ("radians", -170.0, 170.0, True),
        ("metres", -0.4, 0.8, False),
        ("metres", -400.0, 800.0, True),
        ("metres a step", -0.05, 0.05, False),
        ("metres a step", -4.0, 9.0, True),
        ("radians a step", -30.0, 20.0, True),
        ("0 to 1", 0.0, 1.02, False),
        ("0 to 1", 0.0, 100.0, True),
        ("degrees", -1.5, 1.5, True),
        ("degrees", -90.0, 60.0, False),
        ("millimetres", -0.4, 0.8, True),
        ("", -1e9, 1e9, False),
        ("parsecs", -1e9, 1e9, False),
    ],
)
def test_units(unit: str, low: float, high: float, wrong: bool) -> None:
    flags = list(units.misfits("state", ["x"], [unit], np.array([low]), np.array([high])))
    assert [flag.check for flag in flags] == ["wrong-unit"] * wrong


def test_grippers() -> None:
    def moving(number: int, values: Values) -> Values:
        values[:, 2] = np.arange(len(values)) > 40
        return values

    def one_idle(number: int, values: Values) -> Values:
        return moving(number, values) if number != 5 else np.column_stack([values[:, :2], np.ones(len(values))])

    def never(number: int, values: Values) -> Values:
        values[:, 2] = 1
        return values

    assert list(gripper.idle_grippers("action g", 2, summaries(fault=moving))) == []
    assert [flag.episode for flag in gripper.idle_grippers("action g", 2, summaries(fault=one_idle))] == ["e-5"]
    (flag,) = gripper.idle_grippers("action g", 2, summaries(fault=never))
    assert (flag.check, flag.episode) == ("gripper-never-moves", "")
