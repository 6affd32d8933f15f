"""Rules L1, L3, L8 and L9 on what inputs are made from by the settings: nothing that happens later, and no action.

A second reading of the raw data that follows the same settings would make the same state, so the settings themselves
must be checked.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.audit.build import ClaimedBuild
from pipeline.audit.files import BUILD
from pipeline.audit.finding import Report
from pipeline.audit.rules.field_names import claims_later, claims_target

_OF_ONE_FRAME = (
    *("none", "euler_xyz", "quaternion_xyzw", "gripper", "pose_difference"),
    "quaternion_pose_difference",
)
"""Conversions whose value at a frame depends only on the fields at that frame."""

_REACHED = ("pose_reached", "quaternion_pose_reached")
"""Conversions of a measured pose, which the state may hold as it is at the frame."""


def check(build: ClaimedBuild, report: Report) -> None:
    """Compare settings.source.state with what a state may be."""
    source = build.settings.get("source")
    _check_cameras(build, report)
    _check_texts(source, report)
    if not build.sizes.state or not isinstance(source, dict):
        return
    state, action = _parts(source, "state", report), _parts(source, "action", report)
    report.check("L8", len(state))
    report.check("L3", len(state))
    commanded = {part.get("field") for part in action if part.get("convert", "none") not in _REACHED}
    of_messages = source.get("type") == "mcap"
    for part in state:
        convert = part.get("convert", "none")
        if convert not in _OF_ONE_FRAME:
            detail = f"settings.source.state: {part.get('field')} with convert={convert!r} may depend on later frames"
            report.found("L8", BUILD, detail)
        for name in (part.get("field"), part.get("base")):
            same = name in commanded or (of_messages and any(_overlap(name, other) for other in commanded))
            if name is not None and (same or claims_target(name)):
                report.found("L3", BUILD, f"settings.source.state: {name} is an action, which is a target")
            if name is not None and claims_later(name):
                report.found("L8", BUILD, f"settings.source.state: {name} is by its name known only after its frame")


def _check_cameras(build: ClaimedBuild, report: Report) -> None:
    source = build.settings.get("source")
    cameras = source.get("cameras") if isinstance(source, dict) else None
    names = [*build.views, *(cameras if isinstance(cameras, list) else ())]
    report.check("L1", len(names))
    for name in dict.fromkeys(names):
        if claims_later(str(name), outcomes=False):
            report.found("L1", BUILD, f"settings.source: camera {name} shows later frames by its name")


def _check_texts(source: object, report: Report) -> None:
    """The fields that instructions are read from. Of a text that was written afterwards every sample would tell."""
    settings: Mapping[str, Any] = source if isinstance(source, dict) else {}
    fields = settings.get("instruction")
    listed = [fields] if isinstance(fields, str) else fields if isinstance(fields, list) else []
    names = [*listed, settings.get("text_column")]
    report.check("L9", len(names))
    for name in names:
        if isinstance(name, str) and claims_later(name):
            report.found("L9", BUILD, f"settings.source: {name} (of instructions) is by its name known later")


def _overlap(name: object, other: object) -> bool:
    """Whether two names of numbers in messages, TOPIC:PATH[NAMES], may mean the same number."""
    if not isinstance(name, str) or not isinstance(other, str):
        return False
    (topic, path, names), (topic_of_other, path_of_other, names_of_other) = map(_taken_apart, (name, other))
    nested = all(one == two for one, two in zip(path, path_of_other, strict=False))
    apart = names and names_of_other and not names & names_of_other
    return topic == topic_of_other and nested and not apart


def _taken_apart(name: str) -> tuple[str, list[str], set[str]]:
    topic, _, rest = name.partition(":")
    path, _, names = rest.partition("[")
    return topic, path.split("."), {one.strip() for one in names.removesuffix("]").split(",")} - {""}


def _parts(source: Mapping[str, Any], key: str, report: Report) -> list[Mapping[str, Any]]:
    """The objects of a list of parts; anything else is a finding."""
    value = source.get(key)
    if not isinstance(value, list) or not all(isinstance(part, dict) for part in value):
        report.found("L8", BUILD, f"settings.source.{key} must be a list of objects, found {value!r:.80}")
        return []
    return value
