"""Something-Something-v2: real clips, and every way an entry can be wrong."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import BuildError, EpisodeError, RunError, SettingsError
from pipeline.sources.base import EpisodeRef
from pipeline.sources.registry import make_source
from pipeline.sources.ssv2 import VIDEO_FOLDER, SSv2Source
from tests.pipeline.sources.both_readers import raw_of, read_by_both
from tests.pipeline.spelled import read, write_spelled


def entry(clip: str, label: object = "pushing cup", **more: object) -> dict[str, Any]:
    return {"id": clip, "label": label, "template": "Pushing [something]", "placeholders": ["cup"], **more}


def make_root(
    root: Path, train: list[Any], val: list[Any], test: list[Any] | None, clips: dict[str, int]
) -> SSv2Source:
    """A dataset folder; `clips` gives the ids on disk and their lengths in frames."""
    (root / "labels").mkdir(parents=True)
    (root / VIDEO_FOLDER).mkdir()
    for name, rows in (("train", train), ("validation", val), ("test", test)):
        if rows is not None:
            (root / "labels" / f"{name}.json").write_text(json.dumps(rows))
    for clip, length in clips.items():
        write_spelled(root / VIDEO_FOLDER, "vp9.webm", range(length)).rename(root / VIDEO_FOLDER / f"{clip}.webm")
    return SSv2Source(root=str(root))


def test_real_folder(shared_data: Path) -> None:
    source = SSv2Source(root=str(shared_data / "ssv2"))
    index = source.index()
    assert (index.views, index.state_dim, index.action_dim, index.fps) == (("video",), 0, 0, None)
    assert index.left_out == ()
    assert index.description["episodes"] == {"train": 12, "val": 4, "test": 4}
    assert list(index.refs) == sorted(index.refs, key=lambda ref: (ref.split, ref.id))
    assert all(ref.num_frames is None for ref in index.refs)
    first = next(ref for ref in index.refs if ref.id == "ssv2-900001")
    assert first.data == {
        "instruction": "covering ball with cup",
        "template": "Covering [something] with [something]",
        "placeholders": ["ball", "cup"],
    }
    with source.open(first) as episode:
        assert episode.num_frames == 19
        assert episode.frames("video", [18, 0]).shape == (2, 240, 427, 3)
        assert episode.instruction(18) == "covering ball with cup"
        assert episode.state(0) is None
        assert episode.actions(0, 3) is None
        assert episode.timestamps([0, 12]).tolist() == pytest.approx([0, 1], abs=2e-3)


def test_every_real_clip_opens(shared_data: Path) -> None:
    source = SSv2Source(root=str(shared_data / "ssv2"))
    lengths = []
    for ref in source.index().refs:
        with source.open(ref) as episode:
            lengths.append(episode.num_frames)
    assert len(lengths) == 20
    assert (min(lengths), max(lengths)) == (17, 60)


def test_frames_are_the_clips_own(tmp_path: Path) -> None:
    source = make_root(tmp_path, [entry("1"), entry("2")], [], None, {"1": 9, "2": 5})
    opened = {ref.id: source.open(ref) for ref in source.index().refs}
    assert {name: episode.num_frames for name, episode in opened.items()} == {"ssv2-1": 9, "ssv2-2": 5}
    assert [read(frame) for frame in opened["ssv2-1"].frames("video", [8, 2])] == [8, 2]
    for episode in opened.values():
        episode.close()


def test_test_clips_have_no_label_even_if_the_file_holds_one(tmp_path: Path) -> None:
    source = make_root(tmp_path, [], [], [entry("1", "secret answer")], {"1": 3})
    (ref,) = source.index().refs
    assert ref.split == "test"
    assert "secret" not in json.dumps(dict(ref.data))
    with source.open(ref) as episode, pytest.raises(EpisodeError, match="no label") as caught:
        episode.instruction(0)
    assert caught.value.reason == "no-instruction"


def test_faults_leave_the_rest_alone(tmp_path: Path) -> None:
    train: list[Any] = [
        entry("1"),
        entry("2"),
        entry("2"),
        entry("3"),
        entry("4", ""),
        entry("5", None),
        entry("6"),
        {"label": "x"},
    ]
    train += ["text", entry("../7"), entry("8", "  \n")]
    clips = dict.fromkeys(("1", "2", "3", "4", "5", "8", "9"), 2)
    source = make_root(tmp_path, train, [entry("3"), entry("9")], None, clips)
    index = source.index()
    assert [(ref.id, ref.split) for ref in index.refs] == [("ssv2-1", "train"), ("ssv2-9", "val")]
    assert sorted((entry.episode, entry.split, entry.reason) for entry in index.left_out) == [
        ("ssv2-2", "train", "duplicate-id"),
        ("ssv2-2", "train", "duplicate-id"),
        ("ssv2-3", "train", "duplicate-id"),
        ("ssv2-3", "val", "duplicate-id"),
        ("ssv2-4", "train", "no-instruction"),
        ("ssv2-5", "train", "no-instruction"),
        ("ssv2-6", "train", "missing-file"),
        ("ssv2-8", "train", "no-instruction"),
        ("ssv2-unknown-entry_7_of_train_json", "train", "bad-entry"),
        ("ssv2-unknown-entry_8_of_train_json", "train", "bad-entry"),
        ("ssv2-unknown-entry_9_of_train_json", "train", "bad-entry"),
    ]
    assert all(entry.stage == "index" and entry.detail for entry in index.left_out)


def test_a_number_is_as_good_an_id_as_its_digits(tmp_path: Path) -> None:
    source = make_root(tmp_path, [{**entry("1"), "id": 1}], [entry("1")], None, {"1": 2})
    assert {entry.reason for entry in source.index().left_out} == {"duplicate-id"}


@pytest.mark.parametrize("damage", ["gone", "broken", "no list"])
def test_unreadable_labels_stop_the_run(tmp_path: Path, damage: str) -> None:
    source = make_root(tmp_path, [entry("1")], [], None, {"1": 2})
    path = tmp_path / "labels" / "validation.json"
    if damage == "gone":
        path.unlink()
    else:
        path.write_text("{" if damage == "broken" else "{}")
    with pytest.raises(RunError, match=r"validation\.json.*Set `root`"):
        source.index()


def test_missing_video_folder_stops_the_run(tmp_path: Path) -> None:
    source = make_root(tmp_path, [entry("1")], [], None, {})
    with pytest.raises(RunError, match=VIDEO_FOLDER):
        source.index()


def test_files_are_checked_again_when_opened(tmp_path: Path) -> None:
    source = make_root(tmp_path, [entry("1")], [], None, {"1": 4})
    (ref,) = source.index().refs
    path = tmp_path / ref.files[0][0]
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(EpisodeError) as caught:
        source.open(ref)
    assert caught.value.reason == "changed-file"
    shorter = EpisodeRef(ref.id, ref.split, ((ref.files[0][0], path.stat().st_size),), None, ref.data)
    path.write_bytes(b"\0" * path.stat().st_size)
    with pytest.raises(EpisodeError) as caught:
        source.open(shorter)
    assert caught.value.reason == "undecodable"


def test_unknown_view_is_a_bug_of_the_caller(tmp_path: Path) -> None:
    source = make_root(tmp_path, [entry("1")], [], None, {"1": 2})
    with (
        source.open(source.index().refs[0]) as episode,
        pytest.raises(ValueError, match="has the views video; 'wrist' was requested"),
    ):
        episode.frames("wrist", [0])


def test_source_and_index_can_be_sent_to_workers(tmp_path: Path) -> None:
    source = make_root(tmp_path, [entry("1")], [], None, {"1": 2})
    sent, ref = pickle.loads(pickle.dumps((source, source.index().refs[0])))
    with sent.open(ref) as episode:
        assert episode.num_frames == 2


def test_name_must_fit_into_keys(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="ss_v2"):
        make_source("ssv2", root=str(tmp_path), name="ss.v2")


def test_answers_of_test_clips_are_never_read(tmp_path: Path) -> None:
    """A clip with an answer is a test clip even if it stands in train.json as well."""
    source = make_root(tmp_path, [entry("1"), entry("2")], [], [{"id": "3"}], {"1": 2, "2": 2, "3": 2})
    answers = b"3;Pushing something\n2;Dropping \xff something\n"
    (tmp_path / "labels/test-answers.csv").write_bytes(answers)
    index = source.index()
    assert {ref.id: ref.split for ref in index.refs} == {"ssv2-1": "train", "ssv2-3": "test"}
    (clip,) = index.left_out
    assert (clip.episode, clip.reason) == ("ssv2-2", "test-clip")
    assert index.description["test_answers"] == 2
    assert "Dropping" not in repr(index)
    test = next(ref for ref in index.refs if ref.split == "test")
    with source.open(test) as episode, pytest.raises(EpisodeError, match="has no label"):
        episode.instruction(0)


@pytest.mark.parametrize("answers", ['"2";"Dropping a\x85b"\r\n"9\x0c1";x', "2,Dropping something\n"])
def test_answers_without_ids_are_refused_by_both_readers(tmp_path: Path, answers: str) -> None:
    source = make_root(tmp_path, [entry("1"), entry("2")], [], [], {"1": 2, "2": 2})
    (tmp_path / "labels/test-answers.csv").write_text(answers, newline="")
    with pytest.raises(RunError, match=r"is no id; expected a line `id;answer`"):
        source.index()
    with pytest.raises(BuildError, match="the clips of the test set are unknown"):
        raw_of(source)


def test_answers_in_quotes_are_those_of_test_clips(tmp_path: Path) -> None:
    source = make_root(tmp_path, [entry("1"), entry("2")], [], [], {"1": 2, "2": 2})
    (tmp_path / "labels/test-answers.csv").write_text('"2";"Dropping \u2028 something"\r\n', newline="")
    assert [ref.id for ref in source.index().refs] == ["ssv2-1"]
    assert (raw_of(source).split_of("ssv2-1"), raw_of(source).split_of("ssv2-2")) == ("train", "test")


def test_labels_that_are_not_their_template_filled_in_are_counted(tmp_path: Path) -> None:
    rows = [
        entry("1", "pushing cup"),
        entry("2", "pushing a cup"),
        entry("3", "pushing cup", placeholders=[]),
        entry("4", "Moving A and B", template="Moving [something] and [something in it]", placeholders=["a", "b"]),
    ]
    source = make_root(tmp_path, rows, [], None, {"1": 2, "2": 2, "3": 2, "4": 2})
    index = source.index()
    assert index.description["labels_unlike_template"] == 2
    assert next(ref for ref in index.refs if ref.id == "ssv2-4").data["placeholders"] == ["a", "b"]


def test_a_label_that_is_no_unicode_is_quarantined_alone(tmp_path: Path) -> None:
    source = make_root(tmp_path, [entry("1"), entry("2", "pushing XX")], [], None, {"1": 2, "2": 2})
    path = tmp_path / "labels/train.json"
    path.write_bytes(path.read_bytes().replace(b"XX", b"\xff\xfe"))
    index = source.index()
    assert [ref.id for ref in index.refs] == ["ssv2-1"]
    assert [entry.reason for entry in index.left_out] == ["no-instruction"]


def test_label_files_with_a_byte_order_mark(tmp_path: Path) -> None:
    source = make_root(tmp_path, [entry("1")], [entry("2")], None, {"1": 4, "2": 4})
    for name in ("train", "validation"):
        path = tmp_path / f"labels/{name}.json"
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert [(ref.id, ref.split) for ref in source.index().refs] == [("ssv2-1", "train"), ("ssv2-2", "val")]
    assert read_by_both(source, "ssv2-2")["texts"] == ["pushing cup"] * 4
