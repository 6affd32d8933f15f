"""Where checkpoints are on disk: `RUN/checkpoints/step-00000100`, whole or absent. Nothing here imports PyTorch, so
that a command that is given a wrong folder says so at once."""

from __future__ import annotations

from pathlib import Path

from model.checkpoint.state_file import PREFIX, STATE, step_in_name
from pipeline.errors import BuildError


def list_checkpoints(folder: Path) -> list[Path]:
    """Finished checkpoints by rising step. Folders of other names, such as copies, are none."""
    found = {path: step_in_name(path.name) for path in folder.glob(f"{PREFIX}*") if (path / STATE).is_file()}
    steps = {path: step for path, step in found.items() if step is not None}
    return sorted(steps, key=steps.__getitem__)


def newest_checkpoint(source: Path) -> Path | None:
    """The folder itself if it is a checkpoint, else the newest checkpoint of a run; None if it is neither."""
    if (source / STATE).is_file():
        return source
    found = list_checkpoints(source / "checkpoints")
    return found[-1] if found else None


def find_checkpoint(source: Path) -> Path:
    """See `newest_checkpoint`. Raises BuildError if there is none."""
    found = newest_checkpoint(source)
    if found is None:
        raise BuildError(f"{source} is neither a checkpoint nor a run with one; give out= of a vlajepa train")
    return found
