"""The audit's own croissant.json: equal to the generator's, and a change in the generator alone is found."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jobs.datasets.manifests import load_manifests
from pipeline.audit.build import open_build
from pipeline.audit.levels.run import audit_build
from pipeline.audit.rederive.croissant import derive_croissant
from pipeline.building import croissant as generator
from pipeline.building.commit import describe_build
from pipeline.format.file_names import CROISSANT
from pipeline.storage.store import open_store
from tests.pipeline.audit.tiny_build import ROBOT, TUBELET, VIDEO, TinyWorld, write_build


def _edit_build(folder: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    path = folder / "build.json"
    document = json.loads(path.read_bytes())
    edit(document)
    path.write_text(json.dumps(document, ensure_ascii=False))


@pytest.mark.parametrize("world", [ROBOT, VIDEO, TUBELET], ids=lambda world: f"{world.mode}-{len(world.views)}")
def test_both_writers_give_the_same_bytes(world: TinyWorld, tmp_path: Path) -> None:
    folder = write_build(tmp_path / "build", world)
    assert derive_croissant(open_build(folder)) == generator.croissant_bytes((folder / "build.json").read_bytes())


@pytest.mark.parametrize("dataset", sorted(load_manifests()))
def test_both_writers_read_a_manifest_alike(dataset: str, tmp_path: Path) -> None:
    folder = write_build(tmp_path / "build")
    facts = load_manifests()[dataset].facts()
    _edit_build(folder, lambda document: document.update(leaky=True) or document["settings"].update(dataset=facts))
    assert derive_croissant(open_build(folder)) == generator.croissant_bytes((folder / "build.json").read_bytes())


def _another_format(monkeypatch: pytest.MonkeyPatch) -> None:
    formats = {**generator._FORMATS, ".tar": "application/tar"}
    monkeypatch.setattr(generator, "_FORMATS", formats)


def _one_column_less(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generator, "_COLUMNS", generator._COLUMNS[:-1])


def _one_shard_less(monkeypatch: pytest.MonkeyPatch) -> None:
    distribution = generator._distribution
    monkeypatch.setattr(generator, "_distribution", lambda build, raw: list(distribution(build, raw))[:-1])


@pytest.mark.parametrize("change", [_another_format, _one_column_less, _one_shard_less])
def test_a_change_in_the_generator_alone_is_found(
    change: Callable[[pytest.MonkeyPatch], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_build(tmp_path / "build")
    change(monkeypatch)
    describe_build(open_store(folder))
    (finding,) = audit_build(folder).findings
    assert (finding.rule, finding.file) == ("L10", CROISSANT)
    assert "is not what build.json gives" in finding.detail


def test_a_build_json_without_what_it_needs_is_a_finding(tmp_path: Path) -> None:
    folder = write_build(tmp_path / "build")
    describe_build(open_store(folder))
    _edit_build(folder, lambda document: document["settings"].pop("encoder"))
    details = [finding.detail for finding in audit_build(folder).findings if finding.file == CROISSANT]
    assert details == ["cannot be made again from build.json: KeyError: 'encoder'"]
