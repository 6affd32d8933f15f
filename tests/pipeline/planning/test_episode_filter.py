"""Files of episodes to leave out: what is read, what is refused, and what becomes of the index."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.errors import RunError, SettingsError
from pipeline.planning.episode_filter import EpisodeFilter, filter_bytes, filter_entry, read_filter
from pipeline.sources.base import EpisodeRef, LedgerEntry, SourceIndex

GOOD = '{"detail":"12 frames","episode":"a-1","reason":"frozen-camera","split":"train"}'


def _index() -> SourceIndex:
    refs = tuple(EpisodeRef(f"a-{i}", "val" if i == 3 else "train", (), 10) for i in range(4))
    bad = LedgerEntry("a-9", "train", "index", "missing-file", "")
    return SourceIndex("a", ("front",), 0, 0, None, refs, (bad,), {})


def test_what_is_written_is_read(tmp_path: Path) -> None:
    entries = [filter_entry("a-3", "val", "idle", "all of it"), filter_entry("a-1", "train", "frozen-camera", "")]
    path = tmp_path / "leave-out.jsonl"
    path.write_bytes(filter_bytes(entries))
    found = read_filter(path)
    assert found.entries == (entries[1], entries[0])
    content = found.content()
    assert content is not None
    assert {split: own["episodes"] for split, own in content.items()} == {"train": 1, "val": 1}


def test_the_order_of_the_lines_does_not_matter(tmp_path: Path) -> None:
    lines = filter_bytes([filter_entry(f"a-{i}", "train", "idle", "") for i in range(3)]).splitlines()
    (tmp_path / "one").write_bytes(b"\n".join(lines))
    (tmp_path / "other").write_bytes(b"\n\n".join(reversed(lines)) + b"\n")
    assert read_filter(tmp_path / "one").content() == read_filter(tmp_path / "other").content()


def test_without_lines_nothing_is_recorded(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    assert read_filter(tmp_path / "empty").content() is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a-1", "line 1 is no JSON"),
        ('{"episode": "a-1"}', "line 1 must be"),
        (GOOD.replace("train", "test"), "line 1 must be"),
        (GOOD.replace("frozen-camera", " "), "line 1 must be"),
        (GOOD.replace("12 frames", "\\u001b[2J"), "that are plainly visible"),
        (GOOD.replace("12 frames", "x" * 401), "up to 400 char"),
        (f"{GOOD}\n{GOOD}", "line 2: a-1 is named twice"),
    ],
)
def test_what_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "leave-out.jsonl"
    path.write_text(text)
    with pytest.raises(SettingsError, match=message):
        read_filter(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"source.leave_out=.*/none cannot be read: No such file"):
        read_filter(tmp_path / "none")


def test_the_index_has_the_others() -> None:
    entry = filter_entry("a-1", "train", "idle", "")
    left = EpisodeFilter((entry,), "f").apply(_index())
    assert [ref.id for ref in left.refs] == ["a-0", "a-2", "a-3"]
    assert left.left_out[1:] == (entry,)


@pytest.mark.parametrize(("episode", "split"), [("a-7", "train"), ("a-3", "train"), ("a-9", "train")])
def test_episodes_that_cannot_be_meant(episode: str, split: str) -> None:
    with pytest.raises(RunError, match=r"f: 1 of 1 episodes are not in the source, in another split, or left out"):
        EpisodeFilter((filter_entry(episode, split, "idle", ""),), "f").apply(_index())
