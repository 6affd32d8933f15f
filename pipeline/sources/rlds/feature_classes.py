"""features.json of an RLDS dataset, before tensorflow-datasets sees it.

The library imports whatever Python module a feature's class is named in, which runs that module. Only its own classes
of numbers, texts, images and their containers pass.
"""

from __future__ import annotations

from typing import Any

from pipeline.errors import RunError
from pipeline.format.text.printable import printable

FEATURES_FILE = "features.json"
_MODULES = "tensorflow_datasets.core.features."
CLASSES = frozenset(
    _MODULES + name
    for name in (
        "bounding_boxes.BBoxFeature",
        "class_label_feature.ClassLabel",
        "dataset_feature.Dataset",
        "features_dict.FeaturesDict",
        "image_feature.Image",
        "scalar.Scalar",
        "sequence_feature.Sequence",
        "tensor_feature.Tensor",
        "text_feature.Text",
    )
)
_OWN = frozenset({"pythonClassName", "description", "valueRange"})
_LEAVES = frozenset({"boundingBox", "classLabel", "image", "tensor", "text"})
DEEPEST = 50
"""Features inside each other."""


def check_classes(content: Any, path: str) -> None:
    """Check every feature, at any depth.

    Args:
        content: of features.json, parsed.
        path: of the file, for messages.

    Raises:
        RunError: a class is none of `CLASSES`, or the file is not what tensorflow-datasets 4.5 and later write.
    """
    _check(content, path, "the dataset", 0)


def _check(feature: Any, path: str, name: str, depth: int) -> None:
    where = f"{path}: {printable(name)[-200:]}"
    if not isinstance(feature, dict) or not isinstance(feature.get("pythonClassName"), str) or depth > DEEPEST:
        raise RunError(f"{where} is no feature as tensorflow-datasets 4.5 and later write them; prepare the set again")
    kind = feature["pythonClassName"]
    if kind not in CLASSES:
        raise RunError(
            f"{where} has the class {printable(kind)[:200]!r}, which would be imported and run; allowed are "
            f"{', '.join(sorted(known.rpartition('.')[2] for known in CLASSES))} of tensorflow-datasets: prepare the "
            "set without this field"
        )
    for key in feature.keys() - _OWN - _LEAVES:
        content = feature[key]
        if key == "featuresDict" and isinstance(content, dict) and content.keys() <= {"features"}:
            _check_named(content.get("features", {}), path, name, depth)
        elif key == "sequence" and isinstance(content, dict) and content.keys() <= {"feature", "length"}:
            _check(content.get("feature"), path, name, depth + 1)
        else:
            raise RunError(
                f"{where} has the content {printable(key)[:200]!r}, which is not read; prepare the set again"
            )


def _check_named(features: Any, path: str, name: str, depth: int) -> None:
    if not isinstance(features, dict):
        raise RunError(f"{path}: {printable(name)[-200:]} has no features by name; prepare the set again")
    for key, feature in features.items():
        if "/" in key:  # a path of a feature could not be told from it, and file names are made of it
            raise RunError(f"{path}: the feature {printable(key)[:200]!r} has a slash in its name; rename it")
        _check(feature, path, f"{name}, {key}" if depth else key, depth + 1)
