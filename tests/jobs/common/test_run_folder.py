"""What may lie in a run's folder."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from jobs.common.run_folder import require_plain
from jobs.report.run_files import read_run
from pipeline.errors import BuildError, RunError
from pipeline.storage.store import open_store


def a_hole(path: Path) -> None:
    path.touch()
    os.truncate(path, 2**40)


ODD: dict[str, tuple[Callable[[Path], object], str]] = {
    "link": (lambda path: path.symlink_to("/etc/hostname"), "is a link"),
    "link to nothing": (lambda path: path.symlink_to("nowhere"), "is a link"),
    "link to a folder": (lambda path: path.symlink_to("/tmp"), "is a link"),
    "pipe": (os.mkfifo, "is no file"),
    "hole": (a_hole, "has 1,099,511,627,776 bytes"),
}


@pytest.mark.parametrize("name", ["log.txt", "metrics.jsonl", "run.json", "tensorboard"])
@pytest.mark.parametrize("odd", ODD)
def test_links_pipes_and_holes_are_refused_before_anything_is_read(tmp_path: Path, odd: str, name: str) -> None:
    for other in ("run.json", "metrics.jsonl"):
        (tmp_path / other).write_text("{}\n")
    (tmp_path / "checkpoints").mkdir()
    require_plain(tmp_path)
    (tmp_path / name).unlink(missing_ok=True)
    make, message = ODD[odd]
    make(tmp_path / name)
    with pytest.raises(RunError, match=rf"{re.escape(name)} {message}; a run's folder holds files of its own alone"):
        read_run(tmp_path)


def test_a_folder_that_is_not_there_is_in_order(tmp_path: Path) -> None:
    require_plain(tmp_path / "new")


def test_of_a_long_log_the_end_is_read(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text("{}")
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "loss": 2.0}\n')
    (tmp_path / "log.txt").write_text("first\n" + "x" * 3 * 2**20 + "\nlast\n")
    assert read_run(tmp_path).log[-1] == "last"


def test_a_pipe_in_a_build_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "tasks.jsonl")
    with pytest.raises(BuildError, match=r"tasks\.jsonl is no file"):
        open_store(tmp_path).read("tasks.jsonl")
