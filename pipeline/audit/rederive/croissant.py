"""croissant.json, derived a second time from what the audit has read of build.json (manifests/README.md).

The audit shares no code with the pipeline's generator. A file that differs in one byte is a finding, so nothing can be
hidden in it, and a change of the generator alone is noticed.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from pipeline.audit.build import ClaimedBuild
from pipeline.audit.entries import FileEntry
from pipeline.audit.files import BUILD, read_regular
from pipeline.format.columns import samples_schema
from pipeline.format.schema import SCHEMA_VERSION

_TERMS = (
    "arrayShape citeAs column containedIn equivalentProperty extract field fileObject fileProperty fileSet format"
    " includes isArray isLiveDataset jsonPath key md5 parentField path recordSet references regex repeated replace"
    " samplingRate separator source subField transform"
)
"""Words of the vocabulary whose long form is their own name."""

_CONTEXT = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "dct": "http://purl.org/dc/terms/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "sc": "https://schema.org/",
    "conformsTo": "dct:conformsTo",
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    **{name: {"@id": f"cr:{name}", "@type": "@json"} for name in ("data", "examples")},
    **{name: f"cr:{name}" for name in _TERMS.split()},
}

_SPLITS = {"train": "Training", "val": "Validation"}

_MEDIA_TYPES = {
    ".arrow": "application/vnd.apache.arrow.file",
    ".json": "application/json",
    ".jsonl": "application/jsonlines",
    ".parquet": "application/x-parquet",
    ".tar": "application/x-tar",
}

_DESCRIPTION = (
    "Training samples of {name} for a vision-language-action model: the student's inputs (current frame of"
    " {sizes.views} views at {sizes.image_size} px, instruction, state) in WebDataset tars, the supervision (V-JEPA2"
    " latents of {window.steps} future steps at interval {window.interval}, {sizes.tokens} tokens x {sizes.width}, and"
    " chunks of actions) in Arrow files. Samples: {counts}. Encoder mode {mode}: {kind}. {licence}"
)

_MEANINGS = {
    "key": "Name of the sample: members of the inputs tar and rows of the targets file carry it.",
    "split": "train or val.",
    "shard": "Number of the shard within its split.",
    "row": "Place within the shard.",
    "source": "Name of the source.",
    "episode": "The source video or robot trajectory.",
    "num_frames": "Frames of the episode.",
    "interval": "Source frames between two sampled frames.",
    "now": "Index of the frame that the student sees.",
    "state_frame": "Frame of the robot state; -1 without one.",
    "action_start": "Frame of the first action; -1 without actions.",
    "action_count": "Valid actions; the rest of the chunk is padding.",
    "now_s": "Time of the present frame in seconds.",
    "support_end_s": "Time of the last frame that each latent was computed from; NaN where masked.",
    "image_offset": "First byte of each view's JPEG in the inputs tar.",
    "image_size": "Bytes of each view's JPEG.",
    "json_offset": "First byte of the sample's JSON in the inputs tar.",
    "json_size": "Bytes of the sample's JSON.",
}
"""Columns of samples.parquet. Croissant can describe neither lists of lists (`supports`) nor bytes (digests)."""


def derive_croissant(build: ClaimedBuild) -> bytes:
    """The one content that croissant.json may have.

    Raises:
        KeyError, TypeError, ValueError: build.json lacks what the description is made of.
    """
    document = {
        "@context": dict(sorted(_CONTEXT.items())),
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.1",
        "name": build.name,
        "description": _description(build),
        "version": f"{SCHEMA_VERSION}.0.0",
        "identifier": build.fingerprint,
        "isLiveDataset": False,
        **_provenance(build.settings.get("dataset")),
        "distribution": list(_distribution(build)),
        "recordSet": [_splits(), _samples(build)],
    }
    return json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False).encode() + b"\n"


def _description(build: ClaimedBuild) -> str:
    dataset = build.settings.get("dataset")
    licence = "The licence is that of the source data; build.json does not hold it."
    if dataset:
        licence = f"Made from {dataset['title']}, version {dataset['version']}."
    return _DESCRIPTION.format(
        name=build.name,
        sizes=build.sizes,
        window=build.window,
        counts=", ".join(f"{split} {build.counts[split].samples}" for split in sorted(build.counts)),
        mode=build.settings["encoder"]["mode"],
        kind="stamped leaky, for comparison only" if build.leaky else "each latent from the frames up to its own end",
        licence=licence,
    )


def _provenance(dataset: Any) -> dict[str, str]:
    """Licence, publisher and citation as far as the dataset's manifest gives them."""
    terms = {"license": "licence", "url": "publisher", "citeAs": "citation"} if dataset else {}
    return {term: dataset[key] for term, key in terms.items() if dataset[key]}


def _distribution(build: ClaimedBuild) -> Iterator[dict[str, Any]]:
    own = FileEntry(BUILD, len(read_regular(build.root / BUILD)), build.sha256)
    yield _file(own, "Settings, fingerprint, and the SHA-256 of every other file.")
    for entry in sorted(build.files, key=lambda entry: entry.path):
        yield _file(entry)
    for shard in build.shards:
        for kind, file in zip(("Inputs", "Targets", "Latents"), shard.files, strict=False):
            yield _file(file, f"{kind} of {shard.samples} samples of split {shard.split}.")


def _file(entry: FileEntry, description: str = "") -> dict[str, Any]:
    return {
        **_node("FileObject", entry.path, entry.path),
        "contentUrl": entry.path,
        "contentSize": f"{entry.bytes} B",
        "encodingFormat": _MEDIA_TYPES[os.path.splitext(entry.path)[1]],
        "sha256": entry.sha256,
        **({"description": description} if description else {}),
    }


def _splits() -> dict[str, Any]:
    urls = {name: f"http://mlcommons.org/croissant/{kind}Split" for name, kind in _SPLITS.items()}
    return {
        **_node("RecordSet", "splits", "splits"),
        "dataType": "cr:Split",
        "key": {"@id": "splits/name"},
        "field": [
            {**_node("Field", "splits/name", "name"), "dataType": "sc:Text"},
            {**_node("Field", "splits/url", "url"), "dataType": "sc:URL"},
        ],
        "data": [{"splits/name": name, "splits/url": url} for name, url in urls.items()],
    }


def _samples(build: ClaimedBuild) -> dict[str, Any]:
    columns = samples_schema(build.sizes.views, build.sizes.steps)
    return {
        **_node("RecordSet", "samples", "samples"),
        "description": "One record a sample; frames of each step (`supports`) and digests are left to Parquet readers.",
        "key": {"@id": "samples/key"},
        "field": [_column(column) for column in columns if column.name in _MEANINGS],
    }


def _column(column: pa.Field) -> dict[str, Any]:
    """Type and length of a column are those of the Parquet file's own schema."""
    is_list = pa.types.is_fixed_size_list(column.type)
    kind = column.type.value_type if is_list else column.type
    number = "sc:Integer" if pa.types.is_integer(kind) else "sc:Float"
    return {
        **_node("Field", f"samples/{column.name}", column.name),
        "description": _MEANINGS[column.name],
        "dataType": "sc:Text" if pa.types.is_string(kind) else number,
        "source": {"fileObject": {"@id": "samples.parquet"}, "extract": {"column": column.name}},
        **({"isArray": True, "arrayShape": str(column.type.list_size)} if is_list else {}),
        **({"references": {"field": {"@id": "splits/name"}}} if column.name == "split" else {}),
    }


def _node(kind: str, identifier: str, name: str) -> dict[str, Any]:
    return {"@type": f"cr:{kind}", "@id": identifier, "name": name}
