"""An open episode of any source: a frame reader for each view, vectors in memory, and a text for each frame."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import Self

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import EpisodeError
from pipeline.sources.base import EpisodeRef
from pipeline.sources.video.frame_readers import FrameReader, check_indices, require_visible


class OpenedEpisode:
    """Frames, state, actions and instruction of one episode. Closing it closes the readers.

    Args:
        ref: the episode.
        where: the file, for messages.
        readers: view -> frame reader. They are closed if the constructor raises.
        text: frame -> the episode's own text; raises EpisodeError("no-instruction").
        state: float32 [R, S], one row per frame, or None.
        actions: float32 [R, A], or None.
        lengths: further frame counts, by where they come from; all must agree.
        lost: frames at the end without an action, which are left out; `actions` has that many rows fewer.
        resources: closed with the readers, or if the constructor raises.

    Raises:
        EpisodeError: "length-mismatch", "blank-camera", or "too-short" if no frame is left.
    """

    def __init__(
        self,
        ref: EpisodeRef,
        where: str,
        readers: Mapping[str, FrameReader],
        text: Callable[[int], str],
        state: NDArray[np.float32] | None = None,
        actions: NDArray[np.float32] | None = None,
        lengths: Mapping[str, int] | None = None,
        lost: int = 0,
        resources: ExitStack | None = None,
    ) -> None:
        self.id, self.frame_readers = ref.id, readers
        self._where, self._text, self._state, self._actions = where, text, state, actions
        with ExitStack() as opened:
            if resources is not None:
                opened.enter_context(resources)
            for reader in readers.values():
                opened.callback(reader.close)
            self.num_frames = self._agreed_length(dict(lengths or {})) - lost
            if self.num_frames < 1:
                raise EpisodeError("too-short", f"{where} has no frame with an action")
            for view, reader in readers.items():
                require_visible(reader, f"{where}, {view}")
            self._opened = opened.pop_all()

    def frames(self, view: str, indices: Sequence[int]) -> NDArray[np.uint8]:
        """See `Episode`."""
        if view not in self.frame_readers:
            raise ValueError(f"episode {self.id} has the views {', '.join(self.frame_readers)}; {view!r} was requested")
        self._check(indices)
        return self.frame_readers[view].frames(indices)

    def timestamps(self, indices: Sequence[int]) -> NDArray[np.float64]:
        """Presentation times of the first view, seconds after its first frame, float64 [len(indices)].

        Taken from the video, because the clocks of some tables start a frame or two late.
        """
        self._check(indices)
        return next(iter(self.frame_readers.values())).timestamps(indices)

    def instruction(self, index: int) -> str:
        """See `Episode`."""
        self._check([index])
        return self._text(index)

    def state(self, index: int) -> NDArray[np.float32] | None:
        """See `Episode`."""
        self._check([index])
        return None if self._state is None else self._state[index].copy()

    def actions(self, start: int, stop: int) -> NDArray[np.float32] | None:
        """See `Episode`."""
        if not start < stop:
            raise EpisodeError("out-of-range", f"{self._where}: the action range {start}..{stop - 1} is empty")
        self._check([start, stop - 1])
        return None if self._actions is None else self._actions[start:stop].copy()

    def close(self) -> None:
        """Close the readers."""
        self._opened.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _agreed_length(self, lengths: dict[str, int]) -> int:
        lengths |= {view: reader.num_frames for view, reader in self.frame_readers.items()}
        if len(set(lengths.values())) > 1:
            numbers = ", ".join(f"{what} {length}" for what, length in lengths.items())
            raise EpisodeError("length-mismatch", f"{self._where}: frames by {numbers}")
        return next(iter(lengths.values()))

    def _check(self, indices: Sequence[int]) -> None:
        check_indices(indices, self.num_frames, self._where)
