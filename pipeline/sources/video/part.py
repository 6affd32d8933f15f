"""Some frames of a film, decoded from packets in memory."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack

import numpy as np
from numpy.typing import NDArray

from pipeline.sources.video.decoded_frames import DecodedFrames
from pipeline.sources.video.frame_readers import check_indices
from pipeline.sources.video.packets import Packets
from pipeline.sources.video.pyav_reader import PacketDecoding, PyavReader, VideoFile


class PartReader:
    """A `FrameReader` of them.

    Args:
        before: frames of the film that come before them.
        start: the one that is decoded when this is made.
        opened: closed with the reader, or if the constructor raises.

    Raises:
        NotAKeyframeError: decoding cannot begin with the first packet.
        EpisodeError: "undecodable".
    """

    def __init__(
        self,
        file: VideoFile,
        packets: Packets,
        decoding: PacketDecoding,
        before: int,
        start: int,
        opened: ExitStack,
    ) -> None:
        with opened:
            self._file, self._packets = file, packets
            self._reader = PyavReader(file, packets, decoding, before)
            self.codec, self.num_frames = packets.codec, len(packets.pts)
            self._decoded = DecodedFrames(file.path, self.num_frames, self._reader.read, start)
            self.is_turned = self._reader.is_turned
            self._opened = opened.pop_all()

    def frames(self, indices: Sequence[int]) -> NDArray[np.uint8]:
        """See `FrameReader`."""
        return self._decoded.frames(indices)

    def timestamps(self, indices: Sequence[int], since: int = 0) -> NDArray[np.float64]:
        """See `FrameReader`."""
        check_indices([*indices, since], self.num_frames, self._file.path)
        return self._packets.times(indices, since)

    def close(self) -> None:
        """Release the decoder and the packets."""
        self._reader.close()
        self._opened.close()
        self._decoded.clear()
