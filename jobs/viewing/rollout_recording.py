"""Episodes that `vlajepa evaluate` played, in a recording: how each ended, and the films that were kept.

Below `rollouts/TASK/START` there are `outcome` (text), `success` (0 or 1) and `film`, with its frames on the timeline
`film_time`; `success` stands on the timeline `episode`, in the order in which they were played.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from jobs.closed_loop.outcomes import Outcome
from jobs.common.json_lines import JsonLines
from jobs.common.run_folder import require_plain
from jobs.viewing.recorder import entity
from pipeline.errors import BuildError
from pipeline.format.text.printable import reason

EPISODES, VIDEOS = "episodes.jsonl", "videos"
_FILM = re.compile(r"task-(\d{2,})-start-(\d{3,})-(?:success|failure)\.mp4", re.ASCII)


def is_evaluation(folder: Path) -> bool:
    """Whether `vlajepa evaluate` wrote it."""
    return (folder / EPISODES).is_file() and (folder / "evaluation.json").is_file()


def record_rollouts(rerun: Any, stream: Any, folder: Path) -> tuple[int, int]:
    """Returns how many episodes and films there were. Raises BuildError if a file is damaged, RunError for a link."""
    require_plain(folder)
    outcomes = JsonLines(folder / EPISODES, Outcome, "episode").read()
    for number, one in enumerate(outcomes):
        place = ("rollouts", f"task {one.task}", f"start {one.start}")
        ended = "success" if one.success else "failure"
        text = f"{ended} after {one.steps:,} steps, {one.queries:,} queries, {one.crashes:,} crashes"
        document = rerun.TextDocument(text, media_type="text/plain")
        stream.log(entity(rerun, *place, "outcome"), document, static=True)
        stream.set_time("episode", sequence=number)
        stream.log(entity(rerun, *place, "success"), rerun.Scalars([float(one.success)]))
        stream.reset_time()
    films = sorted((folder / VIDEOS).glob("*.mp4")) if (folder / VIDEOS).is_dir() else []
    require_plain(folder / VIDEOS)
    known = [(path, found) for path in films if (found := _FILM.fullmatch(path.name))]
    for path, found in known:
        _record_film(rerun, stream, path, ("rollouts", f"task {int(found[1])}", f"start {int(found[2])}", "film"))
    return len(outcomes), len(known)


def _record_film(rerun: Any, stream: Any, path: Path, place: tuple[str, ...]) -> None:
    film = rerun.AssetVideo(contents=path.read_bytes(), media_type="video/mp4")
    try:
        times = film.read_frame_timestamps_nanos()
    except Exception as error:  # of Rerun's own reader of films
        raise BuildError(f"{path} is no film that Rerun reads ({reason(error)}); remove it") from error
    name = entity(rerun, *place)
    stream.log(name, film, static=True)
    frames = rerun.VideoFrameReference.columns_nanos(times)
    stream.send_columns(name, indexes=[rerun.TimeColumn("film_time", duration=1e-9 * times)], columns=frames)
