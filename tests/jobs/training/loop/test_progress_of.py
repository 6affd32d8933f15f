"""What a checkpoint says of the run besides its weights."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobs.training.loop.guards import Progress, progress_of
from pipeline.errors import BuildError


def test_progress_that_a_run_wrote() -> None:
    written = {"loss_mean": 0.5, "samples_seen": 7, "samples_skipped": 1}
    assert progress_of(written, Path("step-1")) == Progress(0.5, 7, 1)
    assert progress_of({**written, "loss_mean": None}, Path("step-1")).loss_mean is None


@pytest.mark.parametrize(
    "value",
    [
        None,
        [],
        {},
        {"loss_mean": "x", "samples_seen": 7, "samples_skipped": 1},
        {"loss_mean": 0.5, "samples_seen": -5, "samples_skipped": 0},
        {"loss_mean": 0.5, "samples_seen": 5, "samples_skipped": 6},
        {"loss_mean": float("nan"), "samples_seen": 5, "samples_skipped": 0},
    ],
)
def test_a_checkpoint_that_no_run_wrote_is_named(value: object) -> None:
    with pytest.raises(BuildError, match=r"step-1 was not written by vlajepa train .*start from it by init_from="):
        progress_of(value, Path("step-1"))
