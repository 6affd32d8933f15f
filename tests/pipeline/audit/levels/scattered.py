"""Units as a cluster runs them, without a cluster: two workers, in another order, every item and result pickled."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from pipeline.audit.build import open_build
from pipeline.audit.levels.bench import Bench

_AHEAD = 5


class Scattered:
    """See `pipeline.audit.levels.bench.Runner`."""

    def __init__(self, make: Callable[[], Bench]) -> None:
        self._workers = [make(), make()]
        self.units = 0

    @classmethod
    def of(cls, build: Path) -> Scattered:
        """For level "shards"."""
        return cls(lambda: Bench(open_build(build), "shards"))

    def map(self, unit: Callable[[Bench, Any], Any], items: Iterable[Any], /) -> Iterator[Any]:
        """The last of a few items first."""
        waiting: list[bytes] = []
        for item in items:
            waiting.append(_pickled(item))
            if len(waiting) == _AHEAD:
                yield from self._run(unit, waiting)
                waiting = []
        yield from self._run(unit, waiting)

    def _run(self, unit: Callable[[Bench, Any], Any], items: list[bytes]) -> list[Any]:
        call = pickle.loads(_pickled(unit))
        found: list[bytes] = [b""] * len(items)
        for place in reversed(range(len(items))):
            self.units += 1
            found[place] = _pickled(call(self._workers[self.units % 2], pickle.loads(items[place])))
        return [pickle.loads(data) for data in found]


def _pickled(value: Any) -> bytes:
    return pickle.dumps(value, protocol=5)
