"""Truncated and bit-flipped copies of every real file: an error that names the file, or the truth; never a crash, a
hang, or another sample."""

from __future__ import annotations

import multiprocessing
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mcap.writer import CompressionType

from tests.damage.trial import Damage, Trial, limit_memory, run
from tests.mcap_files.robot import SETTINGS, robot_messages
from tests.mcap_files.writer import write_mcap
from tests.pipeline.sources.libero.test_libero import write_task

BRIDGE: dict[str, Any] = {"type": "rlds", "name": "bridge", "fps": 5, "cameras": ["image_0"]}
DATASETS: dict[str, tuple[str, dict[str, Any]]] = {
    "ssv2": ("ssv2", {"type": "ssv2", "name": "ssv2"}),
    "lerobot_v21": ("lerobot_v21/unitree_g1_inspire_bottle", {"type": "lerobot", "name": "g1", "val_share": 0.0}),
    "lerobot_v30": ("lerobot_v30/unitree_g1_inspire_bottle", {"type": "lerobot", "name": "g1", "val_share": 0.0}),
    "bridge": ("rlds/bridge_dataset/1.0.0", BRIDGE),
}
UNREAD = ("LICENSE", "README", "provenance", "stats", "labels.json")
"""Files that no reader opens."""

SECONDS = 120
"""A trial that takes longer hangs: the slowest takes a few seconds here."""


def files_of(root: Path) -> list[str]:
    paths = sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())
    return [path for path in paths if not any(word in path for word in UNREAD)]


def damages(seed: int, count: int) -> Iterator[Damage]:
    """A cut and flipped bits by turns, anywhere in the file; the first near its end, where indexes are."""
    rng = np.random.default_rng(seed)
    for number in range(count):
        place = 1 - 10 ** rng.uniform(-4, -1) if number < 2 else rng.uniform()
        yield Damage(float(place), 0 if number % 2 == 0 else int(rng.integers(1, 5)), seed + number)


@pytest.fixture(scope="module")
def pool() -> Iterator[ProcessPoolExecutor]:
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context, initializer=limit_memory) as processes:
        yield processes


def outcomes(name: str, shared_data: Path, pool: ProcessPoolExecutor, count: int) -> list[str]:
    """Run all trials of a dataset; findings are raised with what reproduces them."""
    folder, settings = DATASETS[name]
    root = shared_data / folder
    found = []
    for number, file in enumerate(files_of(root)):
        for damage in damages(1000 * number, count):
            with tempfile.TemporaryDirectory() as temporary:
                trial = Trial(str(root), file, settings, damage)
                try:
                    outcome = pool.submit(run, trial, Path(temporary)).result(timeout=SECONDS)
                except (BrokenProcessPool, TimeoutError) as error:
                    pytest.fail(f"{trial}: the reader crashed or hangs: {error!r}")
            assert outcome in ("error", "equal"), f"{trial}: {outcome}"
            found.append(outcome)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("name", DATASETS)
def test_damaged_copies_of_every_real_file(name: str, shared_data: Path, pool: ProcessPoolExecutor) -> None:
    found = outcomes(name, shared_data, pool, 2)
    assert found.count("error") > len(found) // 8  # the damage was real


def test_damaged_copies_of_a_libero_file(tmp_path: Path, pool: ProcessPoolExecutor) -> None:
    """Made up, as no real one is at hand."""
    write_task(tmp_path / "raw/task_demo.hdf5", {"demo_0": 12, "demo_1": 16})
    settings = {"type": "libero", "name": "libero"}
    found = set()
    for damage in damages(0, 30):
        with tempfile.TemporaryDirectory() as temporary:
            trial = Trial(str(tmp_path / "raw"), "task_demo.hdf5", settings, damage)
            found.add(pool.submit(run, trial, Path(temporary)).result(timeout=SECONDS))
    assert found == {"error", "equal"}


def test_damaged_copies_of_a_recording(tmp_path: Path, pool: ProcessPoolExecutor) -> None:
    """Made up. Damage is found by the checksums of the chunks, or harms what nobody reads: the index at the end."""
    for compression in (CompressionType.ZSTD, CompressionType.NONE):
        write_mcap(tmp_path / "raw/a.mcap", robot_messages(8), compression=compression, chunk_size=4000)
        settings = {"type": "mcap", **SETTINGS}
        found = set()
        for damage in damages(0, 30):
            with tempfile.TemporaryDirectory() as temporary:
                trial = Trial(str(tmp_path / "raw"), "a.mcap", settings, damage)
                found.add(pool.submit(run, trial, Path(temporary)).result(timeout=SECONDS))
        assert found == {"error", "equal"}


@pytest.mark.slow
@pytest.mark.parametrize("name", DATASETS)
def test_many_damaged_copies_of_every_real_file(name: str, shared_data: Path, pool: ProcessPoolExecutor) -> None:
    outcomes(name, shared_data, pool, 40)
