"""TensorBoard, without TensorFlow."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType


class TensorBoard:
    """Event files in a folder. Those of steps after `first`, which an interrupted run left behind, are purged.

    TensorBoard loads TensorFlow wherever it is installed, and TensorFlow takes hold of every GPU; the module `notf` is
    TensorBoard's own switch against that.
    """

    def __init__(self, folder: Path, first: int) -> None:
        sys.modules.setdefault("tensorboard.compat.notf", ModuleType("tensorboard.compat.notf"))
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(folder), purge_step=first + 1 if first else None)

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def close(self, failed: bool) -> None:
        self._writer.close()
