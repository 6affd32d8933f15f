"""The files of `jobs/conf` as help needs them: which choices a command has, and what its default ones set.

Read as plain YAML. Hydra, which composes them when a command runs, takes a second to be loaded.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from jobs.common.manifest_folders import FOLDER, own_folder

CONF = Path(__file__).resolve().parents[1] / "conf"

_GLOBAL = "# @package _global_"


@dataclass(frozen=True)
class Group:
    """A group of choices. default: the one that holds where none is given; None: none."""

    names: tuple[str, ...]
    default: str | None


def config_groups(config: str) -> dict[str, Group]:
    """The groups that a command has, by name; none where its configuration is its defaults alone.

    Args:
        config: name of its configuration.
    """
    file = CONF / f"{config}.yaml"
    if not file.exists():
        return {}
    chosen: dict[str, str | None] = {}
    for entry in yaml.safe_load(file.read_text())["defaults"]:
        if isinstance(entry, dict):
            chosen |= entry
    return {group: Group(_names(group), chosen[group]) for group in chosen if (CONF / group).is_dir()}


def chosen_values(groups: Mapping[str, Group]) -> dict[str, Any]:
    """What the default choices set: values by their names with dots. Readers' own settings are not among them."""
    found: dict[str, Any] = {}
    for name, group in groups.items():
        if group.default is not None and (file := CONF / name / f"{group.default}.yaml").exists():
            text = file.read_text()
            content = yaml.safe_load(text) or {}
            found |= _flat(content, "" if text.startswith(_GLOBAL) else f"{name}.")
    return found


def _names(group: str) -> tuple[str, ...]:
    files = list((CONF / group).glob("*.yaml"))
    if group == "source":
        for folder in filter(None, (FOLDER, own_folder())):
            files += folder.glob("*.yaml")
    return tuple(sorted({file.stem for file in files}))


def _flat(content: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in content.items():
        found |= _flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return found
