"""Fixtures shared by all tests: where the real data and the reference tensors lie."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NoReturn

import absl.logging
import pytest
import ray
from hypothesis import HealthCheck, settings

from jobs.cluster.connect import start_ray
from pipeline.format.build import Build
from pipeline.format.build_settings import EncoderSettings, LatentSettings, WindowPolicy
from pipeline.sample_world.lerobot import write_lerobot
from pipeline.sample_world.ssv2 import write_ssv2
from tests.jobs.runs import audited, build_config, robot_source, ssv2_source
from tests.pipeline.storage.s3_server import S3_USER

# mlcroissant and tensorflow-datasets log through absl, whose handler closes its first stream when Hydra sets up
# logging: were that pytest's own capture, pytest would end there. The process's stderr it leaves open.
absl.logging.get_absl_handler().python_handler.stream = sys.__stderr__

# How long an example takes says how busy the machine is, not whether the code is right.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")

os.environ.setdefault(
    "MPLCONFIGDIR", str(Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "matplotlib")
)

REPOSITORY = Path(__file__).resolve().parents[1]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that need a Ray come last: while it stands, its idle processes slow down everything else."""
    items.sort(key=lambda item: "ray_session" in getattr(item, "fixturenames", ()))


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test reads or leaves anything in the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real clips and robot episodes: `data` of the folder `shared` beside the checkout, or VLAJEPA_TEST_DATA."""
    return _folder("VLAJEPA_TEST_DATA", REPOSITORY.parent / "shared" / "data")


@pytest.fixture(scope="session")
def reference_dir() -> Path:
    """Tensors of the reference modules: `reference` of the folder `shared`, or VLAJEPA_REFERENCE."""
    return _folder("VLAJEPA_REFERENCE", REPOSITORY.parent / "shared" / "reference")


@pytest.fixture(scope="session")
def chromium() -> str:
    """A Chromium or Chrome on this machine (Debian: apt-get install chromium)."""
    names = ("chromium", "chromium-browser", "google-chrome")
    found = next((path for name in names if (path := shutil.which(name))), None)
    return found or _unavailable(f"none of {', '.join(names)} is installed; on Debian: apt-get install chromium")


@pytest.fixture(scope="session")
def gcc() -> str:
    """A C compiler on this machine (Debian: apt-get install gcc libc6-dev)."""
    return shutil.which("gcc") or _unavailable("gcc is not installed; on Debian: apt-get install gcc libc6-dev")


@dataclass(frozen=True)
class SampleData:
    """The sample world on disk: `ssv2` a Something-Something-v2 root, `lerobot` a LeRobot v2.1 root."""

    ssv2: Path
    lerobot: Path


@pytest.fixture(scope="session")
def sample_data(tmp_path_factory: pytest.TempPathFactory) -> SampleData:
    """8 human clips (6 train, 1 val, 1 test) and 4 robot episodes of 60-80 frames, 64 x 64 pixels; read only."""
    root = tmp_path_factory.mktemp("sample-world")
    data = SampleData(root / "ssv2", root / "lerobot")
    write_ssv2(data.ssv2, clips=8, seed=0, size=64)
    write_lerobot(data.lerobot, episodes=4, seed=0, size=64)
    return data


@pytest.fixture(scope="session")
def ray_session() -> Iterator[None]:
    """One Ray for all tests of a session; commands that run in this process use it.

    Its workers know who they are to an S3, as those of a cluster do, and soon give up a request that nobody answers.
    """
    with pytest.MonkeyPatch.context() as env:
        for name, value in S3_USER.items():
            env.setenv(name, value)
        env.setenv("VLAJEPA_STORE_TIMEOUT", "0.5")
        start_ray(num_cpus=4, object_store_memory=256 * 2**20, include_dashboard=False)
    yield
    ray.shutdown()


@pytest.fixture(scope="session")
def video_build(sample_data: SampleData, tmp_path_factory: pytest.TempPathFactory) -> Build:
    """An audited build of the human clips: 1 view, 64 px, K = 3; read only."""
    return audited(build_config(tmp_path_factory.mktemp("builds") / "ssv2", ssv2_source(sample_data.ssv2)))


@pytest.fixture(scope="session")
def robot_build(sample_data: SampleData, tmp_path_factory: pytest.TempPathFactory) -> Build:
    """An audited build of the robot episodes: 2 views, state 8, actions 7; read only."""
    out = tmp_path_factory.mktemp("builds") / "robot"
    return audited(build_config(out, robot_source(sample_data.lerobot), window=WindowPolicy(interval=2, every=6)))


@pytest.fixture(scope="session")
def int8_build(sample_data: SampleData, tmp_path_factory: pytest.TempPathFactory) -> Build:
    """`robot_build` with its latents stored as int8."""
    out = tmp_path_factory.mktemp("builds") / "int8"
    window, latents = WindowPolicy(interval=2, every=6), LatentSettings(dtype="int8")
    return audited(build_config(out, robot_source(sample_data.lerobot), window=window, latents=latents))


@pytest.fixture(scope="session")
def tubelet_build(sample_data: SampleData, tmp_path_factory: pytest.TempPathFactory) -> Build:
    """The samples of `robot_build` in encoder mode `tubelet`, stored as int8: windows share every other tubelet."""
    out = tmp_path_factory.mktemp("builds") / "tubelet"
    window, encoder = WindowPolicy(interval=2, every=6), EncoderSettings(kind="tiny", resize="squash", mode="tubelet")
    config = build_config(out, robot_source(sample_data.lerobot), window=window, encoder=encoder)
    return audited(replace(config, latents=LatentSettings(dtype="int8")))


def _folder(variable: str, default: Path) -> Path:
    """The folder a variable names, else the default; a missing one skips the test, and fails it with CI=true."""
    folder = Path(os.environ.get(variable) or default)
    if not folder.is_dir():
        _unavailable(f"{folder} is missing; set {variable} to the folder that holds this data")
    return folder


def _unavailable(reason: str) -> NoReturn:
    """A test that silently skips in CI checks nothing, so there it fails."""
    if os.environ.get("CI", "").lower() == "true":
        pytest.fail(reason)
    pytest.skip(reason)
