"""inspection.html: what `vlajepa inspect` found, on one page without links to anything else."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from jinja2 import Environment, PackageLoader

from pipeline.format.text.printable import printable
from pipeline.inspection.cameras.look import MAX_FRAMES
from pipeline.inspection.checks import Inspection
from pipeline.inspection.flag import Flag
from pipeline.inspection.quality.worst import Illustration

WIDTH, HEIGHT = 400, 70
"""Of a curve, in its own units."""


@dataclass(frozen=True)
class SummaryRow:
    """A check that found something. episodes: how many; 0 where it is about the set."""

    check: str
    count: int
    episodes: int
    worst: Flag


@dataclass(frozen=True)
class ShownFlag:
    """An illustration with its curve as the points of a polyline. mark: x of the flag's frame."""

    flag: Flag
    view: str
    frames: tuple[tuple[int, bytes], ...]
    line: str
    mark: float | None
    first: int
    last: int
    low: str
    high: str


@dataclass(frozen=True)
class PageContent:
    """What is on the page besides the inspection. facts: label and value; compared: rows of `Comparison`."""

    flags: Sequence[Flag]
    worst: Sequence[Illustration]
    facts: Sequence[tuple[str, str]]
    compared: Sequence[object]
    left_out: int
    seed: int


def render(found: Inspection, content: PageContent) -> str:
    """The page as text."""
    environment = Environment(loader=PackageLoader("jobs.datasets", "."), autoescape=True, trim_blocks=True)
    environment.filters["uri"] = lambda jpeg: "data:image/jpeg;base64," + base64.b64encode(jpeg).decode()
    environment.filters["plain"] = _plain
    environment.filters["num"] = "{:,}".format
    alarms = [flag for flag in content.flags if not flag.note]
    return environment.get_template("inspection.html.jinja").render(
        name=found.index.name,
        alarms=len(alarms),
        summary=list(summary_rows(alarms)),
        notes=[flag for flag in content.flags if flag.note],
        worst=[_shown(illustration) for illustration in content.worst],
        opened=found.opened,
        listed=len(found.index.refs),
        frames=found.survey.frames,
        most=MAX_FRAMES,
        seed=content.seed,
        left_out=content.left_out,
        facts=content.facts,
        compared=content.compared,
    )


def summary_rows(flags: Sequence[Flag]) -> Iterator[SummaryRow]:
    """One row for each check, in the order of its worst flag; flags are sorted, the worst first."""
    for check in dict.fromkeys(flag.check for flag in flags):
        own = [flag for flag in flags if flag.check == check]
        yield SummaryRow(check, len(own), len({flag.episode for flag in own if flag.episode}), own[0])


def _plain(text: object, length: int) -> str:
    shown = printable(text)
    return shown if len(shown) <= length else shown[: length - 1] + "…"


def _shown(illustration: Illustration) -> ShownFlag:
    curve, flag = illustration.curve, illustration.flag
    plain = (flag, illustration.view, illustration.frames)
    if len(curve) < 2:
        return ShownFlag(*plain, "", None, 0, 0, "", "")
    values, last = [value for _, value in curve], curve[-1][0]
    low, high = min(values), max(values)
    extent = high - low or 1.0
    points = " ".join(f"{WIDTH * n / last:.1f},{HEIGHT - 4 - (HEIGHT - 8) * (v - low) / extent:.1f}" for n, v in curve)
    mark = None if flag.frame is None else round(WIDTH * flag.frame / last, 1)
    return ShownFlag(*plain, points, mark, curve[0][0], last, f"{low:.4g}", f"{high:.4g}")
