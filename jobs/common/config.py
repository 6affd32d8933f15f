"""Hydra configurations -> validated dataclasses. Nothing behind this file sees a configuration object."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, TypeVar, get_type_hints

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import TypeAdapter, ValidationError

from pipeline.errors import SettingsError

T = TypeVar("T")


def parse(cls: type[T], config: DictConfig) -> T:
    """Fill a dataclass from a configuration.

    Raises:
        SettingsError: a key is unknown or missing, or a value is wrong; the message names each one, what is allowed,
            and the file that holds the default.
    """
    files = config_files()
    try:
        content = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        key = getattr(error, "full_key", None) or str(error)
        raise SettingsError(f"{key} is not set; give {key}=… on the command line ({_file(files, key)})") from error
    assert isinstance(content, dict)
    unknown = list(_unknown_keys(cls, content, ""))
    if unknown:
        key, allowed = unknown[0]
        raise SettingsError(f"{key} is no setting; allowed here: {', '.join(allowed)} ({_file(files, key)})")
    try:
        return TypeAdapter(cls).validate_python(content)
    except ValidationError as error:
        raise SettingsError("\n".join(_explain(line, files) for line in error.errors())) from error


def config_files() -> dict[str, str]:
    """File of each config group in use, and of the command itself under ""."""
    if not HydraConfig.initialized():
        return {}
    hydra = HydraConfig.get()
    files = {group: f"jobs/conf/{group}/{choice}.yaml" for group, choice in hydra.runtime.choices.items()}
    name = "build" if hydra.job.config_name in ("plan", "preprocess", "extend") else hydra.job.config_name
    return files | {"": f"jobs/conf/{name}.yaml"}


def _file(files: Mapping[str, str], key: str) -> str:
    return f"default in {files.get(key.split('.')[0]) or files.get('', 'jobs/conf')}"


def _explain(line: Any, files: Mapping[str, str]) -> str:
    key = ".".join(str(part) for part in line["loc"])
    value = "" if isinstance(line["input"], dict) else f"={line['input']!r}"
    message = line["msg"].removeprefix("Value error, ")
    if line["type"] == "tuple_type":
        message = f"must be a list, as in '{key}=[a,b]'"
    where = f"{key}{value}: " if key else ""
    return f"{where}{message} ({_file(files, key)})"


def _unknown_keys(cls: type[Any], content: Mapping[Any, Any], prefix: str) -> list[tuple[str, list[str]]]:
    hints = get_type_hints(cls)
    names = [f.name for f in dataclasses.fields(cls)]
    found = [(f"{prefix}{key}", names) for key in content if key not in names]
    for name in names:
        kind, value = hints[name], content.get(name)
        if dataclasses.is_dataclass(kind) and isinstance(kind, type) and isinstance(value, Mapping):
            found += _unknown_keys(kind, value, f"{prefix}{name}.")
    return found
