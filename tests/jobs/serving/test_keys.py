"""Contents of a message that are accepted, and the errors for others."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from jobs.serving.keys import MessageKeys, read_observation, read_seed
from pipeline.errors import SettingsError
from tests.jobs.serving.fakes import INTERFACE, message, observation

KEYS = MessageKeys.of(INTERFACE, {})
FRONT, WRIST = observation(5).images["front"], observation(5).images["wrist"]


@pytest.mark.parametrize(
    "content",
    ids=["libero", "flat", "nested", "aloha", "more"],
    argvalues=[
        message(5),
        {"images/front": FRONT, "images/wrist": WRIST, "state": [5, 0.5, -5], "prompt": "xxxxxx"},
        {
            "observation": {"front": FRONT, "wrist": WRIST, "state": np.array([5, 0.5, -5])},
            "prompt": np.array("xxxxxx"),
        },
        {"images": {"front": FRONT, "wrist": WRIST}, "state": observation(5).state, "prompt": np.str_("xxxxxx")},
        {**message(5), "observation/exterior_image": FRONT[:1], "other": {"deep": [None]}, "seed": 3},
    ],
)
def test_the_same_observation_in_every_form_that_is_accepted(content: dict[str, Any]) -> None:
    found, wanted = read_observation(content, KEYS, INTERFACE), observation(5)
    assert found.instruction == wanted.instruction
    assert found.state.dtype == np.float32
    np.testing.assert_array_equal(found.state, wanted.state)
    for view in INTERFACE.views:
        np.testing.assert_array_equal(found.images[view], wanted.images[view])


def test_openpis_wrist_image_is_the_wrists_whatever_the_order_of_the_views() -> None:
    turned = replace(INTERFACE, views=("wrist", "front"))
    found = read_observation(message(5), MessageKeys.of(turned, {}), turned)
    for view in INTERFACE.views:
        np.testing.assert_array_equal(found.images[view], observation(5).images[view])
    unnamed = replace(INTERFACE, views=("cam_0", "cam_1"))
    keys = MessageKeys.of(unnamed, {}).images
    assert keys["cam_0"][-1] == "observation/image"
    assert keys["cam_1"][-1] == "observation/wrist_image"


@pytest.mark.parametrize(
    ("changes", "fragment"),
    [
        (
            {"observation__image": None},
            r"image 'front' is missing; send it as images/front or observation/front or observation/image; "
            r"the message has observation/state, observation/wrist_image, prompt$",
        ),
        ({"observation__image": np.zeros((8, 8, 3), np.float32)}, r"uint8 array \[H, W, 3\], got float32 \[8, 8, 3\]"),
        (
            {"observation__image": np.zeros((3, 8, 9), np.uint8)},
            r"got uint8 \[3, 8, 9\]; it looks like \[3, H, W\]: send np.tr",
        ),
        ({"observation__image": np.zeros((1, 8, 9, 3), np.uint8)}, r"got uint8 \[1, 8, 9, 3\]$"),
        ({"observation__image": np.zeros((0, 8, 3), np.uint8)}, r"got uint8 \[0, 8, 3\]$"),
        ({"observation__image": b"jpeg"}, "got a bytes"),
        ({"observation__state": np.zeros(4)}, r"state must have 3 numbers, got shape \[4\]"),
        ({"observation__state": np.zeros((1, 3))}, r"must be a list of numbers, got float64 \[1, 3\]"),
        ({"observation__state": ["a", 1, 2]}, "must be a list of numbers"),
        ({"observation__state": [[1], 1, 2]}, "must be a list of numbers"),
        ({"observation__state": "0 1 2"}, "must be a list of numbers, got a str"),
        ({"observation__state": [0.0] * 2000}, "must be a list of at most 1024 numbers, got 2000"),
        ({"observation__state": np.array([np.nan, 0, 0])}, "state must be finite"),
        ({"observation__state": np.array([1e300, 0, 0])}, "state must be finite"),
        ({"observation__state": None}, "the state is missing; send it as observation/state or state"),
        ({"prompt": " "}, "the instruction is empty"),
        ({"prompt": None}, "the instruction is missing; send it as prompt"),
        ({"prompt": ["open"]}, r"the instruction \(prompt\) must be text, got a list"),
    ],
)
def test_what_is_wrong_is_named(changes: dict[str, Any], fragment: str) -> None:
    content = message(**changes)
    with pytest.raises(ValueError, match=fragment):
        read_observation(content, KEYS, INTERFACE)


def test_a_policy_without_state_wants_none() -> None:
    without = replace(INTERFACE, state=0)
    content = message(observation__state=None)
    assert read_observation(content, MessageKeys.of(without, {}), without).state.shape == (0,)


def test_own_keys_come_first_and_a_state_may_come_in_parts() -> None:
    keys = MessageKeys.of(INTERFACE, {"wrist": "observation/image", "state": "arm/joints+arm/gripper"})
    assert keys.images["wrist"] == (
        "observation/image",
        "images/wrist",
        "observation/wrist",
        "observation/wrist_image",
    )
    assert keys.images["front"] == ("images/front", "observation/front")
    content = {"images": {"front": FRONT}, "observation/image": WRIST, "prompt": "x"}
    content |= {"arm": {"joints": [1.0, 2.0], "gripper": 3}}
    found = read_observation(content, keys, INTERFACE)
    assert found.state.tolist() == [1, 2, 3]
    assert found.images["wrist"] is WRIST
    with pytest.raises(ValueError, match=r"send it as arm/joints\+arm/gripper or observation/state or state"):
        read_observation({**content, "arm": {"joints": [1.0]}}, keys, INTERFACE)


def test_a_view_keeps_its_own_name() -> None:
    swapped = replace(INTERFACE, views=("wrist_image", "image", "state"))
    keys = MessageKeys.of(swapped, {})
    assert keys.images["wrist_image"] == ("images/wrist_image", "observation/wrist_image")
    assert keys.images["image"] == ("images/image", "observation/image")
    assert keys.images["state"] == ("images/state",)


@pytest.mark.parametrize(
    ("own", "fragment"),
    [
        ({"left": "cam"}, r"keys\.left: this policy has no such input; there are front, wrist, state, prompt"),
        ({"front": "images/wrist"}, "this key holds image 'wrist'"),
        ({"front": "cam", "wrist": "cam"}, "this key holds image 'front'"),
        ({"front": "prompt"}, "this key holds the prompt"),
        ({"front": ""}, "give a key of the message"),
        ({"state": "a+"}, "give a key of the message"),
    ],
)
def test_keys_that_do_not_fit_are_refused(own: dict[str, str], fragment: str) -> None:
    with pytest.raises(SettingsError, match=fragment):
        MessageKeys.of(INTERFACE, own)


@pytest.mark.parametrize("seed", [-1, 2**63, 1.5, True, "7", [1]])
def test_a_seed_is_an_integer_that_torch_takes(seed: Any) -> None:
    with pytest.raises(ValueError, match="seed must be an integer"):
        read_seed({"seed": seed})


def test_a_seed_may_be_of_numpy() -> None:
    assert [read_seed({"seed": np.int32(7)}), read_seed({"seed": 2**63 - 1}), read_seed({})] == [7, 2**63 - 1, None]
