"""The inputs shard: exactly the members of the manifest, each in exactly the format of its name.

Rules L10 (structure), L7 (keys, order, offsets, digests), L1 (`now`), L8 (state), L9 (instruction).
"""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass

from pipeline.audit.build import ClaimedBuild
from pipeline.audit.finding import MAX_FINDINGS, Report
from pipeline.audit.parsers.jpeg import parse_jpeg
from pipeline.audit.parsers.shard import Shard, ShardRule
from pipeline.format.file_names import image_member, member_names

_PLACES = ("image_offset", "image_size", "json_offset", "json_size", "inputs_sha256")


@dataclass
class LayoutUse:
    """The images of a shard with the same tables and sampling. first: place, view and key of the first ones."""

    images: int
    first: list[tuple[int, str, str]]


@dataclass(frozen=True)
class Layouts:
    """The JPEG layouts of a shard, in the order in which they appear. file: its inputs."""

    file: str
    uses: dict[bytes, LayoutUse]


class Members(ShardRule[Layouts]):
    """Tar, JPEG and JSON of every sample. Every image has the tables and sampling of the build's first."""

    def __init__(self, build: ClaimedBuild) -> None:
        super().__init__(build)
        self._layout: bytes | None = None

    def check(self, shard: Shard, report: Report) -> Layouts | None:
        if shard.inputs is None:
            return None  # reported with the hashes
        file = shard.entry.inputs.path
        report.check("L10", len(shard.tar.members))
        report.problems(shard.tar.problems, file)
        expected = [member_names(key, self.build.views) for key in shard.keys]
        _check_names(shard, [name for names in expected for name in names], report)
        _check_places(shard, expected, report)
        layouts = self._check_images(shard, report)
        for key, (_, problems) in zip(shard.keys, shard.documents, strict=True):
            for rule in ("L1", "L9", "L10"):
                report.check(rule)
            report.problems(problems, file, key)
        return layouts

    def merge(self, part: Layouts, report: Report) -> None:
        self._layout = self._layout or next(iter(part.uses), None)
        others = [use for layout, use in part.uses.items() if layout != self._layout]
        for _, view, key in sorted(place for use in others for place in use.first)[:MAX_FINDINGS]:
            detail = f"{view}: the JPEG's tables or sampling are not those of the build's first image"
            report.found("L10", part.file, detail, key)
        report.failed["L10"] += max(0, sum(use.images for use in others) - MAX_FINDINGS)

    def _check_images(self, shard: Shard, report: Report) -> Layouts:
        layouts = Layouts(shard.entry.inputs.path, {})
        file = layouts.file
        place = 0
        for key in shard.keys:
            for view in self.build.views:
                member = shard.members.get(image_member(key, view))
                if member is None:
                    continue  # reported with the names
                report.check("L10")
                image = parse_jpeg(shard.payload(member), self.build.sizes.image_size)
                if image.problem:
                    report.found("L10", file, f"{view}: the JPEG {image.problem}", key)
                    continue
                use = layouts.uses.setdefault(image.layout, LayoutUse(0, []))
                use.images += 1
                if len(use.first) < MAX_FINDINGS:
                    use.first.append((place, view, key))
                place += 1
        return layouts


def _check_names(shard: Shard, expected: list[str], report: Report) -> None:
    """Members are those of the manifest's keys, in order, each once."""
    file = shard.entry.inputs.path
    report.check("L7", len(shard.keys))
    found = [member.name for member in shard.tar.members]
    if found == expected:
        return
    known, have = set(expected), Counter(found)
    for name in sorted(set(found) - known):
        report.found("L10", file, f"member {name:.200} is unknown to the manifest")
    for name, count in have.items():
        if count > 1:
            report.found("L10", file, f"member {name:.200} appears {count} times")
    missing = [name for name in expected if name not in have]
    for name in missing:
        report.found("L7", file, f"member {name} is missing")
    if not missing and [name for name in found if name in known] != expected:
        report.found("L7", file, "the members are not in the manifest's order")


def _check_places(shard: Shard, expected: list[list[str]], report: Report) -> None:
    """Offsets, sizes and the digest of the payloads of each sample, as the manifest records them."""
    file = shard.entry.inputs.path
    for key, names, row in zip(shard.keys, expected, shard.rows.select(_PLACES).to_pylist(), strict=True):
        report.check("L7")
        places = zip([*row["image_offset"], row["json_offset"]], [*row["image_size"], row["json_size"]], strict=True)
        members = [shard.members.get(name) for name in names]
        payloads = hashlib.sha256()
        for name, place, member in zip(names, places, members, strict=False):
            if member is None:
                continue  # reported with the names
            payloads.update(shard.payload(member))
            if place != (member.offset, member.size):
                found = f"{name} is at {member.offset} with {member.size} bytes"
                report.found("L7", file, f"{found}, samples.parquet has {place[0]} with {place[1]}", key)
        if None not in members and payloads.digest() != row["inputs_sha256"]:
            detail = "the members are not those whose digest the manifest holds (inputs_sha256)"
            report.found("L7", file, detail, key, altered=True)
