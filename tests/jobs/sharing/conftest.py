"""A Hub of its own, whose token is in the environment."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.audit.levels.run import audit_build
from pipeline.audit.verdicts.verdict import write_verdict
from tests.jobs.sharing.hub_server import TOKEN, Hub
from tests.pipeline.audit.tiny_build import ROBOT, write_build


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    with Hub().running() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield hub


@pytest.fixture
def build(tmp_path: Path) -> Path:
    """An audited build."""
    folder = write_build(tmp_path / "build", replace(ROBOT, tokens=4))
    verdict = audit_build(folder)
    assert verdict.status == "clean", verdict.findings
    write_verdict(folder, verdict)
    return folder
