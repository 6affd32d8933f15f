"""croissant.json: valid by the reference validator, readable by it, and nothing but a function of build.json."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import mlcroissant
import pyarrow.parquet as pq
import pytest

from jobs.datasets.manifests import load_manifests
from pipeline.audit.levels.run import audit_build
from pipeline.building.commit import describe_build
from pipeline.building.croissant import croissant_bytes
from pipeline.format.build import Build
from pipeline.format.file_names import CROISSANT
from pipeline.storage.store import open_store
from tests.pipeline.audit.tiny_build import VIDEO, write_build

UNKNOWN = ("citeAs", "datePublished", "license")
"""Recommended properties that a build does not know; nothing is invented for them."""


@pytest.mark.slow
@pytest.mark.parametrize("fixture", ["robot_build", "video_build"])
def test_records_are_read_through_croissant(fixture: str, request: pytest.FixtureRequest) -> None:
    build: Build = request.getfixturevalue(fixture)
    dataset = mlcroissant.Dataset(jsonld=build.path / CROISSANT)
    issues = dataset.metadata.issues
    assert issues.errors == set()
    assert len(issues.warnings) == len(UNKNOWN)
    assert all(any(name in warning for name in UNKNOWN) for warning in issues.warnings)
    table = pq.read_table(build.path / "samples.parquet")
    records = list(dataset.records("samples"))
    assert [record["samples/key"].decode() for record in records] == table.column("key").to_pylist()
    assert [record["samples/now"] for record in records] == table.column("now").to_pylist()
    assert [record["samples/image_offset"] for record in records] == table.column("image_offset").to_pylist()


@pytest.mark.slow
def test_every_file_is_listed_with_its_hash(robot_build: Build) -> None:
    document = json.loads((robot_build.path / CROISSANT).read_bytes())
    listed = {entry["contentUrl"]: entry["sha256"] for entry in document["distribution"]}
    on_disk = {
        str(path.relative_to(robot_build.path))
        for path in robot_build.path.rglob("*")
        if path.is_file() and path.relative_to(robot_build.path).parts[0] not in ("audit", "logs", CROISSANT)
    }
    assert set(listed) == on_disk
    for shard in robot_build.manifest["shards"]:
        assert listed[shard["inputs"]["file"]] == shard["inputs"]["sha256"]


def test_a_latents_file_is_described(tubelet_build: Build) -> None:
    content = json.loads((tubelet_build.path / "croissant.json").read_bytes())
    listed = {entry["@id"]: entry["sha256"] for entry in content["distribution"]}
    for shard in tubelet_build.manifest["shards"]:
        assert listed[shard["latents"]["file"]] == shard["latents"]["sha256"]


def test_what_a_manifest_knows_is_in_it(robot_build: Build, tmp_path: Path) -> None:
    build = json.loads((robot_build.path / "build.json").read_bytes())
    build["settings"]["dataset"] = load_manifests()["bridge"].facts()
    document = json.loads(croissant_bytes(json.dumps(build).encode()))
    assert document["license"] == "CC BY 4.0"
    assert document["url"] == "https://rail-berkeley.github.io/bridgedata"
    assert "Walke et al." in document["citeAs"]
    assert "Made from BridgeData V2" in document["description"]
    (tmp_path / CROISSANT).write_text(json.dumps(document))
    issues = mlcroissant.Dataset(jsonld=tmp_path / CROISSANT).metadata.issues
    assert issues.errors == set()
    assert len(issues.warnings) == 1  # no date


def test_it_is_a_function_of_build_json_and_made_once(tmp_path: Path) -> None:
    build = write_build(tmp_path / "build", VIDEO)
    raw = (build / "build.json").read_bytes()
    describe_build(open_store(build))
    assert (build / CROISSANT).read_bytes() == croissant_bytes(raw) == croissant_bytes(raw)
    assert audit_build(build).findings == ()


@pytest.mark.parametrize(
    "edit",
    [
        lambda d: d.update(description=d["description"] + " The cup falls."),
        lambda d: d.update(future=[1, 2, 3]),
        lambda d: d["distribution"].pop(),
        lambda d: d["distribution"][0].update(sha256="0" * 64),
    ],
)
def test_an_edited_description_is_found(tmp_path: Path, edit: Any) -> None:
    build = write_build(tmp_path / "build")
    describe_build(open_store(build))
    document = json.loads((build / CROISSANT).read_bytes())
    edit(document)
    (build / CROISSANT).write_text(json.dumps(document))
    (finding,) = audit_build(build).findings
    assert (finding.rule, finding.file) == ("L10", CROISSANT)


def test_another_spelling_of_the_same_description_is_found(tmp_path: Path) -> None:
    build = write_build(tmp_path / "build")
    describe_build(open_store(build))
    (build / CROISSANT).write_text(json.dumps(json.loads((build / CROISSANT).read_bytes())))
    assert [finding.rule for finding in audit_build(build).findings] == ["L10"]
