"""The settings of this machine's pip, as a file for another machine: variables and all configuration files together."""

from __future__ import annotations

import ast
import configparser
import io
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

_ENVIRONMENT = ":env:"
_OF_THE_MACHINE = ("no-cache-dir", "cache-dir", "user", "target", "prefix", "require-virtualenv")
"""Where pip puts things here, which is not the image's business."""


@dataclass(frozen=True)
class PipSettings:
    """text: a pip.conf. paths: files and folders of this machine that it names, to be found at the same place."""

    text: str
    paths: tuple[Path, ...]


def read_pip_settings() -> PipSettings:
    """What `pip config list` prints. Raises subprocess.CalledProcessError without a pip."""
    command = [sys.executable, "-m", "pip", "config", "list"]
    return parse(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def parse(printed: str) -> PipSettings:
    """From lines such as `global.find-links='/wheels'`; variables (`:env:`) come before files, as in pip.

    Raises:
        ValueError: a line is not one of pip's.
    """
    found = configparser.RawConfigParser()
    lines = [line.partition("=") for line in printed.splitlines() if line.strip()]
    paths: set[Path] = set()
    for name, _, value in sorted(lines, key=lambda line: line[0].startswith(_ENVIRONMENT)):
        section, _, key = name.rpartition(".")
        if key in _OF_THE_MACHINE:
            continue
        section = "global" if section == _ENVIRONMENT else section
        text = str(ast.literal_eval(value))
        if not found.has_section(section):
            found.add_section(section)
        found.set(section, key, text.replace("\n", "\n    "))
        paths.update(path for word in text.split() if (path := _path(word)) and path.exists())
    written = io.StringIO()
    found.write(written)
    return PipSettings(written.getvalue(), tuple(sorted(paths)))


def _path(word: str) -> Path | None:
    """The pages of an index in a folder name files beside it."""
    if word.startswith("file://"):
        return Path(word.removeprefix("file://")).parent
    return Path(word) if word.startswith("/") else None
