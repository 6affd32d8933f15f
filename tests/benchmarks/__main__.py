"""`python -m tests.benchmarks [NAME …]`: all of them, or those named; "scale" are those of one table at the end.

Each ratio compares two things measured in the same run. On a machine that is busy with other work the times are worth
nothing and the ratios little: the share of the processors that others take is shown first.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path

from tests.benchmarks.peers.torchvision_operators import define_operators
from tests.benchmarks.report import Shown, Table, collected_targets, heard_tables, print_machine
from tests.benchmarks.scale import BENCHMARKS as OF_SCALE
from tests.benchmarks.scale import print_scale

BENCHMARKS: Mapping[str, str] = {
    "streaming": "streaming",
    "loaders": "loaders",
    "readers": "readers",
    "preprocessing": "preprocessing",
    "growth": "growth",
    "films": "shared_films",
    "bucket": "bucket_shard",
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
    "counts": "step_counts",
    "encoder-counts": "encoder_counts",
    "activations": "activations",
    "latency": "policy_latency",
    "cuda": "cuda_step",
    "cuda-encoder": "cuda_encoder",
    "cuda-run": "cuda_run",
}
"""Module of each: it has `run(folder, repeats, scale)`, the class `Scale` with the real size, and `TINY`."""

NAMES = (*BENCHMARKS, "scale")


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"any of {', '.join(NAMES)}; none: all")
    parser.add_argument("--repeats", type=int, default=3, help="measurements of each contender (default 3)")
    parser.add_argument("--json", type=Path, help="file that the tables are written to as well, each as it is printed")
    parser.add_argument("--tiny", action="store_true", help="show that they work: the numbers mean nothing")
    arguments = parser.parse_args(words)
    unknown = [name for name in arguments.names if name not in NAMES]
    if unknown:
        parser.error(f"no benchmark {unknown[0]!r}; there are {', '.join(NAMES)}")
    if arguments.repeats < 1:
        parser.error(f"--repeats must be at least 1, got {arguments.repeats}")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    define_operators()  # transformers imports torchvision wherever the peers have brought it
    machine = print_machine(0.0 if arguments.tiny else 2.0)
    tables: dict[str, list[Table]] = {name: [] for name in _chosen(arguments.names)}
    measured = {}
    for name, own in tables.items():

        def listener(table: Table, own: list[Table] = own) -> None:
            own.append(table)
            if arguments.json:
                content = {"machine": machine, "device": _device(), "tiny": arguments.tiny, "tables": tables}
                arguments.json.write_text(json.dumps(content, indent=2) + "\n")

        with heard_tables(listener):
            measured[name] = _measure(name, arguments.repeats, arguments.tiny)
    if not arguments.names or "scale" in arguments.names:
        print_scale(measured)


def _device() -> str:
    """The CUDA device, of a benchmark that has imported PyTorch."""
    torch = sys.modules.get("torch")
    return torch.cuda.get_device_name() if torch and torch.cuda.is_available() else "none"


def _chosen(names: Sequence[str]) -> list[str]:
    """Benchmarks to run, each once; "scale" stands for those of its table."""
    wanted = [one for name in names for one in (OF_SCALE if name == "scale" else (name,))]
    return list(dict.fromkeys(wanted or BENCHMARKS))


def _measure(name: str, repeats: int, tiny: bool) -> list[Shown]:
    """Run a benchmark, which prints its tables. The targets in them."""
    module = import_module(f"tests.benchmarks.{BENCHMARKS[name]}")
    with tempfile.TemporaryDirectory(prefix=f"vlajepa-{name}-") as folder, collected_targets() as targets:
        module.run(Path(folder), repeats, module.TINY if tiny else module.Scale())
    return targets


if __name__ == "__main__":
    main()
