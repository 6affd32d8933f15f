"""The script for the few minutes of a GPU, without one: order, limits, what is left of a part that is cut off."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from tests.cuda.session import LEAST, SECONDS, Part, main, parts, run_parts


def test_a_part_that_is_cut_off_leaves_what_it_wrote_and_the_next_one_runs(tmp_path: Path) -> None:
    sleeper = "import subprocess; print('measured'); subprocess.run(['sleep', '60'])"
    began = time.monotonic()
    found = run_parts(
        [Part("slow", ("-c", sleeper), 2.0), Part("bad", ("-c", "raise SystemExit(3)"), 30.0)], tmp_path, 60.0
    )
    assert time.monotonic() - began < 30
    assert [one.code for one in found] == [None, 3]
    assert (tmp_path / "1-slow.txt").read_text() == "measured\n"
    assert [one["code"] for one in json.loads((tmp_path / "summary.json").read_text())] == [None, 3]


def test_what_has_no_time_left_is_not_begun(tmp_path: Path) -> None:
    (found,) = run_parts([Part("any", ("-c", "print(1)"), 60.0)], tmp_path, LEAST - 1)
    assert found.code is None
    assert found.said.startswith("not begun")
    assert not (tmp_path / "1-any.txt").exists()


def test_what_is_worth_most_fits_the_minutes_and_the_tests_are_all_there() -> None:
    wanted = parts(tiny=False)
    assert sum(part.limit for part in wanted[:4]) <= SECONDS <= 480
    words = " ".join(word for part in wanted for word in part.words)
    for path in (Path(__file__).parent / "cuda").glob("test_*.py"):
        assert path.name in words, f"no part of tests/cuda/session.py runs {path.name}"


def test_a_part_that_is_none_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--only", "steps"])
    assert "no part 'steps'; there are step, tests" in capsys.readouterr().err


@pytest.mark.slow  # six processes that import PyTorch
def test_every_part_runs_at_tiny_size_on_the_cpu(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--tiny", "--out", str(tmp_path), "--seconds", "2000"]) == 0
    printed = capsys.readouterr().out
    assert printed.count("exit code 0") == len(parts(tiny=True))
    assert "nothing is measured" not in "".join(file.read_text() for file in tmp_path.glob("*.txt"))
    parts_of = json.loads((tmp_path / "results.json").read_text())["parts"]
    for name, benchmark in (("step", "cuda"), ("encoder", "cuda-encoder")):
        assert parts_of[name]["tables"][benchmark][-1]["values"]


def test_one_file_has_the_tables_of_all_parts(tmp_path: Path) -> None:
    """Also of one that failed after its first table; a part that wrote none has none."""
    writer = tmp_path / "writer.py"
    writer.write_text("import sys; open(sys.argv[-1], 'w').write('{\"tables\": {\"a\": [1]}}'); sys.exit(1)")
    run_parts([Part("one", (str(writer), "tests.benchmarks"), 30.0), Part("two", ("-c", "1"), 30.0)], tmp_path, 60.0)
    found = json.loads((tmp_path / "results.json").read_text())
    assert found["parts"] == {"one": {"tables": {"a": [1]}}, "two": None}
    assert [one["code"] for one in found["outcomes"]] == [1, 0]
