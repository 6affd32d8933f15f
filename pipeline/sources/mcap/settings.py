"""The settings of recordings: topics by the names of cameras, fields of state and action, and what a time is."""

from __future__ import annotations

import os
from enum import StrEnum

from pipeline.errors import SettingsError
from pipeline.format.settings import checked, setting
from pipeline.sources.episode.vectors import REACHED, VectorField, VectorSettings
from pipeline.sources.field_names import refuse_cameras
from pipeline.sources.mcap.fields import MessageField
from pipeline.sources.metadata import has_text
from pipeline.sources.naming import clean_name


class Times(StrEnum):
    """Where the time of a message comes from.

    HEADER  header.stamp, when it was measured; log_time for messages without a header
    LOG     log_time, when it was recorded
    """

    HEADER = "header"
    LOG = "log"


@checked
class McapSettings(VectorSettings):
    """How recordings are read.

    Raises:
        SettingsError: the state takes what the action takes (rule L3), or a field is no TOPIC:PATH.
    """

    cameras: tuple[str, ...] = setting(
        "NAME=TOPIC of each camera, in order; pictures are sensor_msgs/msg/CompressedImage or Image", nonempty=True
    )
    state: tuple[VectorField, ...] = setting("TOPIC:PATH of the numbers that make the state; empty: no state")
    action: tuple[VectorField, ...] = setting("TOPIC:PATH of the numbers that make the action; empty: no actions")
    instruction: str | None = setting(
        "topic of std_msgs/msg/String; at a frame the last text holds. One of instruction, text and texts is set",
        default=None,
    )
    text: str | None = setting("the instruction of all episodes", default=None)
    texts: str | None = setting(
        "list of instructions below root: .csv with the columns file and text, or a .json list of such objects",
        default=None,
    )
    times: Times = setting(
        "time of a message: its header.stamp (log_time where it has no header), or log_time of all",
        default=Times.HEADER,
    )
    fps: float | None = setting(
        "frames a second; null: each picture of the first camera is a frame", default=None, unit="Hz", above=0
    )
    max_age_s: float = setting(
        "how long before a frame its state and pictures may have been, and how long after it its action",
        default=0.2,
        unit="s",
        at_least=0,
        at_most=3600,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_cameras()
        if [self.instruction, self.text, self.texts].count(None) != 2:
            raise ValueError("set one of instruction (a topic), text (for all episodes) and texts (a list of them)")
        if self.texts is not None and os.path.normpath(self.texts).split(os.sep)[0] in ("", os.pardir):
            raise ValueError(f"texts must be a list below root, got {self.texts!r}")
        if self.text is not None and not has_text(self.text):
            raise ValueError(f"text must be an instruction, got {self.text!r}")
        self._check_roles()

    @property
    def topics(self) -> dict[str, str]:
        """Topic of each camera by the name of its view, in order."""
        named = (camera.partition("=") for camera in self.cameras)
        return {name: topic for name, _, topic in named}

    @property
    def measured(self) -> frozenset[str]:
        """Fields of what is known at a frame: the state, and poses that an action starts from or reaches a frame
        later."""
        bases = {part.base for part in self.action if part.base is not None}
        reached = {part.field for part in self.action if part.convert in REACHED}
        return frozenset({part.field for part in self.state} | bases | reached)

    @property
    def fields(self) -> tuple[str, ...]:
        """Every field that state and action are made from."""
        names = [name for part in (*self.state, *self.action) for name in (part.field, part.base) if name is not None]
        return tuple(dict.fromkeys(names))

    def _check_cameras(self) -> None:
        refuse_cameras(self.cameras, "take it out of source.cameras")
        for name, topic in self.topics.items():
            if not name or clean_name(name) != name or not topic:
                found = f"got {name}={topic}" if topic else f"got {name!r}"
                raise ValueError(f"cameras: write NAME=TOPIC, the name of letters, digits, _ and -; {found}")
        if len(self.topics) < len(self.cameras):
            raise ValueError(f"cameras: two have one name: {', '.join(self.cameras)}")

    def _check_roles(self) -> None:
        """A number is an input or a target. Poses that are reached are measured, and come from the next frame."""
        commanded = {part.field for part in self.action if part.convert not in REACHED}
        for name in sorted(commanded):
            field = MessageField.parse(name)
            for other in sorted(self.measured):
                if field.overlaps(MessageField.parse(other)):
                    raise SettingsError(
                        f"action: {name} and {other} are the same numbers, a target and what is known at the frame "
                        "(rule L3); take the action from the topic of the commands"
                    )
