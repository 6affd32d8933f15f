"""A folder of videos with a list of texts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.audit.raw.base import RawError
from pipeline.errors import EpisodeError, RunError, SettingsError
from pipeline.sources.registry import make_source
from pipeline.sources.videos import VideoFolderSource
from tests.pipeline.sources.both_readers import raw_of
from tests.pipeline.spelled import read, write_spelled


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name, numbers in (("a.webm", range(4)), ("day 1/b.webm", range(10, 15)), ("c.webm", range(20, 23))):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        write_spelled(path.parent, "vp9.webm", numbers).rename(path)
    return tmp_path


def source(root: Path, **settings: Any) -> VideoFolderSource:
    return VideoFolderSource(root=str(root), name="kitchen", **settings)


def test_csv(root: Path) -> None:
    (root / "texts.csv").write_text('\ufeffvideo,text\na.webm,"cut, then stir"\nday 1/b.webm, pour \n', "utf-8")
    index = source(root, val_share=0.0).index()
    assert (index.views, index.state_dim, index.action_dim) == (("video",), 0, 0)
    assert [ref.split for ref in index.refs] == ["train", "train"]
    assert len({ref.id for ref in index.refs}) == 2
    texts = {}
    for ref in index.refs:
        with source(root).open(ref) as episode:
            assert episode.state(0) is None
            assert episode.actions(0, 1) is None
            texts[episode.instruction(0)] = [read(frame) for frame in episode.frames("video", [episode.num_frames - 1])]
    assert texts == {"cut, then stir": [3], "pour": [14]}


def test_json_with_other_names_and_splits(root: Path) -> None:
    rows = [
        {"file": "a.webm", "caption": "cut", "set": "train"},
        {"file": "day 1/b.webm", "caption": "pour", "set": "validation"},
        {"file": "c.webm", "set": "test"},
    ]
    (root / "list.json").write_text(json.dumps(rows))
    settings = {"texts": "list.json", "video_column": "file", "text_column": "caption", "split_column": "set"}
    index = source(root, **settings).index()
    assert sorted(ref.split for ref in index.refs) == ["test", "train", "val"]
    test = next(ref for ref in index.refs if ref.split == "test")
    with source(root, **settings).open(test) as episode, pytest.raises(EpisodeError, match="has no label"):
        episode.instruction(0)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("a.webm,", "no-instruction"),
        ("a.webm,   ", "no-instruction"),
        ("none.webm,cut", "missing-file"),
        (",cut", "bad-entry"),
        ("../a.webm,cut", "bad-entry"),
        ("/etc/passwd,cut", "bad-entry"),
        ("./c.webm,again", "duplicate-id"),
    ],
)
def test_entries_that_cannot_be_used(root: Path, line: str, reason: str) -> None:
    (root / "texts.csv").write_text(f"video,text\nc.webm,stir\nday 1/b.webm,pour\n{line}\n")
    index = source(root).index()
    assert {entry.reason for entry in index.left_out} == {reason}
    assert all("texts.csv" in entry.detail for entry in index.left_out)
    assert len(index.refs) == (1 if reason == "duplicate-id" else 2)


def test_a_text_that_is_no_unicode_is_quarantined_alone(root: Path) -> None:
    (root / "texts.csv").write_bytes(b"video,text\na.webm,caf\xe9\nc.webm,stir\n")
    index = source(root).index()
    assert [ref.id for ref in index.refs] == ["kitchen-c"]
    assert [entry.reason for entry in index.left_out] == ["no-instruction"]


def test_an_unknown_split(root: Path) -> None:
    (root / "texts.csv").write_text("video,text,split\na.webm,cut,most\n")
    (entry,) = source(root, split_column="split").index().left_out
    assert (entry.reason, entry.split) == ("bad-entry", "train")


def test_lists_that_are_none(root: Path) -> None:
    with pytest.raises(RunError, match=r"texts\.csv.*Set source"):
        source(root).index()
    (root / "texts.csv").write_text("path,text\na.webm,cut\n")
    with pytest.raises(RunError, match="has no column video; it has path, text"):
        source(root).index()
    (root / "texts.json").write_text("{}")
    with pytest.raises(RunError, match="expected a list of objects"):
        source(root, texts="texts.json").index()
    with pytest.raises(SettingsError, match="val_share must be"):
        make_source("videos", root=str(root), name="kitchen", val_share=1.5)


def test_a_film_whose_edit_list_shows_nothing_is_damage_for_both_readers(tmp_path: Path) -> None:
    path = write_spelled(tmp_path, "h264.mp4", range(8))
    content = bytearray(path.read_bytes())
    at = content.index(b"elst") + 12  # after version and number of entries: the duration of the first one
    content[at : at + 4] = bytes(4)
    path.write_bytes(content)
    (tmp_path / "texts.csv").write_text(f"video,text\n{path.name},cut\n")
    (ref,) = source(tmp_path, val_share=0.0).index().refs
    with pytest.raises(EpisodeError, match="undecodable"), source(tmp_path).open(ref):
        pass
    with pytest.raises(RawError, match="shows no frame"):
        list(raw_of(source(tmp_path, val_share=0.0)).open(ref.id).frames("video"))
