"""What a finished training is compared by: everything it wrote but times, memory and paths."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import torch

from jobs.training.loop.step.phases import PREFIX
from model.checkpoint.averages import AVERAGES
from model.checkpoint.folders import list_checkpoints
from model.checkpoint.sharded_checkpoint import SHARDED, fill_sharded, sharded_shapes
from model.checkpoint.state_file import read_state, verify_checkpoint
from pipeline.storage.atomic import hash_file

MEASURED = ("samples_per_s", "data_wait_share", "seconds", "memory_gib")
"""Numbers of a step that are another in every run, as those of its phases are."""


def result_of(out: Path) -> dict[str, Any]:
    """Files of every checkpoint by their hash (weights, optimiser, state), rows of metrics, held-out numbers, and how
    it ended."""
    found: dict[str, Any] = {}
    for checkpoint in list_checkpoints(out / "checkpoints"):
        verify_checkpoint(checkpoint)
        name = checkpoint.name
        found[name] = read_state(checkpoint)
        if (checkpoint / SHARDED).is_dir():
            found |= {f"{name}/{tensor}": digest for tensor, digest in _sharded(checkpoint).items()}
        else:
            found |= {f"{name}/{path.name}": hash_file(path) for path in sorted(checkpoint.glob("*.safetensors"))}
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    found["metrics"] = [{name: value for name, value in row.items() if not _measured(name)} for row in rows]
    for name in ("held_out.json", "ended.json"):
        found[name] = json.loads((out / name).read_text())
    return found


def _measured(name: str) -> bool:
    return name in MEASURED or name.startswith(PREFIX)


def _sharded(checkpoint: Path) -> dict[str, str]:
    """SHA-256 of each tensor: where it stands in the files depends on how a run went."""
    found = {}
    for kind in ("model", "optimizer", AVERAGES):
        tensors = {name: torch.empty(shape) for name, shape in sharded_shapes(checkpoint, kind).items()}
        if tensors:
            fill_sharded(checkpoint, kind, tensors)  # all at once: each call reads the whole index
        for name, tensor in tensors.items():
            found[f"{kind}/{name}"] = hashlib.sha256(tensor.numpy().tobytes()).hexdigest()
    return found


def leftovers(out: Path) -> list[str]:
    """What a killed process left in a finished run's folder."""
    odd = [path for path in out.rglob("*") if path.name.startswith((".tmp", "damaged-")) or path.suffix == ".damaged"]
    return sorted(str(path.relative_to(out)) for path in odd)


def differences(ours: dict[str, Any], theirs: dict[str, Any]) -> list[str]:
    """Names of what differs."""
    return sorted(name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name))
