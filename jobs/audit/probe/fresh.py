"""What a probed function makes of clips in a process of its own, which has seen none of them."""

from __future__ import annotations

import pickle
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jobs.audit.probe.functions import load_function
from jobs.common.processes.child import Child, end_with_parent
from pipeline.audit.probe.encoding import Encoding
from pipeline.audit.probe.experiment import ProbeClip
from pipeline.audit.probe.memory import encode_after_others, encode_alone
from pipeline.errors import RunError

PROGRAM = (sys.executable, "-m", "jobs.audit.probe.fresh")


@dataclass(frozen=True)
class _Task:
    """What a process is handed in a file."""

    function: str
    clips: tuple[ProbeClip, ...]
    after_others: bool
    path: tuple[str, ...]


def encode_afresh(function: str, clips: Sequence[ProbeClip], after_others: bool) -> list[Encoding]:
    """Of each clip alone, or after other futures of it: see `pipeline.audit.probe.memory`. Raises RunError if the
    function fails, or the process ends."""
    with tempfile.TemporaryDirectory(prefix="vlajepa-probe-") as folder:
        task, answer = Path(folder) / "task", Path(folder) / "answer"
        task.write_bytes(pickle.dumps(_Task(function, tuple(clips), after_others, tuple(sys.path))))
        code = Child((str(task), str(answer)), PROGRAM).wait()
        if not answer.exists():
            raise RunError(f"the probed function ended a process of its own with exit code {code}")
        found: list[Encoding] | str = pickle.loads(answer.read_bytes())
    if isinstance(found, str):
        raise RunError(f"in a process of its own: {found}")
    return found


def main(task_file: str, answer_file: str) -> None:
    """In the process."""
    end_with_parent()
    task: _Task = pickle.loads(Path(task_file).read_bytes())
    sys.path[:] = task.path
    found: list[Encoding] | str
    try:
        function = load_function("function", task.function)
        found = [(encode_after_others if task.after_others else encode_alone)(function, clip) for clip in task.clips]
    except RunError as error:
        found = str(error)
    Path(answer_file).write_bytes(pickle.dumps(found))


if __name__ == "__main__":
    # By its name: what is pickled must be of the module that the parent imported.
    from jobs.audit.probe.fresh import main as imported

    imported(*sys.argv[1:])
