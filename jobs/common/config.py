"""Hydra configurations <-> settings. No other module of a command sees a configuration object.

The defaults of a command are those of its `checked` class, registered as the configuration NAME_defaults. The files of
jobs/conf hold what differs: groups to choose from, and experiments.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import TypeAdapter, ValidationError

from pipeline.errors import SettingsError
from pipeline.format.settings import default_values, describe

T = TypeVar("T")
PREFIX = "VLAJEPA_"
"""Of the variables of the environment that hold secrets of this program."""
FOLDER = Path(__file__).resolve().parents[1] / "conf"


def register_defaults(name: str, cls: type[Any]) -> None:
    """Register the defaults of a command with Hydra: as the base of its file in jobs/conf, or alone.

    `${processors:}` in a file stands for the number that this process may use.
    """
    OmegaConf.register_new_resolver("processors", lambda: len(os.sched_getaffinity(0)), replace=True)
    content = default_values(cls)
    for key in secrets(cls):  # every user of the machine can read command lines
        content[key] = f"${{oc.env:{variable_of(key)},null}}"
    run = {"hydra": {"run": {"dir": "."}, "output_subdir": None}}
    if (FOLDER / f"{name}.yaml").exists():
        ConfigStore.instance().store(f"{name}_defaults", {**content, **run})
    else:
        defaults = [{"override hydra/job_logging": "none"}, "_self_"]
        ConfigStore.instance().store(name, {"defaults": defaults, **content, **run})


def secrets(cls: type[Any]) -> tuple[str, ...]:
    """Settings of a command whose values no message may show."""
    return tuple(field.name for field in fields(cls) if not field.repr)


def variable_of(secret: str) -> str:
    """The variable of the environment that a secret is taken from."""
    return f"{PREFIX}{secret.upper()}"


def unreadable_secret(key: str) -> str:
    """What is wrong with a secret on the command line, without its value."""
    return f"{key} cannot be read from the command line; put it into {variable_of(key)}, where any text will do"


def parse(cls: type[T], config: DictConfig) -> T:
    """The settings of a configuration.

    Raises:
        SettingsError: a key is unknown or missing, or a value is wrong; the message names each one and what is allowed.
    """
    try:
        content = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        key = getattr(error, "full_key", None) or str(error)
        if key in secrets(cls):
            raise SettingsError(unreadable_secret(key)) from None
        raise SettingsError(f"{key} is not set; give {key}=… on the command line{_help(cls, key)}") from error
    assert isinstance(content, dict)
    unknown = list(_unknown_keys(cls, content, ""))
    if unknown:
        key, allowed = unknown[0]
        raise SettingsError(f"{key} is no setting; allowed here: {', '.join(allowed)}")
    try:
        return TypeAdapter(cls).validate_python(content)
    except ValidationError as error:
        raise SettingsError("\n".join(_explain(cls, line) for line in error.errors())) from error


def _explain(cls: type[Any], line: Any) -> str:
    key = ".".join(str(part) for part in line["loc"])
    if key in secrets(cls):
        return unreadable_secret(key)
    value = "" if isinstance(line["input"], dict) else f"={line['input']!r}"
    message = line["msg"].removeprefix("Value error, ")
    if line["type"] == "tuple_type":
        message = f"must be a list, as in '{key}=[a,b]'"
    if line["type"] == "enum":
        allowed = line["ctx"]["expected"].replace(" or ", ", ").replace("'", "")
        message = f"must be one of {allowed}, got {line['input']!r}"
    return f"{key}{value}: {message}{_help(cls, key) if value else ''}" if key else message


def _help(cls: type[Any], key: str) -> str:
    """ ": " and the help of a setting, by its name with dots; empty for one that has none, as those of a reader."""
    name, _, rest = key.partition(".")
    for described in describe(cls):
        if described.name == name and rest:
            return _help(described.nested, rest) if described.nested is not None else ""
        if described.name == name:
            return f": {described.rule.help}"
    return ""


def _unknown_keys(cls: type[Any], content: Mapping[Any, Any], prefix: str) -> list[tuple[str, list[str]]]:
    settings = {described.name: described for described in describe(cls)}
    found = [(f"{prefix}{key}", list(settings)) for key in content if key not in settings]
    for name, described in settings.items():
        value = content.get(name)
        if described.nested is not None and isinstance(value, Mapping):
            found += _unknown_keys(described.nested, value, f"{prefix}{name}.")
    return found
