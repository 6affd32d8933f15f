"""`croissant.json`: what a build holds, in the vocabulary that catalogues read (mlcommons.org/croissant/1.1).

A pure function of build.json's bytes, so that the audit can derive it again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

from pipeline.format.file_names import SHARD_FILES

_TERMS = (
    "arrayShape citeAs column containedIn equivalentProperty extract field fileObject fileProperty fileSet format "
    "includes isArray isLiveDataset jsonPath key md5 parentField path recordSet references regex repeated replace "
    "samplingRate separator source subField transform"
)
"""Terms of Croissant's own vocabulary."""

_CONTEXT: Mapping[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "rai": "http://mlcommons.org/croissant/RAI/",
    "sc": "https://schema.org/",
    **{term: f"cr:{term}" for term in _TERMS.split()},
}

_FORMATS = {
    ".json": "application/json",
    ".jsonl": "application/jsonlines",
    ".parquet": "application/x-parquet",
    ".tar": "application/x-tar",
    ".arrow": "application/vnd.apache.arrow.file",
}

_TEXT, _INT, _FLOAT = "sc:Text", "sc:Integer", "sc:Float"

_COLUMNS: tuple[tuple[str, str, str, str], ...] = (
    ("key", _TEXT, "", "Name of the sample: members of the inputs tar and rows of the targets file carry it."),
    ("split", _TEXT, "", "train or val."),
    ("shard", _INT, "", "Number of the shard within its split."),
    ("row", _INT, "", "Place within the shard."),
    ("source", _TEXT, "", "Name of the source."),
    ("episode", _TEXT, "", "The source video or robot trajectory."),
    ("num_frames", _INT, "", "Frames of the episode."),
    ("interval", _INT, "", "Source frames between two sampled frames."),
    ("now", _INT, "", "Index of the frame that the student sees."),
    ("state_frame", _INT, "", "Frame of the robot state; -1 without one."),
    ("action_start", _INT, "", "Frame of the first action; -1 without actions."),
    ("action_count", _INT, "", "Valid actions; the rest of the chunk is padding."),
    ("now_s", _FLOAT, "", "Time of the present frame in seconds."),
    ("support_end_s", _FLOAT, "steps", "Time of the last frame that each latent was computed from; NaN where masked."),
    ("image_offset", _INT, "views", "First byte of each view's JPEG in the inputs tar."),
    ("image_size", _INT, "views", "Bytes of each view's JPEG."),
    ("json_offset", _INT, "", "First byte of the sample's JSON in the inputs tar."),
    ("json_size", _INT, "", "Bytes of the sample's JSON."),
)
"""(column of samples.parquet, type, length of a list or "", meaning)."""


def croissant_bytes(build_json: bytes) -> bytes:
    """The content of croissant.json.

    Args:
        build_json: the bytes of a finished build's build.json.

    Raises:
        KeyError, TypeError, ValueError: these are not the bytes of a build.json.
    """
    build = json.loads(build_json)
    document = {
        "@context": dict(sorted(_CONTEXT.items())),
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.1",
        "name": build["name"],
        "description": _description(build),
        "version": f"{build['schema_version']}.0.0",
        "identifier": build["fingerprint"],
        "isLiveDataset": False,
        **_facts(build),
        "distribution": list(_distribution(build, build_json)),
        "recordSet": [_splits(), _samples(build)],
    }
    return (json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()


def _facts(build: Mapping[str, Any]) -> dict[str, str]:
    """Licence, source and citation, where the build was made by a manifest."""
    facts = build["settings"].get("dataset")
    if not facts:
        return {}
    known = {"license": facts["licence"], "url": facts["publisher"], "citeAs": facts["citation"]}
    return {name: text for name, text in known.items() if text}


def _description(build: Mapping[str, Any]) -> str:
    sizes, window, encoder = build["sizes"], build["settings"]["window"], build["settings"]["encoder"]
    counts = ", ".join(f"{split} {count['samples']}" for split, count in sorted(build["counts"].items()))
    dataset = build["settings"].get("dataset")
    licence = (
        f"Made from {dataset['title']}, version {dataset['version']}."
        if dataset
        else "The licence is that of the source data; build.json does not hold it."
    )
    kind = "stamped leaky, for comparison only" if build["leaky"] else "each latent from the frames up to its own end"
    return (
        f"Training samples of {build['name']} for a vision-language-action model: the student's inputs (current frame "
        f"of {sizes['views']} views at {sizes['image_size']} px, instruction, state) in WebDataset tars, the "
        f"supervision (V-JEPA2 latents of {window['steps']} future steps at interval {window['interval']}, "
        f"{sizes['tokens']} tokens x {sizes['width']}, and chunks of actions) in Arrow files. Samples: {counts}. "
        f"Encoder mode {encoder['mode']}: {kind}. {licence}"
    )


def _distribution(build: Mapping[str, Any], build_json: bytes) -> Iterator[dict[str, Any]]:
    digest = hashlib.sha256(build_json).hexdigest()
    yield _file("build.json", len(build_json), digest, "Settings, fingerprint, and the SHA-256 of every other file.")
    for name, record in sorted(build["files"].items()):
        yield _file(name, record["bytes"], record["sha256"], "")
    for shard in build["shards"]:
        place = f"{shard['samples']} samples of split {shard['split']}"
        for kind in (kind for kind in SHARD_FILES if kind in shard):
            record = shard[kind]
            yield _file(record["file"], record["bytes"], record["sha256"], f"{kind.capitalize()} of {place}.")


def _file(path: str, size: int, sha256: str, description: str) -> dict[str, Any]:
    entry = {
        "@type": "cr:FileObject",
        "@id": path,
        "name": path,
        "contentUrl": path,
        "contentSize": f"{size} B",
        "encodingFormat": _FORMATS[path[path.rindex(".") :]],
        "sha256": sha256,
    }
    return entry | ({"description": description} if description else {})


def _splits() -> dict[str, Any]:
    return {
        "@type": "cr:RecordSet",
        "@id": "splits",
        "name": "splits",
        "dataType": "cr:Split",
        "key": {"@id": "splits/name"},
        "field": [
            {"@type": "cr:Field", "@id": "splits/name", "name": "name", "dataType": _TEXT},
            {"@type": "cr:Field", "@id": "splits/url", "name": "url", "dataType": "sc:URL"},
        ],
        "data": [
            {"splits/name": "train", "splits/url": "http://mlcommons.org/croissant/TrainingSplit"},
            {"splits/name": "val", "splits/url": "http://mlcommons.org/croissant/ValidationSplit"},
        ],
    }


def _samples(build: Mapping[str, Any]) -> dict[str, Any]:
    lengths = {"steps": build["sizes"]["steps"] + 1, "views": build["sizes"]["views"]}
    return {
        "@type": "cr:RecordSet",
        "@id": "samples",
        "name": "samples",
        "description": "One record a sample; frames of each step (`supports`) and digests are left to Parquet readers.",
        "key": {"@id": "samples/key"},
        "field": [_field(*column, lengths) for column in _COLUMNS],
    }


def _field(name: str, kind: str, length: str, description: str, lengths: Mapping[str, int]) -> dict[str, Any]:
    field: dict[str, Any] = {
        "@type": "cr:Field",
        "@id": f"samples/{name}",
        "name": name,
        "description": description,
        "dataType": kind,
        "source": {"fileObject": {"@id": "samples.parquet"}, "extract": {"column": name}},
    }
    if length:
        field |= {"isArray": True, "arrayShape": str(lengths[length])}
    if name == "split":
        field["references"] = {"field": {"@id": "splits/name"}}
    return field
