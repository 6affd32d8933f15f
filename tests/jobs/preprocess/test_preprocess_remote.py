"""Builds that are made on S3 through a proxy that spoils requests: the bytes of the same build on a disk."""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobs.common.driver_lock import DriverLock
from jobs.preprocess.preprocess import preprocess
from pipeline.building.records import find_records
from pipeline.errors import BuildError, RunError
from pipeline.format.build import Build
from pipeline.format.file_names import VERDICT
from pipeline.planning.plan import read_plan
from pipeline.storage import object_store
from pipeline.storage.download import mirror_build
from pipeline.storage.retry import Retry
from pipeline.storage.store import Store, open_store
from tests.conftest import SampleData
from tests.jobs.runs import build_config, build_hashes, robot_words, ssv2_source
from tests.jobs.test_cli import run
from tests.pipeline.storage.flaky_proxy import FlakyProxy, even_rates
from tests.pipeline.storage.s3_server import be_impatient, s3_server


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    with s3_server() as bucket:
        yield bucket


@pytest.fixture
def url(s3: str) -> str:
    """A place of its own."""
    return f"{s3}/{uuid.uuid4().hex}/build"


@pytest.fixture
def direct(url: str) -> Store:
    """The same place, asked without the proxy."""
    return open_store(url)


@pytest.fixture
def flaky(direct: Store, monkeypatch: pytest.MonkeyPatch) -> Iterator[FlakyProxy]:
    """A proxy that every store made from now on goes through."""
    made = FlakyProxy(os.environ["AWS_ENDPOINT_URL"], seed=3)
    be_impatient(monkeypatch)
    with made.running() as address:
        monkeypatch.setenv("AWS_ENDPOINT_URL", address)
        yield made


@contextlib.contextmanager
def watched(place: Store) -> Iterator[list[int]]:
    """Look all the time whether what is listed is there. Yields how many files were listed."""
    seen: list[int] = []
    over = threading.Event()

    def look() -> None:
        while not over.wait(0.05):
            seen.append(listed_files(place))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()


def listed_files(place: Store) -> int:
    """How many finished files the records of an unfinished build list; -1 if one is not there as it is listed."""
    records = [name for name in place.sizes() if name.startswith("work/")]
    if not records:
        return 0
    try:
        plan = read_plan(place)
        parts = find_records(place, plan.tasks, plan.fingerprint)
        found = [hashlib.sha256(place.read(p.record.file)).hexdigest() == p.record.sha256 for p in parts.values()]
    except FileNotFoundError:
        found = []
    if "build.json" in place.sizes():
        return 0  # committed meanwhile: the records go
    return len(found) if all(found) and len(found) >= len(records) else -1


def object_hashes(place: Store) -> dict[str, str]:
    """As `build_hashes`."""
    names = [name for name in place.sizes() if name.split("/")[0] not in ("logs", "audit")]
    return {name: hashlib.sha256(place.read(name)).hexdigest() for name in names}


@pytest.mark.slow
def test_a_build_is_planned_made_and_audited_on_a_flaky_s3(
    sample_data: SampleData,
    video_build: Build,
    url: str,
    direct: Store,
    flaky: FlakyProxy,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """On the Ray of the tests, which knew nothing of this S3 when it started."""
    flaky.rates = even_rates(0.25)
    monkeypatch.setattr(object_store, "Retry", lambda **_: Retry(attempts=25, delay=0.0))
    config = build_config(url, ssv2_source(sample_data.ssv2))  # type: ignore[arg-type]
    with watched(direct) as seen:
        build = preprocess(config)
    assert build.remote == url
    assert object_hashes(direct) == build_hashes(video_build.path)
    assert min(seen) >= 0
    assert max(seen) >= 1
    assert run(capsys, "audit", url)[0] == 0
    assert direct.read(VERDICT) == (video_build.path / VERDICT).read_bytes()
    assert flaky.injected >= 12
    preprocess(config)
    assert f"{url} is finished already" in capsys.readouterr().out
    assert direct.names("lock") == []


@pytest.mark.slow
def test_a_place_with_other_things_is_refused(sample_data: SampleData, url: str, direct: Store) -> None:
    direct.write("thesis.txt", b"mine")
    with pytest.raises(BuildError, match=f"{url} is not empty and holds no plan"):
        preprocess(build_config(url, ssv2_source(sample_data.ssv2)))  # type: ignore[arg-type]


@pytest.mark.slow
def test_a_missing_bucket_is_one_error(sample_data: SampleData, s3: str, capsys: pytest.CaptureFixture[str]) -> None:
    settings = ("source=ssv2", f"source.root={sample_data.ssv2}", "encoder=tiny", "out=s3://no-such-bucket/build")
    code, _, err = run(capsys, "plan", *settings)
    assert code == 2
    assert "s3://no-such-bucket/build: there is no such bucket" in err


def command(sample_data: SampleData, out: str) -> list[str]:
    return [sys.executable, "-m", "jobs.cli", *robot_words(sample_data.lerobot, out)]


@pytest.mark.slow
def test_a_killed_run_continues_to_the_same_bytes(
    sample_data: SampleData, robot_build: Build, url: str, direct: Store, flaky: FlakyProxy, tmp_path: Path
) -> None:
    """SIGKILL the whole process group once three files are finished; the same command does the rest."""
    flaky.rates = even_rates(0.1)
    environment = {key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"}
    environment["VLAJEPA_STORE_TIMEOUT"] = "1"
    words = command(sample_data, url)
    with subprocess.Popen(
        words, start_new_session=True, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        while process.poll() is None and sum(name.startswith("work/") for name in direct.sizes()) < 3:
            time.sleep(0.05)
        assert process.poll() is None, "the run ended before it could be killed"
        os.killpg(process.pid, signal.SIGKILL)
    with pytest.raises(BuildError, match=r"holds no build\.json"):
        mirror_build(url, tmp_path / "mirror")
    assert listed_files(direct) >= 3
    assert direct.names("lock") == ["1"]
    before = flaky.injected
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert "continuing the plan found there" in done.stdout
    assert object_hashes(direct) == build_hashes(robot_build.path)
    assert 0 < before < flaky.injected


@pytest.mark.slow
def test_a_second_driver_is_refused(direct: Store) -> None:
    """One on another machine, told by its signs of life. See `test_driver_lock` for the rest."""
    lock = b'{"host": "elsewhere", "pid": 1, "started": 1, "processes": "p", "token": "t", "since": "now", "beats": %d}'
    over = threading.Event()
    assert direct.create("lock/1/driver.json", lock % 0)

    def beat() -> None:
        count = 0
        while not over.wait(0.05):
            count += 1
            direct.write("lock/1/driver.json", lock % count)

    thread = threading.Thread(target=beat)
    thread.start()
    try:
        with pytest.raises(RunError, match=f"{direct.where} is being written by another driver .*elsewhere"):
            DriverLock(direct, beat_s=0.2).__enter__()
    finally:
        over.set()
        thread.join()
    with DriverLock(direct, beat_s=0.2):  # it says nothing any more
        assert b"elsewhere" not in direct.read("lock/2/driver.json")
    assert direct.sizes() == {}
