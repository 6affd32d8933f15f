"""The tables of the settings page, made of the dataclasses when the pages are built."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import MISSING
from importlib.resources import files
from typing import Any

import yaml

from jobs.command_line.commands import COMMANDS
from pipeline.format.settings import Setting, describe, plain
from pipeline.sources.episode.vectors import VectorField
from pipeline.sources.registry import SOURCES


def tables() -> str:
    """A section for every command, then one for every group of settings that commands share and for every reader."""
    groups: dict[type[Any], None] = {}
    parts = [_section(f"vlajepa {name}", command.text, command.settings_class()) for name, command in COMMANDS.items()]
    for command in COMMANDS.values():
        groups |= dict.fromkeys(_nested(command.settings_class()))
    parts += [_section(cls.__name__, _summary(cls), cls) for cls in groups]
    parts += [_section(f"source.type={name}", _summary(cls), cls, _set_for(name)) for name, cls in SOURCES.items()]
    parts.append(_section("VectorField", _summary(VectorField), VectorField))
    return "\n\n".join(parts) + "\n"


def _summary(cls: type[Any]) -> str:
    return str(cls.__doc__).split("\n")[0]


def _nested(cls: type[Any]) -> Iterator[type[Any]]:
    for setting in describe(cls):
        if setting.nested is not None:
            yield setting.nested
            yield from _nested(setting.nested)


def _set_for(source: str) -> Mapping[str, Any]:
    """What `source=NAME` sets, where the name of a reader is one."""
    path = files("jobs") / "conf" / "source" / f"{source}.yaml"
    if not path.is_file():
        return {}
    content = yaml.safe_load(path.read_text())
    return {name: value for name, value in content.get("source", content).items() if value != "???"}


def _section(title: str, text: str, cls: type[Any], given: Mapping[str, Any] | None = None) -> str:
    rows = [
        f"| `{s.name}` | {_default(s, given or {})} | {_allowed(s)} | {_escaped(s.rule.help)} |" for s in describe(cls)
    ]
    head = (f"## {title}", text, "", "| setting | default | allowed | what it is |", "|---|---|---|---|")
    return "\n".join((*head, *rows))


def _default(setting: Setting, given: Mapping[str, Any]) -> str:
    if setting.nested is not None:
        name = setting.nested.__name__
        return f"[{name}](#{name.lower()})"
    if setting.default is MISSING and setting.name not in given:
        return "(must be given)"
    if setting.default is MISSING:
        return f"`{given[setting.name]}`"
    value = plain(setting.default)
    return f"`{'null' if value is None else str(value).lower() if isinstance(value, bool) else value}`"


def _allowed(setting: Setting) -> str:
    return " ".join(filter(None, (setting.allowed, setting.rule.unit)))


def _escaped(text: str) -> str:
    return text.replace("|", "\\|")
