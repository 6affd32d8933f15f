"""Shows a run that happens in other processes, from what it writes: log.txt, and progress from metrics.jsonl."""

from __future__ import annotations

import threading
from pathlib import Path
from types import TracebackType
from typing import Self

from jobs.common.json_lines import read_rows
from jobs.common.progress import progress_bar

SECONDS = 0.5


class Follower:
    """Use as a context manager around the run.

    Args:
        out: the run's folder; what its files hold already is passed over.
        steps: the step it will end at.
    """

    def __init__(self, out: Path, steps: int) -> None:
        self._log, self._metrics = out / "log.txt", out / "metrics.jsonl"
        self._told = self._log.stat().st_size if self._log.exists() else 0
        self._bar = progress_bar(total=steps, unit="step", desc="train", smoothing=0.05)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="follow", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        self._look()
        self._bar.close()

    def _follow(self) -> None:
        while not self._stop.wait(SECONDS):
            self._look()

    def _look(self) -> None:
        if self._log.exists():
            data = self._log.read_bytes()[self._told :]
            text = data[: data.rfind(b"\n") + 1]
            self._told += len(text)
            if text:
                self._bar.write(text.decode().rstrip("\n"))
        row = _last_step(self._metrics)
        if row is not None:
            self._bar.set_postfix(loss=f"{row['loss']:.4f}", samples_s=f"{row['samples_per_s']:.1f}", refresh=False)
            self._bar.update(int(row["step"]) - self._bar.n)  # shown as often as the bar's own interval has it


def _last_step(path: Path) -> dict[str, float] | None:
    """The last whole row with a loss, from the last few KiB of the file."""
    rows = [row for whole, row in read_rows(path, last_bytes=65536) if whole and row is not None]
    return next((row for row in reversed(rows) if "loss" in row), None)
