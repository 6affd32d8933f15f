"""Long work of unknown length says that it goes on; short work says nothing."""

from __future__ import annotations

import time

import pytest

from jobs.common import progress
from jobs.common.progress import phase


def test_short_work_is_silent(capsys: pytest.CaptureFixture[str]) -> None:
    with phase("reading"):
        pass
    assert capsys.readouterr().err == ""


def test_long_work_says_what_and_for_how_long(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "SILENT_S", 0.01)
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_SIGNS", 0.01)
    said = ""
    with phase("reading"):
        while "s)" not in said:
            time.sleep(0.01)
            said += capsys.readouterr().err
    assert said.startswith("reading …\nreading … (0 s)\n")


def test_an_error_passes_through() -> None:
    with pytest.raises(OSError, match="gone"), phase("reading"):
        raise OSError("gone")
