"""The card of a build: what build.json, the verdict and a run's held-out numbers say, for the Hub and for people."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from jobs.sharing.audit_status import AuditStatus
from jobs.sharing.cards.licences import short_name
from jobs.sharing.cards.markdown import code, code_block, front_matter
from pipeline.format.build import Build

FOLDER = "build"
"""Where the build lies beside its card."""

_SIZES = (
    (1e3, "n<1K"),
    (1e4, "1K<n<10K"),
    (1e5, "10K<n<100K"),
    (1e6, "100K<n<1M"),
    (1e7, "1M<n<10M"),
    (1e8, "10M<n<100M"),
)
"""Samples below which the Hub's name of a size holds."""
_LARGEST_SIZE = "n>100M"


def dataset_card(
    build: Build, sha256: str, status: AuditStatus, results: Sequence[str], address: str, licence: str | None
) -> str:
    """README.md of a build.

    Args:
        sha256: of its build.json.
        results: lines about held-out numbers, in Markdown.
        address: of the place, for the lines to type.
        licence: for the header; None: that of the dataset.
    """
    parts = [
        front_matter(_header(build, licence)),
        f"# {code(build.name)}",
        "",
        *_what(build),
        "## Audit",
        *status.lines,
        "",
        *_reading(address),
        *_licence(build),
        *results,
        "## Identity",
        f"- fingerprint: `{build.fingerprint}`",
        f"- SHA-256 of `build.json`, which lists that of every other file: `{sha256}`",
        f"- every file and column for catalogues: [`croissant.json`]({FOLDER}/croissant.json)",
        "",
    ]
    return "\n".join(parts)


def _header(build: Build, licence: str | None) -> dict[str, object]:
    samples = sum(count["samples"] for count in build.manifest["counts"].values())
    splits = [
        {"split": split, "path": f"{FOLDER}/{split}/inputs-*.tar"}
        for split, count in sorted(build.manifest["counts"].items())
        if count["shards"]
    ]
    return {
        "pretty_name": build.name,
        "license": licence or short_name(_facts(build).get("licence", "")),
        "task_categories": ["robotics"],
        "tags": ["vla-jepa", "v-jepa2", "webdataset", "robotics" if build.has_actions else "video"],
        "size_categories": [next((name for most, name in _SIZES if samples < most), _LARGEST_SIZE)],
        "configs": [{"config_name": "default", "data_files": splits}],
    }


def _what(build: Build) -> list[str]:
    sizes, settings, encoder = build.sizes, build.settings, build.settings.encoder
    window, facts, identity = settings.window, _facts(build), settings.content["encoder"]
    made_from = f"{code(facts['title'])}, version {code(facts['version'])}" if facts else code(settings.source_name)
    vectors = f"state of {sizes.state} channels; chunks of {sizes.chunk} actions of {sizes.action} channels"
    weights = f", weights with SHA-256 {code(identity.get('weights_sha256', ''))}"
    leaky = ["**Stamped leaky**: its latents show the future to the context; it is for comparison only.", ""]
    return [
        "Training samples for a vision-language-action model in the manner of VLA-JEPA. The student's inputs (the "
        "current frame, an instruction, the state) lie in WebDataset tars, the supervision (latents of future frames, "
        "actions) in Arrow files of their own.",
        "",
        *(leaky if build.manifest["leaky"] else []),
        "## What it is",
        f"- made from: {made_from}, read as {code(settings.content['source'].get('type', settings.source_name))}",
        f"- inputs: current frame of {', '.join(map(code, build.views))}, {sizes.image_size} pixels square",
        f"- {vectors if build.has_actions else 'no state and no actions (human video)'}",
        f"- window: {window.steps} future steps, {window.interval} source frames apart"
        + (f", {build.manifest['fps']:g} frames a second" if build.manifest["fps"] else ""),
        f"- encoder: {code(identity.get('kind', ''))} in mode `{encoder.mode.value}`, {encoder.layers} layers, "
        f"{sizes.tokens} tokens x {sizes.width}{weights}",
        f"- latents: stored as `{build.latents.value}`"
        + (", each tubelet's once for all windows that share it" if build.shares_latents else ""),
        "",
        "| split | samples | episodes | shards |",
        "|---|---:|---:|---:|",
        *(
            f"| {split} | {count['samples']:,} | {count['episodes']:,} | {count['shards']:,} |"
            for split, count in sorted(build.manifest["counts"].items())
        ),
        "",
    ]


def _reading(address: str) -> list[str]:
    name = address.removeprefix("hf://datasets/")
    if name == address:
        lines = [shlex.join(["vlajepa", word, f"{address}/{FOLDER}"]) for word in ("verify", "audit")]
    else:
        fetch = f"hf download {name} --repo-type dataset --local-dir {name.split('/')[1]}"
        folder = f"{name.split('/')[1]}/{FOLDER}"
        lines = [fetch, f"vlajepa verify {folder}", f"vlajepa audit {folder}"]
    return ["## Reading it", f"The build is the folder `{FOLDER}`.", "```", *lines, "```", ""]


def _licence(build: Build) -> list[str]:
    facts, lines = _facts(build), ["## Licence and citation"]
    if not facts:
        return [*lines, "The licence is that of the source data; `build.json` does not hold it.", ""]
    lines.append(f"The source data: {code(facts['licence'])}, published by {code(facts['publisher'])}.")
    if facts["citation"]:
        lines += ["", code_block(facts["citation"])]
    return [*lines, ""]


def _facts(build: Build) -> dict[str, str]:
    """The manifest's facts about the dataset as texts, whatever lies there; empty where there are none."""
    found = build.settings.content.get("dataset")
    names = ("title", "version", "licence", "publisher", "citation")
    return {name: str(found.get(name, "")) for name in names} if isinstance(found, dict) else {}
