"""`vlajepa` of which one rank reads for ever from its third batch on: RANK of the environment is VLAJEPA_TEST_HANGS."""

from __future__ import annotations

import os
import time
from typing import Any

from jobs.cli import main
from pipeline.streaming.stream import Stream

HANGS = "VLAJEPA_TEST_HANGS"
BATCHES = 2
"""That it reads before."""

_batches = Stream.batches


def _hanging(self: Stream, *arguments: Any) -> Any:
    for i, batch in enumerate(_batches(self, *arguments)):
        if i == BATCHES:
            time.sleep(3600)
        yield batch


if __name__ == "__main__":
    if os.environ["RANK"] == os.environ[HANGS]:
        Stream.batches = _hanging  # type: ignore[method-assign]
    main()
