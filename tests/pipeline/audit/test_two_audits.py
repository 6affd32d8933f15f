"""Audits of one build that end at the same time, or where nothing can be written."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from pipeline.audit import files
from pipeline.audit.levels.run import audit_build
from pipeline.audit.verdicts import history, verdict
from pipeline.audit.verdicts.audited import read_audited
from pipeline.audit.verdicts.gate import pass_gate
from pipeline.audit.verdicts.verdict import write_verdict
from pipeline.errors import AuditRefusedError, BuildError
from pipeline.format.file_names import VERDICT
from tests.pipeline.audit.tiny_build import write_build
from tests.pipeline.audit.verdicts.test_history import deep


def test_a_leak_stands_though_a_shallow_audit_ends_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build = write_build(tmp_path / "build")
    clean = audit_build(build)
    deciding, go_on = threading.Event(), threading.Event()
    real = verdict.replace_whole

    def slow(root: Path, name: str, data: bytes) -> Path:
        if threading.current_thread().name == "shallow":
            deciding.set()
            assert go_on.wait(60)
        return real(root, name, data)

    monkeypatch.setattr(verdict, "replace_whole", slow)
    shallow = threading.Thread(target=write_verdict, args=(build, clean), name="shallow")
    deeper = threading.Thread(target=write_verdict, args=(build, deep(clean, leak=True)))
    shallow.start()
    assert deciding.wait(60)
    deeper.start()
    deeper.join(0.5)  # it waits, or has written what the other one would replace
    go_on.set()
    for thread in (shallow, deeper):
        thread.join(60)
    assert json.loads((build / VERDICT).read_bytes())["status"] == "leak"


def test_a_process_that_never_ends_is_named(tmp_path: Path, monkeypatch: Any) -> None:
    build = write_build(tmp_path / "build")
    found = audit_build(build)
    write_verdict(build, found)
    monkeypatch.setattr(files, "PATIENCE_S", 0.1)
    folder = os.open(build / "audit", os.O_RDONLY)
    fcntl.flock(folder, fcntl.LOCK_EX)
    with pytest.raises(BuildError, match="audit is locked by another process"):
        write_verdict(build, found)
    os.close(folder)
    write_verdict(build, found)


def test_on_a_full_disk_no_clean_verdict_outlives_a_leak(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build = write_build(tmp_path / "build")
    clean = audit_build(build)
    write_verdict(build, clean)

    def full(*_: object) -> Path:
        raise OSError(errno.ENOSPC, "No space left on device")

    for module in (verdict, history):
        monkeypatch.setattr(module, "replace_whole", full)
    with pytest.raises(OSError, match="No space left"):
        write_verdict(build, deep(clean, leak=True))
    with pytest.raises(AuditRefusedError, match="has not been audited"):
        pass_gate(read_audited(build))
