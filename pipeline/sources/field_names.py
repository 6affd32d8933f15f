"""Names that say a field is of a later frame, a target or an outcome: no such field may be an input (rules L1, L3, L8).

Converters keep the columns of a transition side by side: `observation.state` and `next.state`, `obs` and `next_obs`,
`reward`, `done`. Whoever lists all columns with numbers as the state gives the student the future by mistake.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from pipeline.errors import SettingsError

LATER = frozenset({"next", "future", "upcoming", "final"})
ACTIONS = frozenset({"action", "actions"})
OUTCOMES = frozenset(
    {"reward", "rewards", "done", "dones", "terminal", "terminals", "terminated", "truncated", "success", "discount"}
)
EARLIER = frozenset({"prev", "previous", "past"})
"""An action that was given before `now` is known."""


def words_of(name: str) -> list[str]:
    """The words of a field's name in lower case: `next.observationState` is next, observation, state."""
    return [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)]


def is_later(name: str) -> bool:
    """Whether a name says "of a later frame". A camera `next_to_robot` is beside the robot."""
    words = words_of(name)
    return any(word in LATER and following != "to" for word, following in zip(words, [*words[1:], ""], strict=True))


def refuse_state_fields(names: Iterable[str]) -> None:
    """Refuse names that a state must not be made from.

    Raises:
        SettingsError: a name of a later frame (rule L8), of an action (rule L3), or of an outcome (rule L8).
    """
    for name in names:
        words, kind = set(words_of(name)), ""
        if is_later(name):
            kind = "is of a later frame by its name (rule L8)"
        elif words & ACTIONS and not words & EARLIER:
            kind = "is an action by its name, a target, which must not be an input too (rule L3)"
        elif words & OUTCOMES or {"is", "last"} <= set(words):
            kind = "is an outcome by its name, known only later (rule L8)"
        if kind:
            raise SettingsError(f"state: {name} {kind}; take it out of source.state")


def refuse_cameras(names: Iterable[str], fix: str) -> None:
    """Refuse cameras whose name says that they show later frames. Raises SettingsError; `fix` ends its message."""
    for name in names:
        if is_later(name):
            raise SettingsError(f"cameras: {name} is of later frames by its name (rule L1); {fix}")
