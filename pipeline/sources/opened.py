"""An open episode, whatever it was read from: one reader for each view, vectors in memory, a text for each frame."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from types import TracebackType
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
        readers: view -> reader. They are closed when the constructor raises.
        text: frame -> the episode's own text there; raises EpisodeError("no-instruction").
        state: float32 [R, S], one row a frame, or None.
        actions: float32 [R, A], or None.
        lengths: other counts of the frames, by what counted them; all must agree.
        lost: frames at the end that are left out, as they have no action; `actions` then has as many rows fewer.
        resources: closed with the readers, or when the constructor raises.

    Raises:
        EpisodeError: "length-mismatch", "blank-camera", or "too-short" when nothing is left.
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
        self._ref, self._where, self._readers = ref, where, readers
        self._text, self._state, self._actions = text, state, actions
        with ExitStack() as opened:
            if resources is not None:
                opened.enter_context(resources)
            for reader in readers.values():
                opened.callback(reader.close)
            self._num_frames = self._agreed_length(dict(lengths or {})) - lost
            if self._num_frames < 1:
                raise EpisodeError("too-short", f"{where} has no frame with an action")
            for view, reader in readers.items():
                require_visible(reader, f"{where}, {view}")
            self._opened = opened.pop_all()

    @property
    def id(self) -> str:
        return self._ref.id

    @property
    def num_frames(self) -> int:
        return self._num_frames

    @property
    def frame_readers(self) -> Mapping[str, FrameReader]:
        """View -> reader, for whoever wants to know how it is stored."""
        return self._readers

    def frames(self, view: str, indices: Sequence[int]) -> NDArray[np.uint8]:
        """See `Episode`."""
        if view not in self._readers:
            raise ValueError(f"episode {self.id} has the views {', '.join(self._readers)}; {view!r} was asked for")
        self._check(indices)
        return self._readers[view].frames(indices)

    def timestamps(self, indices: Sequence[int]) -> NDArray[np.float64]:
        """Presentation times of the first view, seconds after its first frame, float64 [len(indices)].

        By the video and not by a table: tables exist whose clock starts a frame or two late.
        """
        self._check(indices)
        return next(iter(self._readers.values())).timestamps(indices)

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
            raise EpisodeError("out-of-range", f"{self._where}: actions {start}..{stop - 1} are none")
        self._check([start, stop - 1])
        return None if self._actions is None else self._actions[start:stop].copy()

    def close(self) -> None:
        """Close the readers."""
        self._opened.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _agreed_length(self, lengths: dict[str, int]) -> int:
        lengths |= {view: reader.num_frames for view, reader in self._readers.items()}
        if len(set(lengths.values())) > 1:
            numbers = ", ".join(f"{what} {length}" for what, length in lengths.items())
            raise EpisodeError("length-mismatch", f"{self._where}: frames by {numbers}")
        return next(iter(lengths.values()))

    def _check(self, indices: Sequence[int]) -> None:
        check_indices(indices, self._num_frames, self._where)
