from __future__ import annotations

import pytest

from jobs.cli import main
from jobs.training.estimate import describe
from jobs.training.settings import EstimateConfig
from model.estimate import StepEstimate
from pipeline.format.build import Build
from tests.jobs.composed import compose_settings


@pytest.mark.slow
def test_the_estimate_of_builds_and_of_sizes(
    robot_build: Build, video_build: Build, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["estimate", "model=tiny", f"builds=[{robot_build.path},{video_build.path}]", "batch_size=4"])
    of_builds = capsys.readouterr().out
    assert "batch 4 of each of robot, video" in of_builds
    assert "encoding the targets in the step instead of reading them" in of_builds
    sizes = [f"sizes.{name}={value}" for name, value in vars(robot_build.sizes).items()]
    main(["estimate", "model=tiny", "batch_size=4", *sizes])
    peak = next(line for line in of_builds.splitlines() if line.startswith("peak"))
    assert peak in capsys.readouterr().out.splitlines()


@pytest.mark.slow
def test_a_wrong_kind_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["estimate", "model=tiny", "kinds=[robot,sim]"])
    assert end.value.code == 2
    assert "kinds must be a list of robot and video" in capsys.readouterr().err


STEP = StepEstimate({"student": 1}, 1, {"robot": 9}, {"student": 1 * 10**12}, 2 * 10**12, 1, 1, 0, 1, 1, 1, 1)


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ((), "a GPU at 40% (assumed) of 312 TFLOP/s: 0.024 s a step"),
        (("hardware=h100x8",), "a GPU at 34% (measured on an H200) of 989 TFLOP/s: 0.00892 s a step"),
        (("hardware=h200x8",), "a GPU at 34% (measured on an H200) of 989 TFLOP/s: 0.00892 s a step"),
        (("hardware=h200x8", "hardware.step_utilisation=0.5"), "a GPU at 50% (assumed) of 989 TFLOP/s: "),
        (("hardware=local", "hardware.cores=2"), "2 cores at 80 GFLOP/s each: 18.8 s a step"),
    ],
)
def test_the_speed_that_is_predicted_says_where_it_comes_from(words: tuple[str, ...], line: str) -> None:
    settings = compose_settings("estimate", EstimateConfig, words)
    assert line in describe(STEP, settings, ("robot",))
