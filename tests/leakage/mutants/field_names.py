"""Inputs from fields whose names say that they are known only later, or are targets; everything else is in order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.leakage.mutants.mutant import Mutant
from tests.leakage.tools import edit_json, refingerprint
from tests.pipeline.audit.tiny_build import ROBOT


def _source(build: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    edit_json(build, "build.json", lambda document: edit(document["settings"]["source"]), repair=False)
    refingerprint(build)


def _state(build: Path, field: str, **more: Any) -> None:
    _source(build, lambda source: source["state"].append({"field": field, "convert": "none", **more}))


def state_of_the_transition(build: Path) -> None:
    _state(build, "next.observation.state")


def state_of_robomimic_transitions(build: Path) -> None:
    _state(build, "next_obs/robot0_eef_pos")


def state_in_camel_case(build: Path) -> None:
    _state(build, "nextObservation/eePose")


def difference_from_a_later_pose(build: Path) -> None:
    _state(build, "observation/pose", convert="pose_difference", base="observation.state.next")


def reward_in_the_state(build: Path) -> None:
    _state(build, "reward")


def end_of_the_episode_in_the_state(build: Path) -> None:
    _state(build, "is_last")


def outcome_in_the_state(build: Path) -> None:
    _state(build, "annotation/success")


def second_action_column_in_the_state(build: Path) -> None:
    _state(build, "action.joint_velocity")


def camera_of_the_transition(build: Path) -> None:
    _source(build, lambda source: source.update(cameras=["front", "next.observation.images.front"]))


def view_of_the_transition(build: Path) -> None:
    """Nothing is edited: the world has such a camera."""


NEXT_VIEW = replace(ROBOT, views=("front", "next_image"))

LATER = "known only after its frame"


def _of_recordings(build: Path, **settings: Any) -> None:
    """The build says that it was made of recordings of ROS 2."""

    def edit(source: dict[str, Any]) -> None:
        part = {"take": None, "scale": 1.0, "convert": "none", "base": None, "open": None, "closed": None}
        lists = {key: [{**part, "field": field} for field in settings[key]] for key in ("state", "action")}
        cameras = [f"{name}={settings.get('topic', f'/{name}/image')}" for name in ("front", "wrist")]
        own = {"texts": None, "text": None, "times": "header", "max_age_s": 0.2, "instruction": "/task"}
        kept = {key: source[key] for key in ("name", "val_share", "split_seed")}
        source.clear()
        source.update(kept | own | lists | {"type": "mcap", "cameras": cameras, "fps": 10.0})

    _source(build, edit)


def numbers_of_the_command_in_the_state(build: Path) -> None:
    """Not by the same name: of the list of joints that is commanded the state takes one."""
    _of_recordings(build, state=["/joints:position[elbow]"], action=["/joints:position[shoulder, elbow]"])


def message_of_the_command_in_the_state(build: Path) -> None:
    _of_recordings(build, state=["/target:pose.position.x"], action=["/target:pose"])


def topic_of_later_pictures(build: Path) -> None:
    _of_recordings(build, state=["/joints:position[elbow]"], action=["/command:data"], topic="/camera/next_image")


MUTANTS = (
    Mutant(state_of_the_transition, "L8", "manifest", LATER),
    Mutant(state_of_robomimic_transitions, "L8", "manifest", LATER),
    Mutant(state_in_camel_case, "L8", "manifest", LATER),
    Mutant(difference_from_a_later_pose, "L8", "manifest", LATER),
    Mutant(reward_in_the_state, "L8", "manifest", LATER),
    Mutant(end_of_the_episode_in_the_state, "L8", "manifest", LATER),
    Mutant(outcome_in_the_state, "L8", "manifest", LATER),
    Mutant(second_action_column_in_the_state, "L3", "manifest", "is an action"),
    Mutant(camera_of_the_transition, "L1", "manifest", "shows later frames"),
    Mutant(view_of_the_transition, "L1", "manifest", "camera next_image shows later frames", NEXT_VIEW),
    Mutant(numbers_of_the_command_in_the_state, "L3", "manifest", "is an action, which is a target", ROBOT),
    Mutant(message_of_the_command_in_the_state, "L3", "manifest", "is an action, which is a target", ROBOT),
    Mutant(topic_of_later_pictures, "L1", "manifest", "camera front=/camera/next_image shows later frames", ROBOT),
)
