"""An episode as the pipeline reads it beside the audit's own reading: both read the same, or both refuse it."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.audit.raw.base import RawError, RawSource
from pipeline.audit.raw.registry import open_raw
from pipeline.errors import EpisodeError
from pipeline.sources.base import EpisodeRef
from pipeline.sources.registry import SOURCES


def raw_of(source: Any) -> RawSource:
    """The audit's reader with the settings of a source as build.json holds them."""
    kind = next(name for name, made in SOURCES.items() if isinstance(source, made))
    values = {key: value for key, value in asdict(source).items() if key != "root"}
    return open_raw(json.loads(json.dumps({"type": kind, **values})), Path(source.root))


def ref_of(source: Any, episode: str) -> EpisodeRef:
    """An episode of the index; the test fails if it was left out."""
    index = source.index()
    left_out = [(entry.episode, entry.reason, entry.detail) for entry in index.left_out]
    found = [ref for ref in index.refs if ref.id == episode]
    assert found, left_out
    return found[0]


def read_by_both(source: Any, episode: str) -> dict[str, Any]:
    """Every frame of every view, state, actions and texts, in which both agree."""
    ref, raw = ref_of(source, episode), raw_of(source)
    assert raw.split_of(episode) == ref.split
    theirs = raw.open(episode)
    with source.open(ref) as ours:
        frames = range(ours.num_frames)
        found: dict[str, Any] = {view: reader.frames(frames) for view, reader in ours.frame_readers.items()}
        for view, pixels in found.items():
            shown = list(theirs.frames(view))
            np.testing.assert_array_equal(pixels, np.stack([frame for _, frame in shown]))
            times = ours.frame_readers[view].timestamps(frames)
            assert [second for second, _ in shown] == times.tolist()
        found["texts"] = [ours.instruction(frame) for frame in frames]
        assert found["texts"] == [theirs.instruction(frame) for frame in frames]
        found["state"] = None if ours.state(0) is None else np.stack([ours.state(frame) for frame in frames])
        found["actions"] = ours.actions(0, ours.num_frames)
        for name in ("state", "actions"):
            other = getattr(theirs, name)
            assert (found[name] is None) == (other is None)
            if other is not None:
                np.testing.assert_array_equal(found[name], other)
    return found


def refused_by_both(source: Any, episode: str) -> EpisodeError:
    """Why the pipeline leaves an episode out, when its index is made or when it is opened; the audit must too."""
    index, raw = source.index(), raw_of(source)
    entries = [entry for entry in index.left_out if entry.episode == episode]
    if entries:
        error = EpisodeError(entries[0].reason, entries[0].detail)
    else:
        with pytest.raises(EpisodeError) as caught:
            _read_all(source, ref_of(source, episode))
        error = caught.value
    with pytest.raises(RawError):
        _decode_all(raw, episode)
    return error


def _decode_all(raw: RawSource, episode: str) -> None:
    opened = raw.open(episode)
    for view in opened.frame_readers:
        list(opened.frames(view))


def _read_all(source: Any, ref: EpisodeRef) -> None:
    with source.open(ref) as opened:
        for reader in opened.frame_readers.values():
            reader.frames(range(reader.num_frames))
