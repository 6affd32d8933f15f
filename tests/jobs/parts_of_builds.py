"""Builds to be dropped from, merged and extended: made in this process, without Ray, some of them of a part of the
source's episodes."""

from __future__ import annotations

import itertools
import json
import pkgutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from jobs.preprocess.plan import build_settings, new_plan, read_index
from jobs.preprocess.settings import BuildConfig
from pipeline.format.build_settings import WindowPolicy
from pipeline.planning.plan import write_plan
from pipeline.storage.store import LocalStore
from tests.jobs.runs import build_config, make_here, robot_source

WINDOW = WindowPolicy(interval=2, every=0, per_episode=3)


def robot_config(out: Path, root: Path) -> BuildConfig:
    """Three windows an episode of the robot source: shards hold several episodes, and encoding takes no time."""
    return build_config(out, robot_source(root), window=WINDOW)


def make_part(settings: BuildConfig, wanted: Callable[[str], bool]) -> Path:
    """A build of some of the source's episodes, by their ids."""
    index = read_index(settings)
    some = replace(index, refs=tuple(ref for ref in index.refs if wanted(ref.id)))
    write_plan(new_plan(settings, build_settings(settings), some), LocalStore(Path(settings.out)))
    make_here(settings)
    return Path(settings.out)


def samples(build: Path) -> dict[str, dict[str, Any]]:
    """The manifest by key."""
    return {row["key"]: row for row in pq.read_table(build / "samples.parquet").to_pylist()}


def digests(build: Path) -> dict[str, tuple[str, bytes, bytes]]:
    """Split and both digests of every sample by key."""
    return {key: (r["split"], r["inputs_sha256"], r["targets_sha256"]) for key, r in samples(build).items()}


def numbers(build: Path) -> dict[str, float]:
    """Every number of stats.json by its place, for `pytest.approx`."""
    content = json.loads((build / "stats.json").read_bytes())
    found = {"samples": content["samples"]}
    for group in ("state", "action"):
        for name, values in (content[group] or {}).items():
            found |= {f"{group}.{name}.{i}": value for i, value in enumerate(np.atleast_1d(values).tolist())}
    return found


def killed_at(patch: pytest.MonkeyPatch, function: str, call: int) -> None:
    """The given call of a function ends the run as Ctrl+C does; earlier ones do their work."""
    calls = itertools.count(1)
    real = pkgutil.resolve_name(function)

    def counted(*arguments: Any, **named: Any) -> Any:
        if next(calls) == call:
            raise KeyboardInterrupt
        return real(*arguments, **named)

    patch.setattr(function, counted)
