"""The clips of a probe: from a folder of videos, or from a cache of latents with a reader."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.audit.probe.encoding import read_encoding
from pipeline.audit.probe.experiment import Frames, ProbeClip
from pipeline.errors import EpisodeError, RunError, SettingsError
from pipeline.format.text.printable import reason
from pipeline.inspection.checks import spread
from pipeline.sources.video.decode import Video

SUFFIXES = (".avi", ".mkv", ".mov", ".mp4", ".webm")


def video_clips(root: Path | None, count: int, frames: int, now: int | None) -> list[ProbeClip]:
    """The middle of videos spread over a folder.

    Args:
        frames: of each clip; fewer where a video is shorter.
        now: the present frame in each clip; None: its middle.

    Raises:
        SettingsError: no such folder, no video below it, or a clip that ends before `now`.
    """
    if root is None or not root.is_dir():
        raise SettingsError(f"root must be a folder of videos ({', '.join(SUFFIXES)}), got {root}")
    paths = sorted(path for path in root.rglob("*") if path.suffix.lower() in SUFFIXES)
    if not paths:
        raise SettingsError(f"root={root} holds no video ({', '.join(SUFFIXES)})")
    return [_read_clip(path, str(path.relative_to(root)), frames, now) for path in spread(paths, count)]


def _read_clip(path: Path, name: str, count: int, now: int | None) -> ProbeClip:
    try:
        with Video(path) as video:
            count = min(count, video.num_frames)
            first = (video.num_frames - count) // 2
            frames = video.frames(range(first, first + count))
    except EpisodeError as error:
        raise RunError(f"{path} cannot be read: {error}") from error
    return _clip(name, frames, count // 2 if now is None else now)


def cached_clips(cache: Path, reader: Callable[[Path], Any], count: int) -> list[ProbeClip]:
    """Entries of a cache, spread over its files.

    Args:
        reader: path -> (frames, now, context, targets), or None for a file that is no entry.

    Raises:
        SettingsError: no entries.
        RunError: the reader failed, or what it returned is no entry.
    """
    paths = sorted(path for path in cache.rglob("*") if path.is_file()) if cache.is_dir() else []
    clips = [clip for path in spread(paths, count) if (clip := _read_entry(path, reader)) is not None]
    if not clips:
        raise SettingsError(f"cache={cache} holds no file that the reader takes for an entry ({len(paths)} files)")
    return clips


def _read_entry(path: Path, reader: Callable[[Path], Any]) -> ProbeClip | None:
    try:
        entry = reader(path)
        if entry is None:
            return None
        frames, now, context, targets = entry
        stored = read_encoding((context, targets))
    except Exception as error:
        raise RunError(f"the reader failed on {path}: {reason(error)}") from error
    return _clip(path.name, np.asarray(frames), int(now), stored)


def _clip(name: str, frames: Frames, now: int, stored: Any = None) -> ProbeClip:
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[-1] != 3:
        raise RunError(f"{name}: frames must be uint8 [F, H, W, 3], got {frames.dtype} {list(frames.shape)}")
    if not 0 <= now < len(frames) - 1:
        raise SettingsError(f"{name}: now must have a frame after it, got now={now} of {len(frames)} frames")
    return ProbeClip(name, frames, now, stored)
