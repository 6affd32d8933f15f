"""`vlajepa --completion bash|zsh`: a script by which a shell completes commands, settings, their choices and files.

The script holds all it needs, so that completing starts no Python; it is written anew after an update.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jobs.command_line.commands import COMMANDS, Command
from jobs.command_line.config_groups import config_groups
from jobs.command_line.typed_values import kind_is_path
from pipeline.format.settings import Setting, describe


@dataclass(frozen=True)
class Completed:
    """A setting by its name with dots; what its value may be (empty: anything), and whether it is a path."""

    name: str
    values: tuple[str, ...]
    path: bool


SHELLS = ("bash", "zsh")
_HERE = Path(__file__).parent
_EXPERIMENT = "experiment"
_ADDRESSES = ("root", "builds", "policy", "encoder_path", "name_or_path", "texts")
"""Settings that are a text because they may be the address of a bucket, a hub or a server; they are paths as well."""
_LEAVE_OUT = Completed("source.leave_out", (), True)
_LISTED = "sources"
"""The command whose first word is a manifest's name."""


def completion_script(shell: str) -> str:
    """The script for a shell of `SHELLS`."""
    head = "#compdef vlajepa" if shell == "zsh" else "# vlajepa"
    return f"{head}\n{_tables()}{(_HERE / f'completion.{shell}').read_text()}"


def completed_settings(command: Command) -> list[Completed]:
    """What a command can be given, choices of groups of settings first."""
    groups = config_groups(command.config)
    found = {name: Completed(name, group.names, False) for name, group in groups.items()}
    if command.config == "train":
        found[_EXPERIMENT] = Completed(_EXPERIMENT, _names(_EXPERIMENT), False)
    classes: list[tuple[str, type[Any]]] = [("", command.settings_class())]
    if command.reads_dataset:
        from pipeline.sources.registry import SOURCES  # loads the readers

        found[_LEAVE_OUT.name] = _LEAVE_OUT
        classes += [("source.", cls) for cls in SOURCES.values()]
    for prefix, cls in classes:
        for one in _flat(cls, prefix):
            found.setdefault(one.name, one)
    return list(found.values())


def _flat(cls: type[Any], prefix: str) -> Iterator[Completed]:
    for setting in describe(cls):
        name = f"{prefix}{setting.name}"
        if setting.nested is not None:
            yield from _flat(setting.nested, f"{name}.")
        else:
            path = kind_is_path(setting.kind) or setting.name in _ADDRESSES
            yield Completed(name, _values(setting), path)


def _values(setting: Setting) -> tuple[str, ...]:
    return ("true", "false") if setting.kind is bool else setting.choices


def _names(group: str) -> tuple[str, ...]:
    return tuple(sorted(file.stem for file in (_HERE.parent / "conf" / group).glob("*.yaml")))


def _tables() -> str:
    keys, values, paths, first = [], [], [], []
    for name, command in COMMANDS.items():
        settings = completed_settings(command)
        keys.append(f"    {name}) echo {shlex.quote(' '.join(f'{each.name}=' for each in settings))} ;;")
        values += [f"    {name}:{s.name}) echo {shlex.quote(' '.join(s.values))} ;;" for s in settings if s.values]
        paths += [f"    {name}:{each.name}) return 0 ;;" for each in settings if each.path]
        if command.first and any(each.name == command.first and each.path for each in settings):
            first.append(name)
    source = config_groups(COMMANDS["plan"].config)["source"].names
    values.append(f"    {_LISTED}:) echo {shlex.quote(' '.join(source))} ;;")
    paths += [f"    {name}:) return 0 ;;" for name in first]
    commands = [f"    {name}) echo {shlex.quote(command.text)} ;;" for name, command in COMMANDS.items()]
    parts = (
        f"_vlajepa_commands={shlex.quote(' '.join(COMMANDS))}",
        _cases("_vlajepa_text", "$1", commands),
        _cases("_vlajepa_keys", "$1", keys),
        _cases("_vlajepa_values", "$1:$2", values),
        _cases("_vlajepa_is_path", "$1:$2", [*paths, "    *) return 1 ;;"]),
    )
    return "\n".join(parts) + "\n"


def _cases(name: str, value: str, lines: list[str]) -> str:
    return "\n".join([f"{name}() {{", f'  case "{value}" in', *lines, "  esac", "}"])
