"""Path templates of metadata that came from anybody: plain fields below the root, or refused, by both readers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipeline.audit.raw.base import RawError
from pipeline.audit.raw.templates import path_from
from pipeline.errors import RunError
from pipeline.sources.rlds.record import check_templates
from pipeline.sources.templates import fill_template
from tests.pipeline.sources.both_readers import raw_of
from tests.pipeline.sources.lerobot.test_lerobot import Dataset

VALUES = {"chunk": 3, "key": "observation.images.front"}

FILLED = {
    "data/{chunk}/{key}.mp4": "data/3/observation.images.front.mp4",
    "data/chunk-{chunk:03d}/a.parquet": "data/chunk-003/a.parquet",
    "{chunk:06}.mp4": "000003.mp4",
    "./data//{chunk:d}": "data/3",
}

REFUSED = [
    "/etc/passwd",
    "../../etc/{chunk}",
    "data/../../{key}",
    "{key.__class__.__mro__}",
    "{key[0]}",
    "{chunk:>4000000000}",
    "{chunk:4000000000d}",
    "{chunk:{chunk}}",
    "{chunk!r}",
    "{other}",
    "{}",
    "{0}",
    "{chunk",
    "{chunk:0.1f}",
    7,
]


@pytest.mark.parametrize("template", FILLED)
def test_plain_fields_are_filled_in(template: str) -> None:
    assert fill_template(template, VALUES, "info.json") == FILLED[template]
    assert str(path_from(template, VALUES)) == FILLED[template]


@pytest.mark.parametrize("template", REFUSED)
def test_everything_else_is_refused(template: object) -> None:
    with pytest.raises(RunError, match=r"info\.json: the path template .*expected a path below root with the fields"):
        fill_template(template, VALUES, "info.json")
    with pytest.raises(ValueError, match="template"):
        path_from(template, VALUES)


def test_a_value_does_not_lead_out_either() -> None:
    with pytest.raises(RunError, match="leads out"):
        fill_template("videos/{key}/a.mp4", {"key": "../../../etc"}, "info.json")
    with pytest.raises(ValueError, match="leads out"):
        path_from("videos/{key}/a.mp4", {"key": "../../../etc"})


@pytest.mark.parametrize("setting", ["data_path", "video_path"])
@pytest.mark.parametrize(
    "template", ["/etc/passwd", "../{episode_index}", "{episode_index:>4000000000}", "{video_key.format}"]
)
def test_a_dataset_with_such_a_template_is_refused(tmp_path: Path, setting: str, template: str) -> None:
    dataset = Dataset(tmp_path / "set").write()
    dataset.info[setting] = template
    (dataset.root / "meta/info.json").write_text(json.dumps(dataset.info))
    with pytest.raises(RunError, match=f"{setting}: the path template"):
        dataset.source().index()
    with pytest.raises(RawError, match="template"):
        _decode(dataset)


def _decode(dataset: Dataset) -> None:
    list(raw_of(dataset.source()).open("toy-000000").frames("front"))


@pytest.mark.parametrize("template", ["{DATASET.__class__}", "/etc/{SPLIT}", "../{SPLIT}", "{SPLIT:>4000000000}"])
def test_record_files_of_rlds(shared_data: Path, template: str) -> None:
    source = next((shared_data / "rlds/bridge_dataset").rglob("dataset_info.json"))
    content = json.loads(source.read_text())
    check_templates(content, str(source))
    content["splits"][0]["filepathTemplate"] = template
    with pytest.raises(RunError, match="filepathTemplate: the path template"):
        check_templates(content, "dataset_info.json")
