"""`python -m tests.benchmarks [NAME …]`: all of them, or those named.

Each ratio compares two things measured in the same run. On a machine that is busy with other work the times are worth
nothing and the ratios little: the share of the processors that others take is shown first.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from tests.benchmarks import (
    audit,
    image_preprocessing,
    loaders,
    packing,
    preprocessing,
    readers,
    storage_needs,
    streaming,
    targets_online,
    training_overhead,
)
from tests.benchmarks.report import print_machine

BENCHMARKS: Mapping[str, Callable[[Path, int], None]] = {
    "streaming": streaming.run,
    "loaders": loaders.run,
    "readers": readers.run,
    "preprocessing": preprocessing.run,
    "training": training_overhead.run,
    "packing": packing.run,
    "images": image_preprocessing.run,
    "targets": targets_online.run,
    "audit": audit.run,
    "storage": storage_needs.run,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"any of {', '.join(BENCHMARKS)}; none: all")
    parser.add_argument("--repeats", type=int, default=3, help="measurements of each contender (default 3)")
    arguments = parser.parse_args()
    unknown = [name for name in arguments.names if name not in BENCHMARKS]
    if unknown:
        parser.error(f"no benchmark {unknown[0]!r}; there are {', '.join(BENCHMARKS)}")
    if arguments.repeats < 1:
        parser.error(f"--repeats must be at least 1, got {arguments.repeats}")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    print_machine()
    for name in arguments.names or BENCHMARKS:
        with tempfile.TemporaryDirectory(prefix=f"vlajepa-{name}-") as folder:
            BENCHMARKS[name](Path(folder), arguments.repeats)


if __name__ == "__main__":
    main()
