"""The plain values in a manifest's file, and what is wrong with them."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from pipeline.errors import SettingsError

LARGEST = 2**20
"""Bytes of a manifest."""
_DEEPEST = 8
_LARGEST_NUMBER = 2**53
_SHOWN = 40


def read_values(path: Path) -> tuple[dict[str, Any], bytes]:
    """What a file holds: mappings with texts as keys, lists, texts, finite numbers, truth values and nulls; and its
    bytes. Raises SettingsError, with the file and the key, for anything else."""
    try:
        raw = _read_small(path)
        if any(isinstance(token, yaml.AliasToken) for token in yaml.scan(raw.decode())):
            raise SettingsError(f"{path}: an alias (*name) repeats what stands elsewhere; write it out")
        content = OmegaConf.to_container(OmegaConf.create(raw.decode()), resolve=False)
    except RecursionError as error:
        raise SettingsError(f"{path} cannot be read as YAML: it is nested too deeply") from error
    except (OSError, ArithmeticError, TypeError, ValueError, yaml.YAMLError, OmegaConfBaseException) as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}: {getattr(error, 'problem', '')}" if mark else " ".join(str(error).split())[:300]
        raise SettingsError(f"{path} cannot be read as YAML: {where}") from error
    for key, problem in _problems(content, ""):
        raise SettingsError(f"{path}: {key}: {problem}")
    if not isinstance(content, dict):
        raise SettingsError(f"{path}: a manifest is a mapping of keys to values")
    return {str(key): value for key, value in content.items()}, raw


def _read_small(path: Path) -> bytes:
    """A file of at most `LARGEST` bytes. Raises OSError, or ValueError for anything else, which could be waited for."""
    if not path.is_file() or path.stat().st_size > LARGEST:
        raise ValueError(f"it is no file of at most {LARGEST:,} bytes")
    return path.read_bytes()


def _problems(value: Any, key: str, depth: int = 0) -> Iterator[tuple[str, str]]:
    """Keys with dots, and what is wrong with what stands there."""
    if depth > _DEEPEST:
        yield key, f"a manifest is nested at most {_DEEPEST} deep"
    elif isinstance(value, dict):
        for name, part in value.items():
            if not isinstance(name, str):
                yield key or "manifest", f"keys must be texts, got {name!r:.{_SHOWN}}"
            elif problem := _wrong_text(name):
                yield key or "manifest", f"the key {name!r:.{_SHOWN}}: {problem}"
            else:
                yield from _problems(part, f"{key}.{name}" if key else name, depth + 1)
    elif isinstance(value, list):
        for at, part in enumerate(value):
            yield from _problems(part, f"{key}.{at}" if key else str(at), depth + 1)
    elif isinstance(value, str):
        if problem := _wrong_text(value):
            yield key, problem
    elif isinstance(value, int | float):
        if not math.isfinite(value) or abs(value) > _LARGEST_NUMBER:
            yield key, f"a number must be finite and at most 2**53, got {value!r:.{_SHOWN}}"
    elif value is not None:
        yield key, f"must be a text, a number, a truth value, a list or a mapping, got a {type(value).__name__}"


def _wrong_text(text: str) -> str | None:
    """What is wrong with a text as parsed: YAML may write any character as an escape."""
    if "${" in text:
        return "${ would be replaced by what it names; a manifest says what it means"
    odd = next((c for c in text if unicodedata.category(c) in ("Cc", "Cs") and c not in "\n\t"), None)
    return None if odd is None else f"a text holds no control characters and is valid Unicode, got {odd!r}"
