"""Settings as a command line composes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from hydra import compose, initialize_config_dir

from jobs.common.config import FOLDER, parse, register_defaults

T = TypeVar("T")


def compose_settings(name: str, cls: type[T], words: Sequence[str]) -> T:
    """The settings of a command line."""
    register_defaults(name, cls)
    with initialize_config_dir(str(FOLDER), version_base="1.3"):
        return parse(cls, compose(name, list(words)))
