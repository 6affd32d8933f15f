"""As tests/benchmarks/test_benchmarks.py, for the benchmarks that need a Ray."""

from __future__ import annotations

import pytest

from tests.benchmarks.__main__ import main
from tests.benchmarks.test_benchmarks import ON_RAY, check_rows


@pytest.mark.parametrize("name", ON_RAY)
def test_a_benchmark_prints_finite_rows(name: str, ray_session: None, capsys: pytest.CaptureFixture[str]) -> None:
    main(["--tiny", "--repeats", "1", name])
    check_rows(capsys.readouterr().out)
