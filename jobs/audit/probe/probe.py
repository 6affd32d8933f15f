"""`vlajepa probe function=MODULE:NAME root=FOLDER`: does the context of another pipeline hold anything of the future?

Exit code 0 no later frame moves it, 1 one does, 2 the function could not be probed.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from jobs.audit.probe.clips import cached_clips, video_clips
from jobs.audit.probe.fresh import encode_afresh
from jobs.audit.probe.functions import load_function
from jobs.audit.probe.settings import ProbeConfig
from jobs.common.progress import phase, progress_bar
from pipeline.audit.probe.experiment import probe_clip
from pipeline.audit.probe.memory import without_memory
from pipeline.audit.probe.result import ABOVE_REPEATS, ProbeResult, combine, percent
from pipeline.storage.atomic import write_atomic


def run(settings: ProbeConfig) -> ProbeResult:
    result = probe(settings)
    print(describe(result))
    if settings.out is not None:
        print(f"written: {write_result(settings, result)}")
    return result


def probe(settings: ProbeConfig) -> ProbeResult:
    """Probe the function on all clips.

    Raises:
        SettingsError: no such function, or no clips.
        RunError: the function failed, does not read the frames, or remembers what it was shown.
    """
    function = load_function("function", settings.function)
    if settings.cache is not None:
        clips = cached_clips(settings.cache, load_function("reader", settings.reader), settings.clips)
    else:
        clips = video_clips(settings.root, settings.clips, settings.frames, settings.now)
    results = []
    with progress_bar(total=len(clips), unit="clip", desc=f"probe {settings.function}") as bar:
        for at, clip in enumerate(clips):
            stranger = clips[at - 1].frames if clips[at - 1].frames.shape[1:] == clip.frames.shape[1:] else clip.frames
            results.append(probe_clip(function, clip, stranger, settings.horizon))
            bar.update(1)
    result = combine(results, settings.cache_tolerance)
    if result.leaks:
        return result
    with phase("calling the function in two processes of its own, to see whether it remembers"):
        alone, after = (encode_afresh(settings.function, clips, others) for others in (False, True))
    return without_memory(result, results, alone, after)


def describe(result: ProbeResult) -> str:
    """A table of what was replaced and how much each output moved, and the finding."""
    width = max(24, *(len(what) for what in result.rows))
    columns = [max(12, len(name)) for name in result.outputs]
    cells = [f"{name:>{column}}" for name, column in zip(result.outputs, columns, strict=True)]
    lines = ["  ".join([f"{'replaced':{width}}", *cells])]
    for what, row in {**result.rows, "nothing (called again)": result.repeated}.items():
        values = [row.get(name, 0.0) for name in result.outputs]
        cells = [f"{percent(value):>{column}}" for value, column in zip(values, columns, strict=True)]
        lines.append("  ".join([f"{what:{width}}", *cells]))
    if result.stored:
        stored = ", ".join(f"{name} {percent(value)}" for name, value in result.stored.items())
        lines.append(f"difference of the cache from what the function makes: {stored}")
    if result.unmoved:
        lines.append(f"does not depend on the frames from now on: {', '.join(result.unmoved)}")
    for leak in result.leaks:
        change = f"{leak.output} moves by {percent(leak.change)}"
        lines.append(f"leak: {leak.clip}, now={leak.now}: {change} when this is replaced: {leak.what}")
    noisy = any(result.repeated.values())
    limit = f"; a change below {ABOVE_REPEATS:g} times its own between equal calls would not be seen" if noisy else ""
    lines.append(f"{result.status.upper()}: {result.clips} clips, relative L2 changes, largest over the clips{limit}")
    return "\n".join(lines)


def write_result(settings: ProbeConfig, result: ProbeResult) -> Path:
    """probe.json in the folder `out`: settings and result. Infinite changes are written as null."""
    assert settings.out is not None
    settings.out.mkdir(parents=True, exist_ok=True)
    path = settings.out / "probe.json"
    content = {"settings": {k: str(v) if isinstance(v, Path) else v for k, v in asdict(settings).items()}}
    text = json.dumps(_finite(content | {"status": result.status} | asdict(result)), indent=1, allow_nan=False)
    write_atomic(path, f"{text}\n".encode())
    return path


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(part) for part in value]
    return None if value == float("inf") else value
