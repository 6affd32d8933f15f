"""Templates of paths in the metadata of a dataset, which may come from anybody.

`str.format` would read attributes of what it is given, fill in widths of gigabytes and name any file of the machine.
Here a template holds named fields, maybe with a number of digits, and its path stays below the dataset's root.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from string import Formatter

from pipeline.errors import RunError

_DIGITS = re.compile(r"0?[0-9]{0,2}d?")


def fill_template(template: object, values: Mapping[str, str | int], where: str) -> str:
    """The path of a template, relative to the root.

    Args:
        values: the fields that it may name.
        where: the file and key, for the message.

    Raises:
        RunError: it names another field, holds anything but plain fields, or leads out of the root.
    """
    fix = f"expected a path below root with the fields {', '.join(f'{{{name}}}' for name in values)}"
    if not isinstance(template, str):
        raise RunError(f"{where}: the path template is {template!r:.80}, {fix}")
    filled = []
    try:
        for text, name, digits, conversion in Formatter().parse(template):
            filled.append(text)
            if name is None:
                continue
            if name not in values or conversion or not _DIGITS.fullmatch(digits or ""):
                raise ValueError(f"the field {name!r:.40}")
            filled.append(format(values[name], digits or ""))
    except ValueError as error:
        raise RunError(f"{where}: the path template {template!r:.200} holds {error}; {fix}") from error
    path = os.path.normpath("".join(filled))
    if os.path.isabs(path) or path.split(os.sep)[0] == os.pardir or "\0" in path:
        raise RunError(f"{where}: the path template leads out of the dataset, to {path!r:.200}; {fix}")
    return path
