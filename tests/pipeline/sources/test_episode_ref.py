"""An episode of an index: what is given comes back, and its JSON is canonical, whatever of it is shared."""

from __future__ import annotations

import json
import pickle
import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.sources.base import EpisodeRef, SharedData
from tests.benchmarks.large_index import EPISODES

_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
_DATA = st.dictionaries(st.text(max_size=5) | st.sampled_from(["%", "%b", '"', "\n", "id"]), _VALUES, max_size=4)
_FILES = st.lists(st.tuples(st.text(max_size=8), st.integers(0, 2**40)), max_size=3).map(tuple)


@given(
    st.text(max_size=8),
    st.sampled_from(["train", "val", "50%", 'te"st']),
    _FILES,
    st.none() | st.integers(1, 10**6),
    _DATA,
    _DATA,
    st.lists(st.text("0123456789abcdef", min_size=4, max_size=4), max_size=2).map(tuple),
)
def test_what_is_given_comes_back(
    name: str,
    split: str,
    files: tuple[tuple[str, int], ...],
    frames: int | None,
    own: dict[str, Any],
    shared: dict[str, Any],
    sha256: tuple[str, ...],
) -> None:
    ref = EpisodeRef(name, split, files, frames, own, sha256, SharedData(shared))
    data = {**shared, **own}
    assert (ref.id, ref.split, ref.files, ref.num_frames, ref.sha256) == (name, split, files, frames, sha256)
    assert ref.data == data
    content = {"id": name, "split": split, "files": files, "num_frames": frames, "data": data}
    content |= {"sha256": sha256} if sha256 else {}
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert ref.text() == canonical.encode()
    assert ref.content() == json.loads(canonical)
    assert ref == EpisodeRef(name, split, files, frames, data, sha256)
    assert pickle.loads(pickle.dumps(ref)) == ref
    assert ref.hashed(("ab",)) == EpisodeRef(name, split, files, frames, data, ("ab",))
    assert ref.hashed(()).sha256 == ()


def test_every_part_tells_episodes_apart() -> None:
    parts: dict[str, Any] = {"id": "a", "split": "val", "files": (("f", 1),), "num_frames": 3, "data": {"x": 1}}
    others = {"id": "b", "split": "train", "files": (("f", 2),), "num_frames": None, "data": {"x": 2}, "sha256": ("0",)}
    for name, other in others.items():
        assert EpisodeRef(**parts) != EpisodeRef(**{**parts, name: other})
    assert EpisodeRef(**parts) == EpisodeRef(**parts)
    assert EpisodeRef(**parts) != parts


def test_a_name_that_is_not_unicode_can_be_listed_and_not_planned() -> None:
    ref = EpisodeRef("a", "train", (("clips/\udcff.webm", 1),), None)
    assert ref.files == (("clips/\udcff.webm", 1),)
    assert "clips/" in repr(ref)
    with pytest.raises(ValueError, match="codec can't decode"):
        ref.text()


@pytest.mark.parametrize(("kind", "most"), [("ssv2", 640), ("lerobot", 900)])
def test_an_episode_takes_few_bytes(kind: str, most: int) -> None:
    """A million of robot episodes took 1.8 GiB as objects."""
    make, count = EPISODES[kind], 2000
    make(0)
    tracemalloc.start()
    try:
        refs = [make(number) for number in range(count)]
        taken = tracemalloc.get_traced_memory()[0] / count
    finally:
        tracemalloc.stop()
    assert len(refs) == count
    assert taken < most
