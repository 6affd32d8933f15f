"""`python -m tests.benchmarks [NAME …]`: all of them, or those named.

Each ratio compares two things measured in the same run. On a machine that is busy with other work the times are worth
nothing and the ratios little: the share of the processors that others take is shown first.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path

from tests.benchmarks.peers.torchvision_operators import define_operators
from tests.benchmarks.report import print_machine

BENCHMARKS: Mapping[str, str] = {
    "streaming": "streaming",
    "loaders": "loaders",
    "readers": "readers",
    "preprocessing": "preprocessing",
    "growth": "growth",
    "films": "shared_films",
    "commit": "commit",
    "scheduler": "scheduler",
    "int8": "int8_latents",
    "training": "training_overhead",
    "serving": "serving",
    "soak": "soak",
    "rank-start": "rank_start",
    "packing": "packing",
    "images": "image_preprocessing",
    "targets": "targets_online",
    "audit": "audit",
    "audit-workers": "audit_workers",
    "duplicates": "duplicates",
    "storage": "storage_needs",
    "cuda": "cuda_step",
    "cuda-encoder": "cuda_encoder",
    "cuda-run": "cuda_run",
}
"""Module of each: it has `run(folder, repeats, scale)`, the class `Scale` with the real size, and `TINY`."""


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"any of {', '.join(BENCHMARKS)}; none: all")
    parser.add_argument("--repeats", type=int, default=3, help="measurements of each contender (default 3)")
    parser.add_argument("--tiny", action="store_true", help="show that they work: the numbers mean nothing")
    arguments = parser.parse_args(words)
    unknown = [name for name in arguments.names if name not in BENCHMARKS]
    if unknown:
        parser.error(f"no benchmark {unknown[0]!r}; there are {', '.join(BENCHMARKS)}")
    if arguments.repeats < 1:
        parser.error(f"--repeats must be at least 1, got {arguments.repeats}")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    define_operators()  # transformers imports torchvision wherever the peers have brought it
    print_machine(0.0 if arguments.tiny else 2.0)
    for name in arguments.names or BENCHMARKS:
        with tempfile.TemporaryDirectory(prefix=f"vlajepa-{name}-") as folder:
            module = import_module(f"tests.benchmarks.{BENCHMARKS[name]}")
            module.run(Path(folder), arguments.repeats, module.TINY if arguments.tiny else module.Scale())


if __name__ == "__main__":
    main()
