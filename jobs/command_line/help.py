"""What `--help` prints: what a command does, an example, and the settings that it has, from their declarations."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING
from typing import Any

from jobs.command_line.commands import COMMANDS, Command
from jobs.command_line.config_groups import Group, chosen_values, config_groups, content_of, with_choices
from pipeline.format.settings import Setting, describe, plain

WIDEST = 110
INDENT = 30
"""Columns before the text of a setting."""

ALL = """usage: vlajepa COMMAND [setting=value …]

{commands}

vlajepa COMMAND --help shows its settings; vlajepa --completion bash (or zsh) writes a script for the shell.
Each command's page: docs/index.md
"""

END = """
`--cfg job` prints the configuration that the command would run with, in place of running it. Every setting of every
command: docs/settings.md
"""


def help_of_all() -> str:
    """The list of commands."""
    width = max(map(len, COMMANDS))
    return ALL.format(commands="\n".join(f"  {name:{width}}  {command.text}" for name, command in COMMANDS.items()))


def help_of(name: str, command: Command, words: Sequence[str] = ()) -> str:
    """The help of one command. words: those beside --help; `source=lerobot` shows the settings of that source."""
    cls, groups = command.settings_class(), with_choices(config_groups(command.config), words)
    chosen = chosen_values(groups)
    first = f" {command.first.upper()}" if command.first else ""
    parts = [f"usage: vlajepa {name}{first} [setting=value …]\n\n{command.text}\n\n  vlajepa {name} {command.example}"]
    own = [setting for setting in describe(cls) if setting.nested is None and setting.name not in groups]
    parts.append(_section("Must be given", [s for s in own if s.default is MISSING], "", chosen))
    parts.append(_choices(groups))
    parts.append(_section("Settings", [s for s in own if s.default is not MISSING], "", chosen))
    parts += [_section(title, settings, prefix, chosen) for title, prefix, settings in _nested(cls, "")]
    if "source" in groups:
        parts.append(_source(name, groups["source"], any(word.startswith("source=") for word in words)))
    return "\n\n".join(filter(None, parts)) + "\n" + END


def _nested(cls: type[Any], prefix: str) -> Iterator[tuple[str, str, list[Setting]]]:
    """Title, prefix and settings of every class of settings below this one."""
    for setting in describe(cls):
        if setting.nested is not None:
            path, title = f"{prefix}{setting.name}.", str(setting.nested.__doc__).split("\n")[0]
            yield title, path, [inside for inside in describe(setting.nested) if inside.nested is None]
            yield from _nested(setting.nested, path)


def _source(name: str, group: Group, asked: bool) -> str:
    """The settings of the chosen source, where one was asked for: their declarations take half a second to load."""
    if not asked or group.default is None:
        return f"Section `source` is another one for each source: `vlajepa {name} source=lerobot --help` shows it"
    from pipeline.sources.registry import SOURCES

    own = dict(content_of("source", group.default).get("source", {}))
    kind = SOURCES.get(str(own.get("type")))
    if kind is None:
        return ""
    values = {f"source.{key}": value for key, value in own.items() if value != "???"}
    title = f"The source {group.default} (type {own['type']}): section `source`"
    return _section(title, list(describe(kind)), "source.", values)


def _section(title: str, settings: list[Setting], prefix: str, chosen: Mapping[str, Any]) -> str:
    return "\n".join([title, *(_line(setting, prefix, chosen) for setting in settings)]) if settings else ""


def _line(setting: Setting, prefix: str, chosen: Mapping[str, Any]) -> str:
    name = f"{prefix}{setting.name}"
    default = chosen.get(name, setting.default)
    facts = "; ".join(filter(None, (setting.rule.unit, setting.allowed)))
    text = f"{setting.rule.help} ({facts})" if facts else setting.rule.help
    return _columns(f"{name}={'…' if default is MISSING else _value(default)}", text)


def _value(default: Any) -> str:
    value = plain(default)
    if isinstance(value, list):
        return f"[{','.join(map(_value, value))}]"
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _choices(groups: Mapping[str, Group]) -> str:
    lines = [
        _columns(f"{name}={group.default or '…'}", f"one of {', '.join(group.names)}") for name, group in groups.items()
    ]
    return "\n".join(["Choices, each of which sets several settings", *lines]) if lines else ""


def _columns(left: str, text: str) -> str:
    """A line, and those below it where the text is long."""
    width = min(WIDEST, shutil.get_terminal_size((WIDEST, 24)).columns)
    wrapped = textwrap.wrap(text, max(30, width - INDENT - 2)) or [""]
    head = f"  {left:{INDENT - 2}}  "
    if len(left) > INDENT - 2:
        return "\n".join([f"  {left}", *(" " * (INDENT + 2) + line for line in wrapped)])
    return "\n".join([head + wrapped[0], *(" " * (INDENT + 2) + line for line in wrapped[1:])])
