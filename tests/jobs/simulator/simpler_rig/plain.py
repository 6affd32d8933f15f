"""Values as JSON has them, so that two sides can be compared; needs none of the project."""

from __future__ import annotations

from typing import Any

import numpy as np


def plain(value: Any) -> Any:
    """Arrays and tuples as lists, numbers to five decimals."""
    if isinstance(value, dict):
        return {key: plain(each) for key, each in sorted(value.items())}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [plain(each) for each in value]
    return round(float(value), 5) + 0.0 if isinstance(value, (float, np.floating)) else value
