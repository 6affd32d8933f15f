"""The files of `jobs/conf` as help needs them: which choices a command has, and what its default ones set.

Read as plain YAML. Hydra, which composes them when a command runs, takes a second to be loaded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
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


def with_choices(groups: Mapping[str, Group], words: Sequence[str]) -> dict[str, Group]:
    """Groups whose default is what a word chooses, such as `source=lerobot`, and what that choice sets of others."""
    chosen = {name: choice for name, _, choice in (word.partition("=") for word in words) if name in groups}
    known = {name: choice for name, choice in chosen.items() if choice in groups[name].names}
    for entry in content_of("source", known.get("source", "")).get("defaults", ()):
        if isinstance(entry, dict):
            known = {str(name).removeprefix("override /"): choice for name, choice in entry.items()} | known
    return {name: replace(group, default=known.get(name, group.default)) for name, group in groups.items()}


def content_of(group: str, choice: str) -> dict[str, Any]:
    """The file of a choice, of a dataset its manifest in that form; empty where there is none."""
    if (file := CONF / group / f"{choice}.yaml").exists():
        return dict(yaml.safe_load(file.read_text()) or {})
    for folder in filter(None, (FOLDER, own_folder())) if group == "source" else ():
        if (file := folder / f"{choice}.yaml").exists():
            manifest = yaml.safe_load(file.read_text())
            reader = {"name": choice, **manifest.get("reader", {})}
            return {"defaults": [{"override /window": manifest.get("kind", "video")}], "source": reader}
    return {}


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
