from __future__ import annotations

import pytest

from jobs.cli import main
from pipeline.format.build import Build


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
