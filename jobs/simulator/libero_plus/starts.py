"""Start states of LIBERO-Plus, which are NumPy arrays in files of `torch.save`, read without torch."""

from __future__ import annotations

import io
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

ALLOWED = {
    ("numpy.core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],
    ("numpy._core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("_codecs", "encode"): lambda text, encoding: text.encode("latin1"),
}
"""What an array is made of; anything else in a pickle is refused, because it could run code."""


def read_starts(path: Path) -> np.ndarray:
    """Start states float64 [N, Q], of one state N = 1. Raises ValueError for a file that is something else."""
    try:
        with zipfile.ZipFile(path) as archive:
            (name,) = (name for name in archive.namelist() if name.endswith("/data.pkl"))
            found = _Unpickler(io.BytesIO(archive.read(name))).load()
    except (OSError, ValueError, TypeError, pickle.UnpicklingError, zipfile.BadZipFile, EOFError) as error:
        raise ValueError(f"{path}: not a file of start states; {error}") from error
    if not isinstance(found, np.ndarray) or found.dtype != np.float64 or found.ndim not in (1, 2):
        raise ValueError(f"{path}: expected numbers float64 [states, size], got {type(found).__name__}")
    return np.atleast_2d(found)


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in ALLOWED:
            raise pickle.UnpicklingError(f"{module}.{name} does not belong into an array")
        return ALLOWED[module, name]
