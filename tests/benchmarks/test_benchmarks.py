"""Every benchmark runs to its end at a tiny size and prints rows of finite numbers. Speed is not checked.

What is not installed (peers, torchcodec, TensorFlow) the benchmarks leave out themselves.
"""

from __future__ import annotations

import json
import re
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import pytest

from tests.benchmarks import growth, preprocessing
from tests.benchmarks.__main__ import BENCHMARKS, main
from tests.benchmarks.report import Series, Shown, Target
from tests.benchmarks.scale import BENCHMARKS as OF_SCALE
from tests.benchmarks.scale import PROBLEMS, print_scale

ON_RAY = ("scale", "audit-workers")
"""Tables that use the Ray of the session, in tests/jobs/test_benchmarks_on_ray.py: there is one already."""

ROW = re.compile(r"^  \S.* \d[\d.,]*(?![\w.,])", re.MULTILINE)
"""A line of a table: indented, with a name and a number."""

NOT_FINITE = re.compile(r"\b(nan|inf)\b", re.IGNORECASE)


@pytest.mark.parametrize("name", [name for name in BENCHMARKS if name not in {*ON_RAY, *OF_SCALE}])
def test_a_benchmark_prints_finite_rows(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    if name == "readers":
        monkeypatch.setenv("VLAJEPA_TEST_DATA", str(request.getfixturevalue("shared_data")))
    main(["--tiny", "--repeats", "1", name])
    check_rows(capsys.readouterr().out)


def test_tables_of_a_device_are_written_as_json_too(tmp_path: Path) -> None:
    """What `make cuda` keeps of the step and of the encoder."""
    file = tmp_path / "tables.json"
    main(["--tiny", "--repeats", "1", "--json", str(file), "cuda", "cuda-encoder"])
    content = json.loads(file.read_text())
    assert list(content["tables"]) == ["cuda", "cuda-encoder"]
    step = content["tables"]["cuda"][-1]
    assert step["title"].startswith("Training at full size, bf16, 1 robot and 1 video samples")
    assert step["unit"] == "ms"
    assert step["values"]["a step"][0] > 0
    assert step["targets"] == {"memory / estimate": "<= 1.1"}
    assert "latents differ from those in float32" in content["tables"]["cuda-encoder"][-1]["notes"][0]
    assert content["tiny"]
    assert content["machine"]


@pytest.mark.slow  # each of seven processes starts a Ray or imports PyTorch
@pytest.mark.parametrize("module", [growth, preprocessing], ids=["growth", "preprocessing"])
def test_in_processes_of_their_own_too(module: object, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    module.run(tmp_path, 1, replace(module.TINY, own_process=True))  # type: ignore[attr-defined]
    check_rows(capsys.readouterr().out)


def test_every_benchmark_has_a_name() -> None:
    found = {
        path.stem for path in Path(__file__).parent.glob("*.py") if re.search(r"^def run\(", path.read_text(), re.M)
    }
    assert found == set(BENCHMARKS.values())
    for module in map(import_module, (f"tests.benchmarks.{name}" for name in found)):
        assert module.Scale() != module.TINY


def test_scale_has_a_row_for_each_problem_and_says_which_targets_are_missed(capsys: pytest.CaptureFixture[str]) -> None:
    measured = {
        problem.benchmark: [Shown("Table", Target(Series(f"a {name}", (0.5,)), bound)) for bound in (0.4, 0.6)]
        for problem in PROBLEMS
        for name in problem.names or ("ratio",)
    }
    print_scale(measured)
    printed = capsys.readouterr().out
    assert printed.count(" 0.500 ") == printed.count("met") + printed.count("NOT MET") == 2 * len(PROBLEMS)
    assert printed.count("NOT MET") == len(PROBLEMS)


def test_scale_says_what_was_not_measured() -> None:
    with pytest.raises(LookupError, match="benchmark scheduler measured no target"):
        print_scale({problem.benchmark: [] for problem in PROBLEMS})


def check_rows(printed: str) -> None:
    """Assert that a benchmark printed a table, and finite numbers alone."""
    machine, _, tables = printed.partition("\n\n")
    tables = tables or machine
    assert ROW.search(tables), printed
    assert not NOT_FINITE.search(tables), printed
    assert "nothing is measured" not in tables, printed
