"""`vlajepa COMMAND`: picks the command; each one is a Hydra application.

Exit codes: 0 success, 1 a leak was found (audit), a build is not the audited one (verify) or a dataset not its
manifest's (inspect; 3: nothing but fewer episodes), 2 the run could not be done, 130 interrupted.
"""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Sequence
from importlib.metadata import version
from typing import TextIO, cast

from jobs.command_line.commands import COMMANDS
from jobs.command_line.help import help_of, help_of_all
from jobs.command_line.refusal import nearest, refuse
from jobs.command_line.typed_values import is_setting, quoted
from jobs.common.escaped import Output, open_standard_streams

HELP = ("-h", "--help")

COMPLETION = "--completion"

HYDRA_FLAGS = (
    "cfg",
    "config-dir",
    "config-name",
    "config-path",
    "experimental-rerun",
    "hydra-help",
    "info",
    "multirun",
    "package",
    "resolve",
    "run",
    "shell-completion",
    "version",
)
"""Flags of Hydra; any other `--name value` means the setting `name=value`."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of the console script."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    open_standard_streams()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal without Cyrillic ends no command
    with contextlib.redirect_stderr(cast(TextIO, Output(sys.stderr, escaped=False))):  # nor does one that is gone
        _run(words)


def _run(words: list[str]) -> None:
    if words == ["--version"]:
        sys.stdout.write(f"vlajepa {version('vlajepa')}\n")
        return
    if words[:1] == [COMPLETION]:
        _complete(words[1:])
        return
    if not words or words[0] in HELP:
        _say(help_of_all())
        raise SystemExit(0 if words else 2)
    name, *overrides = words
    if name not in COMMANDS:
        refuse(f"no command {name!r}{nearest(name, COMMANDS)}; there are {', '.join(COMMANDS)}")
    command = COMMANDS[name]
    if set(HELP) & set(overrides):
        _say(help_of(name, command, overrides))
        return
    overrides = _flags_to_settings(overrides)
    if name == "drop":
        overrides = _joined(overrides, "episode", "episodes")
    if command.first and overrides and not is_setting(overrides[0]) and not overrides[0].startswith("-"):
        overrides[0] = f"{command.first}={overrides[0]}"
    for before, word in zip([name, *overrides], overrides, strict=False):
        if "=" not in word and not word.startswith(("-", "~")) and not before.startswith("-"):
            refuse(f"{word!r} is no setting; write key=value (see vlajepa {name} --help)")
    from jobs.command_line.hydra_application import run_command  # a second of imports, which no help needs

    run_command(name, command, overrides)


def _complete(words: Sequence[str]) -> None:
    from jobs.command_line.completion import SHELLS, completion_script  # loads the settings of every command

    if len(words) != 1 or words[0] not in SHELLS:
        refuse(f"{COMPLETION} needs the name of a shell: {' or '.join(SHELLS)}")
    _say(completion_script(words[0]))


def _say(text: str) -> None:
    output = Output(sys.stdout, escaped=False)  # `| head` is no error
    output.write(text)
    output.flush()


def _flags_to_settings(words: Sequence[str]) -> list[str]:
    """`--level source` and `--level=source` mean `level=source`."""
    result: list[str] = []
    rest = iter(words)
    for word in rest:
        name, equals, value = word.removeprefix("--").partition("=")
        if not word.startswith("--") or name in HYDRA_FLAGS or not name:
            result.append(word)
        else:
            result.append(f"{name.replace('-', '_')}={value if equals else next(rest, '')}")
    return result


def _joined(words: Sequence[str], one: str, many: str) -> list[str]:
    """`one=A one=B` means `many=[A,B]`: of two values for a setting Hydra would take the last alone."""
    values = [quoted(word.partition("=")[2]) for word in words if word.startswith(f"{one}=")]
    if len(values) < 2:
        return list(words)
    rest = [word for word in words if not word.startswith((f"{one}=", f"{many}="))]
    lists = [word.partition("=")[2].strip("[]") for word in words if word.startswith(f"{many}=")]
    return [*rest, f"{many}=[{','.join([*values, *filter(None, lists)])}]"]


if __name__ == "__main__":
    main()
