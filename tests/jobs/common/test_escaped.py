"""What a name in a build, a dataset or a checkpoint could do to a terminal is shown instead."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobs.cli import main
from jobs.common.escaped import escaped_output
from jobs.preprocess import status

HOSTILE = "a\x1b]0;owned\x07\x9b2J\u202eb"
SHOWN = r"a\x1b]0;owned\x07\x9b2J\u202eb"


def test_standard_output_is_plain_text(capsys: pytest.CaptureFixture[str]) -> None:
    with escaped_output():
        print(HOSTILE, "é\t→", sep="\n", flush=True)  # noqa: T201
    print(HOSTILE)  # noqa: T201
    assert capsys.readouterr().out == f"{SHOWN}\né\t→\n{HOSTILE}\n"


def test_every_command_prints_so_and_a_crash_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(settings: object) -> int:
        print(HOSTILE)  # noqa: T201
        raise KeyError(HOSTILE) if crash else SystemExit(0)

    monkeypatch.setattr(status, "run", run)
    for crash in (False, True):
        with pytest.raises(SystemExit):
            main(["status", str(tmp_path)])
        captured = capsys.readouterr()
        assert captured.out == f"{SHOWN}\n"
        assert "\x1b" not in captured.err
        assert ("KeyError" in captured.err) == crash
