"""Side files of a run: whatever is in them, the run goes on, and what was in them is not lost."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobs.common.json_lines import keep_rows, read_rows, recover_rows

WHOLE = b'{"step": 1, "loss": 2.0}\n'


@pytest.mark.parametrize(
    "line",
    [
        b"not json\n",
        b"\xff\xfe\x00\n",
        b"[1, 2]\n",
        b"null\n",
        b'{"loss": 1.0}\n',
        b'{"step": "2"}\n',
        b'{"step": true}\n',
        b'{"step": 2.5}\n',
        b'{"step": 2, "loss": NaN}\n',
        b'{"step": 2, "held_out": {"a": [Infinity]}}\n',
        b"[" * 100_000 + b"\n",
    ],
)
def test_a_line_that_is_no_row(tmp_path: Path, capsys: pytest.CaptureFixture[str], line: bytes) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(WHOLE + line + WHOLE)
    rows = recover_rows(path)
    assert rows == [{"step": 1, "loss": 2.0}] * 2
    keep_rows(path, rows)
    assert path.read_bytes() == WHOLE * 2
    assert (tmp_path / "metrics.jsonl.damaged").read_bytes() == WHOLE + line + WHOLE
    assert f"1 lines of {path} cannot be read" in capsys.readouterr().err


def test_an_unfinished_last_line_is_expected(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(WHOLE + b'{"step": 2, "lo')
    assert recover_rows(path) == [{"step": 1, "loss": 2.0}]
    assert capsys.readouterr().err == ""
    assert not (tmp_path / "metrics.jsonl.damaged").exists()


def test_a_folder_in_its_place(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.mkdir()
    assert recover_rows(path) == []
    keep_rows(path, [{"step": 1}])
    assert [row for _, row in read_rows(path)] == [{"step": 1}]
    assert (tmp_path / "metrics.jsonl.damaged").is_dir()
