"""A few of the inputs of `make fuzz`, and those that once went wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.errors import BuildError
from pipeline.format.json.typed_json import from_json
from pipeline.sources.base import LedgerEntry
from pipeline.storage.atomic import FileRecord
from tests.fuzz.__main__ import describe, fuzz
from tests.fuzz.subject import Subject, try_one
from tests.fuzz.subjects import make_subjects

INPUTS = 300
SEEDS = (
    *(("unfinished", seed) for seed in (0, 10, 21, 22)),
    *(("checkpoint", seed) for seed in (1, 11, 100_004)),
    *(("run", 33), ("others", 39), ("others", 60), ("lerobot", 34), ("robot", 1047)),
    *(("run", 3_320_207), ("checkpoint", 3_320_169), ("lerobot", 3_320_288)),
)
"""Subject and seed of inputs that ended in a traceback or a page of text before."""


@pytest.fixture(scope="module")
def subjects(tmp_path_factory: pytest.TempPathFactory) -> list[Subject]:
    return make_subjects(tmp_path_factory.mktemp("given"))


def test_spoiled_files_end_in_one_line(subjects: list[Subject], tmp_path: Path) -> None:
    found = []
    for number in range(INPUTS):
        found += fuzz(subjects[number % len(subjects)], 100_000 + number // len(subjects), tmp_path)
    assert not found, describe(found)


def test_what_once_went_wrong_does_not_again(subjects: list[Subject], tmp_path: Path) -> None:
    by_name = {subject.name: subject for subject in subjects}
    found = [finding for name, seed in SEEDS for finding in fuzz(by_name[name], seed, tmp_path)]
    assert not found, describe(found)


def test_the_fuzzer_finds_readers_that_crash_accept_or_say_too_much(tmp_path: Path) -> None:
    (tmp_path / "given").mkdir()
    (tmp_path / "given" / "a.json").write_text('{"key": 1, "other": [1, 2]}')

    def crash(folder: Path) -> object:
        return {}["key"]

    def talk(folder: Path) -> object:
        raise BuildError("x" * 5000)

    readers = {"crash": crash, "talk": talk, "accept": lambda folder: None}
    subject = Subject("given", tmp_path / "given", ("*.json",), readers, None, ("*.json",), ("accept",))
    problems = {finding.reader: finding.problem for finding in try_one(subject, 1, tmp_path)}
    assert problems["crash"].startswith("KeyError at")
    assert problems["talk"].startswith("a message of 5000 characters")
    assert problems["accept"].startswith("accepted")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "must be an object"),
        ({"file": "a", "bytes": 1}, "lacks 'sha256'"),
        ({"file": "a", "bytes": 1, "sha256": "b", "more": 1}, "may not hold 'more'"),
        ({"file": "a", "bytes": True, "sha256": "b"}, r"\.bytes must be int, found True"),
        ({"file": None, "bytes": 1, "sha256": "b"}, r"\.file must be text"),
    ],
)
def test_an_object_must_be_what_its_class_says(content: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        from_json(FileRecord, content)


def test_an_object_that_fits_is_read_as_it_was_written() -> None:
    entry = LedgerEntry("ep", "train", "index", "missing-file", "gone")
    assert from_json(LedgerEntry, {**vars(entry), "windows": None}) == entry
