"""The functions that a probe's settings name."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from typing import Any

from pipeline.errors import SettingsError


def load_function(name: str, value: str | None) -> Callable[..., Any]:
    """The function that a setting names as `package.module:name`; modules of the working folder are found.

    Raises:
        SettingsError: there is none.
    """
    module, _, attribute = (value or "").partition(":")
    if not module or not attribute:
        raise SettingsError(f"{name} must be package.module:name, got {value!r}")
    if "" not in sys.path:
        sys.path.insert(0, "")  # a console script has its own folder there instead of the working folder
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise SettingsError(f"{name}={value} cannot be imported: {error}") from error
    if not callable(found):
        raise SettingsError(f"{name}={value} is no function but {type(found).__name__}")
    return found
