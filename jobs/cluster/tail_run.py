"""Shows a run that happens in other processes, from what it writes: log.txt, and progress from metrics.jsonl."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from jobs.common.json_lines import read_rows
from jobs.common.progress import progress_bar

SECONDS = 0.5
"""Between two looks at the files."""


@contextlib.contextmanager
def tail_run(out: Path, steps: int) -> Iterator[None]:
    """Show what a run writes from now on into its folder `out` while the context is open, up to the step `steps`."""
    tail, stop = _Tail(out, steps), threading.Event()

    def follow() -> None:
        while not stop.wait(SECONDS):
            tail.show()

    thread = threading.Thread(target=follow, name="tail", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        tail.show()
        tail.bar.close()


class _Tail:
    def __init__(self, out: Path, steps: int) -> None:
        self._log, self._metrics = out / "log.txt", out / "metrics.jsonl"
        self._shown = self._log.stat().st_size if self._log.exists() else 0
        self.bar = progress_bar(total=steps, unit="step", desc="train", smoothing=0.05)

    def show(self) -> None:
        """Print the new whole lines of the log, and move the bar to the last step."""
        if self._log.exists():
            data = self._log.read_bytes()[self._shown :]
            text = data[: data.rfind(b"\n") + 1]
            self._shown += len(text)
            if text:
                self.bar.write(text.decode(errors="replace").rstrip("\n"))
        rows = [row for whole, row in read_rows(self._metrics, last_bytes=65536) if whole and row is not None]
        row = next((row for row in reversed(rows) if _is_step(row)), None)
        if row is not None:
            self.bar.set_postfix(loss=f"{row['loss']:.4f}", samples_s=f"{row['samples_per_s']:.1f}", refresh=False)
            self.bar.update(int(row["step"]) - self.bar.n)  # drawn as often as the bar's own interval has it


def _is_step(row: Mapping[str, Any]) -> bool:
    numbers = [row.get(name) for name in ("step", "loss", "samples_per_s")]
    return all(isinstance(number, int | float) for number in numbers)
