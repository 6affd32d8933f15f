"""The classes that features.json names: tensorflow-datasets would import, and so run, any module."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import RunError
from pipeline.sources.rlds.feature_classes import check_classes
from tests.pipeline.sources.rlds.test_rlds import BRIDGE, source_of

TENSOR = "tensorflow_datasets.core.features.tensor_feature.Tensor"
FOREIGN = "hostile_module.Feature"
SHAPE: dict[str, Any] = {"shape": {}, "dtype": "float32"}


def steps(content: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = content["featuresDict"]["features"]["steps"]
    return found


def named(content: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = steps(content)["sequence"]["feature"]["featuresDict"]["features"]
    return found


CHANGES: dict[str, Callable[[dict[str, Any]], object]] = {
    "root": lambda c: c.update(pythonClassName=FOREIGN),
    "steps": lambda c: steps(c).update(pythonClassName=FOREIGN),
    "field": lambda c: named(c).update(extra={"pythonClassName": FOREIGN, "tensor": SHAPE}),
    "metadata": lambda c: c["featuresDict"]["features"].update(m={"pythonClassName": FOREIGN, "text": {}}),
    "snake case": lambda c: named(c).update(extra={"python_class_name": FOREIGN, "tensor": SHAPE}),
    "both cases": lambda c: named(c).update(
        extra={"pythonClassName": TENSOR, "python_class_name": FOREIGN, "tensor": SHAPE}
    ),
    "old form": lambda c: (c.clear(), c.update(type=FOREIGN, content={})),
    "old form, inside": lambda c: named(c).update(extra={"type": FOREIGN, "content": {}}),
    "old form in a text": lambda c: named(c).update(
        extra={
            "pythonClassName": "tensorflow_datasets.core.features.features_dict.FeaturesDict",
            "jsonFeature": {"json": json.dumps({"x": {"type": FOREIGN, "content": {}}})},
        }
    ),
    "sequence": lambda c: named(c).update(
        extra={
            "pythonClassName": "tensorflow_datasets.core.features.sequence_feature.Sequence",
            "sequence": {"feature": {"pythonClassName": FOREIGN, "tensor": SHAPE}},
        }
    ),
    "in its own module's name": lambda c: named(c).update(
        extra={"pythonClassName": "tensorflow_datasets.core.features.hostile.Tensor", "tensor": SHAPE}
    ),
    "slash": lambda c: named(c).update({"../x": {"pythonClassName": TENSOR, "tensor": SHAPE}}),
}


def original(shared_data: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((shared_data / BRIDGE / "1.0.0/features.json").read_text())
    return content


@pytest.mark.parametrize("change", CHANGES)
def test_no_other_class_passes(shared_data: Path, change: str) -> None:
    content = original(shared_data)
    check_classes(content, "features.json")
    CHANGES[change](content)
    with pytest.raises(RunError, match=r"^features\.json: .*(prepare the set|rename it)"):
        check_classes(content, "features.json")


def test_depth_is_bounded() -> None:
    kind = "tensorflow_datasets.core.features.sequence_feature.Sequence"
    content: dict[str, Any] = {"pythonClassName": TENSOR, "tensor": SHAPE}
    for _ in range(400):
        content = {"pythonClassName": kind, "sequence": {"feature": content}}
    with pytest.raises(RunError, match="prepare the set again"):
        check_classes(content, "features.json")


def test_a_foreign_module_is_not_imported(shared_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "set" / "1.0.0"
    shutil.copytree(shared_data / BRIDGE / "1.0.0", root, ignore=shutil.ignore_patterns("*.tfrecord*"))
    (tmp_path / "hostile_module.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    content = original(shared_data)
    CHANGES["field"](content)
    (root / "features.json").write_text(json.dumps(content))
    with pytest.raises(
        RunError, match=r"extra has the class 'hostile_module\.Feature', which would be imported and run"
    ):
        source_of("bridge", root).index()
    assert "hostile_module" not in sys.modules
    assert not (tmp_path / "ran").exists()
