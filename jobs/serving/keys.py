"""Which keys of a message hold what, and how a message becomes an observation.

A message is flat (`"observation/image": …`) or nested (`"observation": {"image": …}`): both are read alike, with `/`
between the levels. Of the keys that can hold one thing, the first that is present counts; all others are ignored.

    image of view V     images/V, observation/V; besides, as in openpi's LIBERO example,
                        observation/image for the first view and observation/wrist_image for the second,
                        unless another view has that name; the other way round where, by their names, the first
                        is a camera of the wrist and the second is none
    state               observation/state, state
    instruction         prompt
    noise               seed (an integer; none: by the number of the query)
    committed actions   committed (numbers [N, A]: the rest of the chunk that is carried out, from the present step on)
                        and delay (how many of them will be carried out before the answer is there)

`keys=` puts another key before those of a view, and before those of "state" or "prompt". A state in several parts is
`a+b`: both are needed and are joined in that order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jobs.common.policy.cameras import on_the_wrist
from jobs.common.policy.committed import Committed
from jobs.common.policy.robot_interface import RobotInterface, RobotObservation, check_observation
from pipeline.errors import SettingsError

SEED = "seed"
COMMITTED, DELAY = "committed", "delay"
GROUP = "observations"
"""Key of a list of observations that are answered together; an extension of this server."""
LARGEST_SEED = 2**63 - 1
_OPENPI_IMAGES = ("observation/image", "observation/wrist_image")
_STATE, _PROMPT = "the state", "the prompt"
_DEEPEST = 4
_MOST_NAMED = 12
_MOST_NUMBERS = 1024
_NUMBERS = (bool, int, float, np.number, np.bool_)


@dataclass(frozen=True)
class MessageKeys:
    """Keys in the order in which they are looked for.

    images  by view, in the student's order;  state, prompt  a state's key may be parts joined by "+"
    """

    images: Mapping[str, tuple[str, ...]]
    state: tuple[str, ...]
    prompt: tuple[str, ...]

    @classmethod
    def of(cls, interface: RobotInterface, own: Mapping[str, str]) -> MessageKeys:
        """The keys of a policy; `own`: see the top of this file.

        Raises:
            SettingsError: a name is neither a view nor "state" or "prompt", or a key already holds something else.
        """
        _check_own(interface.views, own)
        holds = _holders(interface.views, own)

        def keys_of(holder: str, name: str) -> tuple[str, ...]:
            found = [key for key, held in holds.items() if held == holder]
            return tuple(sorted(found, key=lambda key: key != own.get(name)))  # stable: the own key first

        return cls(
            {view: keys_of(_image_of(view), view) for view in interface.views},
            keys_of(_STATE, "state"),
            keys_of(_PROMPT, "prompt"),
        )

    def describe(self) -> dict[str, Any]:
        """For the server's metadata: lists of the keys that are read, in the order in which they are looked for."""
        return {
            "images": {view: list(keys) for view, keys in self.images.items()},
            "state": list(self.state),
            "prompt": list(self.prompt),
            "seed": SEED,
            "committed": [COMMITTED, DELAY],
            "group": GROUP,
        }


def read_observation(message: Mapping[str, Any], keys: MessageKeys, interface: RobotInterface) -> RobotObservation:
    """The observation of a message, checked. Raises ValueError if something is missing or does not fit the policy."""
    values = flatten(message)
    images = {view: _image(values, view, names) for view, names in keys.images.items()}
    instruction = _instruction(values, keys.prompt)
    state = _state(values, keys.state) if interface.state else np.zeros(0, np.float32)
    observation = RobotObservation(images, instruction, state)
    check_observation(observation, interface)
    return observation


def read_seed(message: Mapping[str, Any]) -> int | None:
    """The seed of a message, 0 .. 2**63 - 1; None if it has none. Raises ValueError if it is another value."""
    seed = message.get(SEED)
    if seed is None:
        return None
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or not 0 <= seed <= LARGEST_SEED:
        found = str(seed)[:40] if isinstance(seed, (int, float, np.number)) else f"a {type(seed).__name__}"
        raise ValueError(f"{SEED} must be an integer from 0 to 2**63 - 1, got {found}")
    return int(seed)


def noise_seed(seed: int, number: int) -> int:
    """Seed of a connection's n-th observation that brings none, 0 .. 2**63 - 1; the same on every connection."""
    return int(np.random.SeedSequence((seed, number)).generate_state(1, np.uint64)[0] >> np.uint64(1))


def read_committed(message: Mapping[str, Any], interface: RobotInterface) -> Committed | None:
    """What the robot is about to do; None if the message does not say. Raises ValueError if it is no beginning of a
    chunk."""
    actions, delay = message.get(COMMITTED), message.get(DELAY)
    if actions is None and delay is None:
        return None
    if not isinstance(actions, np.ndarray) or actions.dtype.kind not in "iuf":
        raise ValueError(f"{COMMITTED} must be an array of numbers [N, {interface.action}], beside {DELAY}")
    if isinstance(delay, bool) or not isinstance(delay, (int, np.integer)):
        raise ValueError(f"{DELAY} must be a whole number of actions, beside {COMMITTED}")
    with np.errstate(over="ignore"):  # becomes infinite, which is then refused
        found = Committed(actions.astype(np.float32), int(delay))
    found.require_fitting(interface.chunk, interface.action)
    return found


def flatten(message: Mapping[str, Any], prefix: str = "", depth: int = 0) -> dict[str, Any]:
    """Values of nested maps by their keys, joined by `/`; of the same key twice, the less nested value stays."""
    inner: dict[str, Any] = {}
    found: dict[str, Any] = {}
    for key, value in message.items():
        if not isinstance(key, str):
            continue
        if isinstance(value, dict) and depth < _DEEPEST:
            inner |= flatten(value, f"{prefix}{key}/", depth + 1)
        else:
            found[f"{prefix}{key}"] = value
    return inner | found


def _check_own(views: Sequence[str], own: Mapping[str, str]) -> None:
    names = (*views, "state", "prompt")
    for name, key in own.items():
        if name not in names:
            raise SettingsError(f"keys.{name}: this policy has no such input; there are {', '.join(names)}")
        if not all(part.strip("/ ") for part in (key.split("+") if name == "state" else [key])):
            raise SettingsError(f"keys.{name}={key!r}: give a key of the message, as in observation/{name}")


def _holders(views: Sequence[str], own: Mapping[str, str]) -> dict[str, str]:
    """What each key holds, in the order in which keys are looked for."""
    holds = {"observation/state": _STATE, "state": _STATE, "prompt": _PROMPT}
    for view in views:
        for key in (f"images/{view}", f"observation/{view}"):
            holds.setdefault(key, _image_of(view))
    for name, key in own.items():
        wanted = {"state": _STATE, "prompt": _PROMPT}.get(name) or _image_of(name)
        if holds.setdefault(key, wanted) != wanted:
            raise SettingsError(f"keys.{name}={key}: this key holds {holds[key]}; choose another")
    for alias, view in zip(_OPENPI_IMAGES, _as_in_openpi(views), strict=False):
        holds.setdefault(alias, _image_of(view))
    return holds


def _as_in_openpi(views: Sequence[str]) -> Sequence[str]:
    """The first two views, the one of the scene first, where their names say which that is."""
    wrist = [on_the_wrist(view) for view in views[:2]]
    return views[1::-1] if wrist == [True, False] else views[:2]


def _image_of(view: str) -> str:
    return f"image {view!r}"


def _image(values: Mapping[str, Any], view: str, names: tuple[str, ...]) -> NDArray[np.uint8]:
    name = _find(values, f"image {view!r}", names)
    image = values[name]
    wanted = f"image {view!r} ({name}) must be a uint8 array [H, W, 3], got"
    if not isinstance(image, np.ndarray):
        raise ValueError(f"{wanted} a {type(image).__name__}")
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        planes = image.ndim == 3 and image.shape[0] == 3
        hint = "; it looks like [3, H, W]: send np.transpose(image, (1, 2, 0))" if planes else ""
        raise ValueError(f"{wanted} {image.dtype} {list(image.shape)}{hint}")
    return image


def _instruction(values: Mapping[str, Any], names: tuple[str, ...]) -> str:
    name = _find(values, "instruction", names)
    text = values[name]
    if isinstance(text, np.ndarray) and text.dtype.kind == "U" and text.size == 1:
        text = text.item()
    if not isinstance(text, str):
        raise ValueError(f"the instruction ({name}) must be text, got a {type(text).__name__}")
    return str(text)


def _state(values: Mapping[str, Any], names: tuple[str, ...]) -> NDArray[np.float32]:
    parts = [_numbers(values[part], part) for part in _find(values, "state", names, "+").split("+")]
    with np.errstate(over="ignore"):  # becomes infinite, which is then refused
        return np.concatenate(parts).astype(np.float32)


def _find(values: Mapping[str, Any], what: str, names: tuple[str, ...], separator: str | None = None) -> str:
    """The first key that is present, with all its parts."""
    for name in names:
        if all(part in values for part in (name.split(separator) if separator else [name])):
            return name
    shown = [key[:60] for key in sorted(values)]
    more = f" and {len(shown) - _MOST_NAMED} more" if len(shown) > _MOST_NAMED else ""
    present = f"the message has {', '.join(shown[:_MOST_NAMED]) or 'no keys'}{more}"
    raise ValueError(f"the {what} is missing; send it as {' or '.join(names)}; {present}")


def _numbers(value: Any, name: str) -> NDArray[Any]:
    # Checked before NumPy sees it: of one long text among many short ones it would make an array of long texts.
    if isinstance(value, list | tuple):
        if len(value) > _MOST_NUMBERS:
            raise ValueError(f"the state ({name}) must be a list of at most {_MOST_NUMBERS} numbers, got {len(value)}")
        odd = next((one for one in value if not isinstance(one, _NUMBERS)), None)
        if odd is not None:
            raise ValueError(f"the state ({name}) must be a list of numbers, got a {type(odd).__name__} in it")
    elif not isinstance(value, (np.ndarray, *_NUMBERS)):
        raise ValueError(f"the state ({name}) must be a list of numbers, got a {type(value).__name__}")
    found = np.asarray(value)
    if found.dtype.kind not in "biuf" or found.ndim > 1:
        raise ValueError(f"the state ({name}) must be a list of numbers, got {found.dtype} {list(found.shape)}")
    return np.atleast_1d(found)
