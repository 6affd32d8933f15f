"""Rule L10 for the JSON files: closed types, one spelling, and no fact that is told twice and differs.

build.json, plan.json, stats.json, ledger.jsonl and tasks.jsonl are parsed into the types of
`pipeline.format.json.documents`, written anew and compared byte by byte.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pipeline.audit.build import ClaimedBuild
from pipeline.audit.canonical.shape import misfit
from pipeline.audit.canonical.spelling import difference, document, line
from pipeline.audit.files import BUILD, LEDGER, TASKS, read_regular
from pipeline.audit.finding import Report
from pipeline.audit.rules.estimate import Fact, estimate_facts
from pipeline.format.json.documents import BuildContent, LedgerContent, PlanContent, StatsContent
from pipeline.format.json.strict_json import parse
from pipeline.format.schema import SCHEMA_VERSION

PLAN, STATS = "plan.json", "stats.json"

_MEAN, _STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
"""Of ImageNet, by which V-JEPA2 normalises."""


def check(build: ClaimedBuild, report: Report) -> None:
    """Check the files one by one, then what they have in common."""
    content = _content(BUILD, build.raw, BuildContent, report)
    plan = _content(PLAN, read_regular(build.root / PLAN), PlanContent, report)
    _content(STATS, read_regular(build.root / STATS), StatsContent, report)
    report.check("L10", len(build.tasks.tasks))
    for problem in build.tasks.problems:
        report.found("L10", TASKS, problem)
    ledger = _ledger(read_regular(build.root / LEDGER), report)
    if content is not None:
        _same(BUILD, _facts(content), report)
    if content is not None and plan is not None:
        _same(PLAN, _plan_facts(build, content, plan, ledger), report)


def _content(file: str, raw: bytes, kind: Any, report: Report) -> dict[str, Any] | None:
    """The content of a file that fits its type; anything else is a finding."""
    report.check("L10")
    try:
        value = parse(raw, repeated=True)
        problem = misfit(value, kind).removeprefix(".").strip()
        changed = difference(raw, document(value))
    except ValueError as error:
        report.found("L10", file, f"cannot be read: {error}")
        return None
    for detail in filter(None, (problem, changed)):
        report.found("L10", file, detail)
    return None if problem else dict(value)


def _ledger(raw: bytes, report: Report) -> list[dict[str, Any]]:
    """The lines that fit, and findings about the others and about the order."""
    entries = []
    for number, text in enumerate(raw.split(b"\n")[:-1], start=1):
        report.check("L10")
        try:
            value = parse(text)
            problem = misfit(value, LedgerContent) or difference(text + b"\n", line(value))
        except ValueError as error:
            problem = f" cannot be read: {error}"
        if problem:
            report.found("L10", LEDGER, f"line {number}: {problem.removeprefix('.').strip()}")
        else:
            entries.append(value)
    places = [(entry["split"], entry["episode"]) for entry in entries]
    if places != sorted(set(places)) or (raw and not raw.endswith(b"\n")):
        report.found("L10", LEDGER, "is not one line an episode, sorted by split and episode, each with its newline")
    return entries


def _facts(content: dict[str, Any]) -> Iterator[Fact]:
    """What build.json tells more than once."""
    settings, sizes = content["settings"], content["sizes"]
    encoder = settings["encoder"]
    yield "name", content["name"], settings["source"]["name"]
    yield "leaky", content["leaky"], encoder["mode"] == "clip"
    yield "settings.schema_version", settings["schema_version"], SCHEMA_VERSION
    yield "settings.views", settings["views"], content["views"]
    yield "settings.sizes", settings["sizes"], sizes
    yield "sizes.image_size", sizes["image_size"], settings["inputs"]["image_size"]
    yield "sizes.tokens", sizes["tokens"], encoder["tokens"]
    yield "sizes.width", sizes["width"], encoder["width"]
    yield "sizes.chunk", sizes["chunk"], settings["window"]["chunk"] if sizes["action"] else 0
    yield "settings.encoder.mean", encoder["mean"], _MEAN
    yield "settings.encoder.std", encoder["std"], _STD
    yield "settings.splits", settings["splits"], list(dict.fromkeys(settings["splits"]))
    numbers = {"limit": settings["limit"] or 0, "source.split_seed": settings["source"].get("split_seed", 0)}
    for name, number in numbers.items():
        yield f"settings.{name}: whether below 2^31", abs(number) < 2**31, True
    yield from _source_facts(content)
    needed = {
        "seed": encoder["kind"] == "tiny",
        "compile": encoder["device"] == "cuda",
        "forward": encoder["device"] == "cuda",
        "rotary": encoder["dtype"] != "float32",
    }
    for name, there in needed.items():
        yield f"settings.encoder: whether there is {name}", name in encoder, there
    for split, counts in content["counts"].items():
        yield f"counts: whether there is {split}", True, counts["samples"] > 0
    int8, shared = settings["latents"]["dtype"] == "int8", encoder["mode"] == "tubelet"
    for shard in content["shards"]:
        place = f"shard {shard['split']}/{shard['index']}: whether there is"
        yield f"{place} latents", "latents" in shard, shared
        yield f"{place} latents_error", "latents_error" in shard, int8
        for numbers in shard.get("latents_error", ()):
            yield f"{place[:-17]} latents_error", numbers, [float(f"{number:.9g}") for number in numbers]


def _source_facts(content: dict[str, Any]) -> Iterator[Fact]:
    """What settings.source decides: the rate of the frames, and how the splits were made."""
    source, description = content["settings"]["source"], content["settings"].get("description")
    kind = source["type"]
    if kind != "lerobot":  # its rate stands in info.json
        yield "fps", content["fps"], source.get("fps")
    if description is not None:
        yield "settings.description.type", description["type"], kind
    if description is not None and kind != "ssv2":
        official = {
            "lerobot": "info.json",
            "rlds": "dataset_info.json",
            "videos": source.get("split_column"),
            "libero": "mask of the files",
        }.get(kind)
        hashed = f"hash of the own id, val_share {source['val_share']}, split_seed {source['split_seed']}"
        found = description["splits_from"]
        yield "settings.description.splits_from", found, official if found == official else hashed


def _plan_facts(
    build: ClaimedBuild, content: dict[str, Any], plan: dict[str, Any], ledger: list[dict[str, Any]]
) -> Iterator[Fact]:
    """What plan.json tells that follows from other files."""
    for name in ("sizes", "views", "fps"):
        yield name, plan[name], content[name]
    yield from estimate_facts(build, plan["estimate"])
    left_out = plan["left_out"]
    places = [(e["split"], e["episode"], e["reason"], e["detail"]) for e in left_out]
    yield "left_out: its order", places, sorted(places)
    first = {(entry["split"], entry["episode"]): entry for entry in reversed(left_out)}
    known = {(entry["split"], entry["episode"]): entry for entry in ledger if entry["stage"] in ("index", "filter")}
    yield "left_out, of which the ledger tells", first, known


def _same(file: str, facts: Iterator[Fact], report: Report) -> None:
    for place, found, wanted in facts:
        report.check("L10")
        if found != wanted or type(found) is not type(wanted):
            report.found("L10", file, f"{place} is {found!r:.120}, must be {wanted!r:.120}")
