"""Every leaky variant is found, by its own rule, at its own level, and not before.

Of those of one file, rule and level the first is tried by `make test`, all by `make slow`.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from pipeline.audit.levels.run import audit_build
from pipeline.audit.verdicts.verdict import Verdict
from tests.leakage.mutants import MUTANTS
from tests.leakage.mutants.mutant import Mutant
from tests.pipeline.audit.tiny_build import TinyWorld, write_build


@pytest.fixture(scope="module")
def clean_builds(tmp_path_factory: pytest.TempPathFactory) -> dict[TinyWorld, Path]:
    worlds = {mutant.world for mutant in MUTANTS}
    return {world: write_build(tmp_path_factory.mktemp("clean") / "build", world) for world in worlds}


def kind(mutant: Mutant) -> tuple[str, str, str]:
    return mutant.apply.__module__, mutant.rule, mutant.level


FIRST = {kind(mutant): mutant for mutant in reversed(MUTANTS)}


def parameters() -> list[Any]:
    """Every mutant; marked as slow when another one of its kind comes first."""
    marks = [() if FIRST[kind(mutant)] is mutant else (pytest.mark.slow,) for mutant in MUTANTS]
    names = [f"{mutant.name}-{mutant.rule}" for mutant in MUTANTS]
    return [pytest.param(mutant, id=name, marks=mark) for mutant, name, mark in zip(MUTANTS, names, marks, strict=True)]


@pytest.mark.parametrize("mutant", parameters())
def test_mutant_is_found_at_its_level(clean_builds: dict[TinyWorld, Path], tmp_path: Path, mutant: Mutant) -> None:
    build = Path(shutil.copytree(clean_builds[mutant.world], tmp_path / "build"))
    mutant.apply(build)
    shallow, deep = audit_build(build, "manifest"), audit_build(build, "shards")
    assert deep.exit_code == 1
    assert reported(deep, mutant), deep.findings
    if mutant.level == "manifest":
        assert reported(shallow, mutant), shallow.findings
    else:
        assert shallow.findings == (), "a manifest audit already sees this: lower the mutant's level"


def reported(verdict: Verdict, mutant: Mutant) -> bool:
    return any(f.rule == mutant.rule and mutant.message in f"{f.file} {f.detail}" for f in verdict.findings)
