"""Raw data in a bucket: each reader makes the build that it makes from a folder, and the audit derives it again."""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from jobs.audit.audit import audit
from jobs.audit.settings import AuditConfig
from jobs.datasets.configured_source import configured_source
from jobs.datasets.inspect import run as inspect
from jobs.datasets.settings import InspectConfig
from pipeline.format.build_settings import WindowPolicy
from pipeline.storage import object_store
from pipeline.storage.retry import Retry
from tests.conftest import SampleData
from tests.jobs.runs import build_config, build_hashes, make_here, robot_source, ssv2_source
from tests.mcap_files.recorded import recorded_source, write_recordings
from tests.pipeline.sources.libero.test_libero import write_task
from tests.pipeline.storage.flaky_proxy import FlakyProxy, even_rates
from tests.pipeline.storage.s3_server import be_impatient, put_object, s3_server, upload

pytestmark = pytest.mark.slow

SourceSettings = dict[str, Any]


def lerobot_v3(shared_data: Path, **_: Any) -> SourceSettings:
    root = shared_data / "lerobot_v30/unitree_g1_inspire_bottle"
    return robot_source(root, name="g1")


def rlds(shared_data: Path, tmp_path: Path, **_: Any) -> SourceSettings:
    """Below a folder of its version; of the sample, whose two splits hold the same, one of them."""
    root = shutil.copytree(shared_data / "rlds/bridge_dataset", tmp_path / "raw")
    for path in root.rglob("*"):
        path.chmod(0o755)
    described = root / "1.0.0/dataset_info.json"
    content = json.loads(described.read_text())
    described.write_text(json.dumps({**content, "splits": content["splits"][:1]}))
    cameras = ("image_0",)
    return {"type": "rlds", "name": "bridge", "root": str(root), "fps": 5.0, "cameras": cameras, "val_share": 0.0}


def libero(tmp_path: Path, **_: Any) -> SourceSettings:
    for task in ("lift_the_cup", "suite/push_the_cup"):
        write_task(tmp_path / f"raw/{task}.hdf5", {"demo_0": 24, "demo_1": 30, "demo_3": 26})
    return {"type": "libero", "name": "libero", "root": str(tmp_path / "raw"), "val_share": 0.0}


def videos(sample_data: SampleData, tmp_path: Path, **_: Any) -> SourceSettings:
    """VP9, and a list of texts with a byte order mark and line ends of Windows."""
    root = tmp_path / "raw"
    clips = sorted((sample_data.ssv2 / "20bn-something-something-v2").glob("*.webm"))
    (root / "films").mkdir(parents=True)
    lines = ["video,text,split"]
    for number, clip in enumerate(clips):
        shutil.copy(clip, root / f"films/{number}.webm")
        lines.append(f'films/{number}.webm,"lift, slowly, cup {number}",{"val" if number % 4 == 3 else "train"}')
    (root / "texts.csv").write_text("\r\n".join(lines), encoding="utf-8-sig", newline="")
    return {"type": "videos", "name": "own", "root": str(root), "split_column": "split"}


def mcap(sample_data: SampleData, tmp_path: Path, **_: Any) -> SourceSettings:
    return recorded_source(write_recordings(sample_data.lerobot, tmp_path / "raw"))


KINDS: Mapping[str, Callable[..., SourceSettings]] = {
    "ssv2": lambda sample_data, **_: ssv2_source(sample_data.ssv2),
    "lerobot_v21": lambda sample_data, **_: robot_source(sample_data.lerobot),
    "lerobot_v30": lerobot_v3,
    "rlds": rlds,
    "libero": libero,
    "videos": videos,
    "mcap": mcap,
}


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    with s3_server() as bucket:
        yield bucket


@pytest.fixture(params=KINDS)
def local(request: pytest.FixtureRequest, sample_data: SampleData, shared_data: Path, tmp_path: Path) -> SourceSettings:
    """A dataset on this machine."""
    made: SourceSettings = KINDS[request.param](sample_data=sample_data, shared_data=shared_data, tmp_path=tmp_path)
    return made


@pytest.fixture
def remote(local: SourceSettings, s3: str) -> SourceSettings:
    """The same dataset in a bucket."""
    url = f"{s3}/{uuid.uuid4().hex}/raw data"
    upload(Path(local["root"]), url)
    return {**local, "root": url}


@pytest.fixture
def flaky(remote: SourceSettings, monkeypatch: pytest.MonkeyPatch) -> Iterator[FlakyProxy]:
    """A proxy that spoils one request of twelve; the dataset was copied without it."""
    made = FlakyProxy(os.environ["AWS_ENDPOINT_URL"], seed=11, rates=even_rates(1 / 12))
    be_impatient(monkeypatch)
    monkeypatch.setattr(object_store, "Retry", partial(Retry, attempts=12, delay=0.0))
    with made.running() as address:
        monkeypatch.setenv("AWS_ENDPOINT_URL", address)
        yield made


def test_a_build_from_a_bucket_is_the_build_from_a_folder(
    local: SourceSettings, remote: SourceSettings, flaky: FlakyProxy, tmp_path: Path
) -> None:
    """To the byte, with its raw files hashed, while requests fail; and the audit derives it again from the bucket."""
    window = WindowPolicy(interval=1, every=0, per_episode=1)
    make = partial(build_config, window=window, hash_raw=True)
    here = make_here(make(tmp_path / "here", local))
    there = make_here(make(tmp_path / "there", remote))
    assert any(name.startswith("train/inputs") for name in build_hashes(here.path))
    assert build_hashes(there.path) == build_hashes(here.path)
    settings = AuditConfig(
        build=there.path, level="perturb", root=remote["root"], nonce="n5", share=0.05, least=1, workers=1
    )
    verdict, _ = audit(settings)
    assert verdict.status == "clean", verdict.findings
    assert verdict.coverage["raw_files_hashed"] > 0
    assert flaky.injected > 0


def test_another_film_in_the_bucket_is_found(s3: str, sample_data: SampleData, tmp_path: Path) -> None:
    """The audit reads what lies there, and not what the build was made of."""
    url = f"{s3}/{uuid.uuid4().hex}"
    upload(sample_data.ssv2, url)
    build = make_here(build_config(tmp_path / "build", ssv2_source(Path("x")) | {"root": url}))
    ids = [path.stem for path in sorted((sample_data.ssv2 / "20bn-something-something-v2").glob("*.webm"))]
    clips = "20bn-something-something-v2"
    for number, clip in enumerate(ids):  # each clip is the next one
        other = sample_data.ssv2 / clips / f"{ids[(number + 1) % len(ids)]}.webm"
        if number:
            put_object(f"{url}/{clips}/{clip}.webm", other.read_bytes())
    settings = AuditConfig(build=build.path, level="source", root=url, nonce="n5", least=1)
    verdict, _ = audit(settings)
    assert verdict.status != "clean"
    assert any(finding.rule in ("L1", "L7", "L9") for finding in verdict.findings)


def test_inspect_finds_in_a_bucket_what_it_finds_in_a_folder(
    remote: SourceSettings, local: SourceSettings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pages = []
    for name, settings in (("here", local), ("there", remote)):
        inspect(InspectConfig(source=configured_source(settings), episodes=3, out=tmp_path / name))
        text = (tmp_path / name / "inspection.json").read_text()
        pages.append((capsys.readouterr().out.replace(str(tmp_path / name), ""), text))
    assert pages[0] == pages[1]
    assert "cannot be used" in pages[0][0]
