"""Whatever loads a checkpoint does so within the memory that its files can fill."""

from __future__ import annotations

import resource
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from jobs.common.policy.bounded_loading import bounded_loading
from jobs.training import import_checkpoint
from jobs.training.run import train
from jobs.training.settings import ImportConfig
from model.settings import tiny_settings
from pipeline.audit.canonical.expansion import ROOM
from pipeline.errors import BuildError
from pipeline.format.build import Build
from tests.jobs.closed_loop.checkpoints import untrained
from tests.jobs.runs import train_config


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        OverflowError(),
        RuntimeError("Storage size calculation overflowed"),
        TypeError("Overflow"),
    ],
)
def test_what_asks_for_more_is_named(tmp_path: Path, error: Exception) -> None:
    (tmp_path / "weights").write_bytes(bytes(1000))
    before = resource.getrlimit(resource.RLIMIT_AS)

    def load(source: Path) -> None:
        with bounded_loading(source):
            assert resource.getrlimit(resource.RLIMIT_AS)[0] != before[0]
            raise error

    for source in (tmp_path, tmp_path / "weights"):
        with pytest.raises(BuildError, match=rf"{source} asks for a model of more than {ROOM + 4000:,} bytes"):
            load(source)
    assert resource.getrlimit(resource.RLIMIT_AS) == before


def test_another_error_stays_what_it_is(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="shapes"), bounded_loading(tmp_path):
        raise RuntimeError("shapes do not fit")


@pytest.mark.parametrize("command", ["train", "import"])
def test_init_from_and_import_are_bounded(
    robot_build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    source = untrained(tmp_path / "step-00000000", robot_build)
    limits = []

    def load(*_: Any, **__: Any) -> str:
        limits.append(resource.getrlimit(resource.RLIMIT_AS)[0])
        raise MemoryError

    def train_from() -> None:
        train(replace(train_config(tmp_path / "out", [robot_build]), init_from=source))

    def take_over() -> None:
        sizes, out = robot_build.sizes, tmp_path / "back"
        import_checkpoint.run(ImportConfig(checkpoint=source, out=out, model=tiny_settings(), sizes=sizes))

    run: Callable[[], None] = train_from if command == "train" else take_over
    monkeypatch.setattr(f"jobs.training.{'run' if command == 'train' else 'import_checkpoint'}.load_initial", load)
    with pytest.raises(BuildError, match=f"{source} asks for a model of more than"):
        run()
    assert limits
    assert limits[0] != resource.getrlimit(resource.RLIMIT_AS)[0]
