"""A list of texts beside the data: a .csv file with a header, or a .json file with a list of objects."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.errors import RunError
from pipeline.sources.metadata import open_text, read_json


def read_text_list(path: str, columns: Sequence[str], fix: str, fix_columns: str = "") -> list[Mapping[str, Any]]:
    """The rows of a list; what is no object in a .json list is an empty row.

    Args:
        columns: that a .csv file must have.
        fix, fix_columns: the end of the message; of that about a column, if it is another.

    Raises:
        RunError: the list is missing, cannot be read, or lacks a column.
    """
    if path.endswith(".json"):
        rows = read_json(path, fix, lenient=True)
        if not isinstance(rows, list):
            raise RunError(f"{path} holds a {type(rows).__name__}, expected a list of objects. {fix}")
        return [row if isinstance(row, dict) else {} for row in rows]
    listed: list[Mapping[str, Any]] = []
    try:
        with open_text(path) as file:
            reader = csv.DictReader(file)
            found = list(reader.fieldnames or ())
            listed += reader
    except (OSError, csv.Error) as error:
        raise RunError(f"{path}: {getattr(error, 'strerror', None) or error}. {fix}") from error
    missing = [name for name in columns if name not in found]
    if missing:
        raise RunError(f"{path} has no column {', '.join(missing)}; it has {', '.join(found)}. {fix_columns or fix}")
    return listed
