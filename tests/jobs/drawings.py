"""What an inline SVG of `jobs.common.svg` shows, read from its groups."""

from __future__ import annotations

import re
from dataclasses import dataclass
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

_NUMBER = r"-?\d+(?:\.\d+)?"


@dataclass(frozen=True)
class Mark:
    """An artist with a gid: its words, and points float64 [N, 2] in shares of the axes, from left and from bottom."""

    words: frozenset[str]
    points: NDArray[np.float64]


@dataclass(frozen=True)
class Drawing:
    """All marks, and the texts with their places in shares of the axes."""

    marks: tuple[Mark, ...]
    texts: tuple[tuple[float, float, str], ...]

    def of(self, *words: str) -> list[Mark]:
        """Marks that have all the words."""
        return [mark for mark in self.marks if mark.words.issuperset(words)]


def read_drawing(svg: str) -> Drawing:
    """The content of one `<svg>` element."""
    root = ElementTree.fromstring(svg.replace("xlink:href", "href"))
    groups = [group for group in root.iter("g") if "class" in group.attrib]
    (area,) = [group for group in groups if group.get("class") == "area"]
    corners = _places(area)
    low, size = corners.min(axis=0), np.ptp(corners, axis=0)

    def share(places: NDArray[np.float64]) -> NDArray[np.float64]:
        found = (places - low) / size
        found[:, 1] = 1 - found[:, 1]
        return found

    marks = [Mark(frozenset(group.get("class", "").split()), share(_places(group))) for group in groups]
    places = [
        (np.array([[float(text.get("x", "nan")), float(text.get("y", "nan"))]]), text) for text in root.iter("text")
    ]
    return Drawing(tuple(marks), tuple((*share(at)[0].tolist(), text.text or "") for at, text in places))


def read_drawings(page: str) -> list[Drawing]:
    """Those of a page, in order."""
    return [read_drawing(svg) for svg in re.findall(r"<svg.*?</svg>", page, re.DOTALL)]


def _places(group: ElementTree.Element) -> NDArray[np.float64]:
    """Corners of the group's paths, or the centres of its markers: [N, 2] in pixels."""
    used = [[float(use.get("x", "nan")), float(use.get("y", "nan"))] for use in group.iter("use")]
    if used:
        return np.array(used)
    paths = " ".join(path.get("d", "") for path in group.iter("path"))
    pairs = re.findall(f"[ML] ({_NUMBER}) ({_NUMBER})", paths)
    return np.array(pairs, np.float64).reshape(-1, 2)
